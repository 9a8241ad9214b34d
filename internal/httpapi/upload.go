package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"time"
	"unicode/utf8"

	"github.com/postcard-mms/postcard/internal/csvrows"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const (
	maxUpload  = 64 << 20 // bytes
	uploadTime = 2 * time.Minute
)

// upload is the body of a batch, in a file: it is read twice, and no transaction
// waits for a slow client.
type upload struct {
	file  *os.File
	csv   bool
	query url.Values // for CSV
	hash  string     // of the body, in hex
}

// readUpload receives the body to its end.
func readUpload(q Request) (*upload, error) {
	declared, _, _ := mime.ParseMediaType(q.r.Header.Get("Content-Type"))
	if declared != mediaType && declared != "text/csv" {
		return nil, newProblem(http.StatusUnsupportedMediaType, "The body must be JSON or CSV in UTF-8, and declared as such: Content-Type: application/json or text/csv.")
	}
	query, err := queryOf(q.r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	control := http.NewResponseController(q.w)
	if err := errors.Join(control.SetReadDeadline(time.Now().Add(uploadTime)), extendWriteDeadline(q.w, 2*uploadTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("allowing a long upload: %w", err)
	}
	file, err := os.CreateTemp("", "postcard-batch-")
	if err != nil {
		return nil, fmt.Errorf("keeping a batch: %w", err)
	}
	u := &upload{file: file, csv: declared == "text/csv", query: query}
	if err := os.Remove(file.Name()); err != nil { // it lives as long as it is open
		return nil, errors.Join(fmt.Errorf("keeping a batch: %w", err), file.Close())
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(file, hash), http.MaxBytesReader(q.w, q.r.Body, maxUpload))
	u.hash = hex.EncodeToString(hash.Sum(nil))
	if err == nil {
		return u, nil
	}
	var tooLarge *http.MaxBytesError
	var disk *os.PathError
	switch {
	case errors.As(err, &tooLarge):
		err = newProblem(http.StatusRequestEntityTooLarge, "The body is larger than 64 MiB. Split the batch.")
	case errors.As(err, &disk):
		err = fmt.Errorf("keeping a batch: %w", err)
	default:
		err = invalidBody("read", "could not be read to its end")
	}
	return nil, errors.Join(err, file.Close())
}

// Close drops the file.
func (u *upload) Close() { _ = u.file.Close() } // it has no name any more: nothing is left

// open reads what the rows have in common, and finds where they begin.
func (u *upload) open() (BatchRequest, intake.Rows, error) {
	var body BatchRequest
	if u.csv {
		common, err := queryAsObject(u.query)
		if err != nil {
			return body, nil, err
		}
		if err := decodeObject(common, &body); err != nil {
			return body, nil, err
		}
		if _, err := u.file.Seek(0, io.SeekStart); err != nil {
			return body, nil, fmt.Errorf("reading a batch again: %w", err)
		}
		csv, err := csvrows.NewCSV(u.file)
		return body, csv, err
	}
	var faults invalid.Fields
	checkNames(u.query, nil, &faults)
	if err := faults.Err(); err != nil {
		return body, nil, err
	}
	common, err := u.common()
	if err != nil {
		return body, nil, err
	}
	if err := decodeObject(common, &body); err != nil {
		return body, nil, err
	}
	list, err := u.jsonRows()
	return body, list, err
}

// queryAsObject writes a query as the JSON object that it stands for.
func queryAsObject(query url.Values) ([]byte, error) {
	object := map[string]any{}
	metadata := map[string]string{}
	var faults invalid.Fields
	for name, values := range query {
		key, isMetadata := metadataKey(name)
		switch {
		case isMetadata:
			metadata[key] = values[0]
			object["metadata"] = metadata
		case name == "mediaUrls":
			object[name] = values
		case name == "rows":
			faults.Add(name, "unknown", "stand in the body")
		case len(values) > 1:
			faults.Add(clip(name), "duplicate", "is given more than once")
		case name == "validFor" && json.Valid([]byte(values[0])):
			object[name] = json.RawMessage(values[0])
		default:
			object[name] = values[0]
		}
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("writing a query as JSON: %w", err)
	}
	return text, nil
}

// decoder reads the file from its start, no more than rows.MaxRow bytes for one value.
func (u *upload) decoder() (*json.Decoder, *csvrows.Meter, error) {
	m, err := u.meter()
	return json.NewDecoder(m), m, err
}

func (u *upload) meter() (*csvrows.Meter, error) {
	if _, err := u.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("reading a batch again: %w", err)
	}
	return csvrows.NewMeter(u.file), nil
}

// common is the body's object without its rows.
func (u *upload) common() ([]byte, error) {
	d, m, err := u.decoder()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteByte('{')
	seen := false
	err = eachMember(d, func(name string) error {
		if name == "rows" {
			if seen {
				return invalid.Fields{{Name: "rows", Rule: "duplicate", Message: "are given more than once"}}
			}
			seen = true
			return skipRows(d, m)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return err
		}
		m.Reset()
		if out.Len()+len(raw) > maxBody {
			return invalidBody("max_length", "has more than 64 KiB beside its rows")
		}
		key, _ := json.Marshal(name) // a string can always be written
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		out.Write(key)
		out.WriteByte(':')
		out.Write(raw)
		return nil
	})
	switch {
	case err != nil:
		return nil, invalidJSON(d, err)
	case !seen:
		return nil, invalid.Fields{{Name: "rows", Rule: "required", Message: "are missing: a list of objects, each with the recipient as to"}}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// eachMember walks over an object to the end of the input.
func eachMember(d *json.Decoder, member func(name string) error) error {
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return errors.Join(err, invalidBody("object", "must be a JSON object"))
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // in an object nothing else can stand here
		if err := member(name); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalidBody("json", "must be one JSON object and nothing behind it")
	}
	return nil
}

// skipRows reads over the list of rows: that it is a list, and valid JSON.
func skipRows(d *json.Decoder, m *csvrows.Meter) error {
	m.Reset()
	if token, err := d.Token(); err != nil || token != json.Delim('[') {
		return errors.Join(err, invalid.Fields{{Name: "rows", Rule: "type", Message: "must be a list of objects"}})
	}
	for n := 0; d.More(); n++ {
		if n >= mms.MaxRows {
			return invalid.Fields{{Name: "rows", Rule: "max_items", Message: fmt.Sprintf("must be at most %d", mms.MaxRows)}}
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return err
		}
		m.Reset()
	}
	_, err := d.Token() // the closing bracket
	return err
}

// invalidJSON is what is wrong with a body that a decoder stumbled over.
func invalidJSON(d *json.Decoder, err error) error {
	var fields invalid.Fields
	switch {
	case errors.As(err, &fields):
		return fields
	case errors.Is(err, csvrows.ErrTooLong):
		return invalidBody("max_length", fmt.Sprintf("has a value or a row that is longer than 256 KiB (near byte %d)", d.InputOffset()))
	default:
		return invalidBody("json", fmt.Sprintf("is not valid JSON (near byte %d)", d.InputOffset()))
	}
}

// jsonRows hands out the rows of a body that common has found to be well formed.
func (u *upload) jsonRows() (intake.Rows, error) {
	d, m, err := u.decoder()
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != nil {
		return nil, invalidJSON(d, err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, invalidJSON(d, err)
		}
		m.Reset()
		if name == "rows" {
			if _, err := d.Token(); err != nil {
				return nil, invalidJSON(d, err)
			}
			return &jsonRows{d: d, m: m}, nil
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, invalidJSON(d, err)
		}
	}
	return nil, invalidBody("json", "is not valid JSON")
}

type jsonRows struct {
	d *json.Decoder
	m *csvrows.Meter
}

// Next implements intake.Rows.
func (r *jsonRows) Next() (map[string]string, error) {
	if !r.d.More() {
		return nil, io.EOF
	}
	r.m.Reset()
	var raw json.RawMessage
	if err := r.d.Decode(&raw); err != nil { // it could be, when common looked
		return nil, fmt.Errorf("reading a batch again: %w", err)
	}
	var faults invalid.Fields
	row := map[string]string{}
	if kindOf(raw) != "an object" {
		faults.Add("row", "type", "must be an object, not "+kindOf(raw))
		return nil, faults
	}
	if !utf8.Valid(raw) {
		faults.Add("row", "utf8", "must be valid UTF-8")
		return nil, faults
	}
	err := eachField(raw, func(name string, value json.RawMessage) bool {
		switch kindOf(value) {
		case "a number", "a boolean":
			row[name] = string(value)
		default:
			row[name] = decodeString(value, clip(name), &faults)
		}
		return len(row) <= csvrows.MaxColumns
	})
	if err == nil && len(row) > csvrows.MaxColumns {
		faults.Add("row", "max_items", fmt.Sprintf("must have at most %d columns", csvrows.MaxColumns))
	}
	return row, errors.Join(err, faults.Err())
}

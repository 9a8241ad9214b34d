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
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postcard-mms/postcard/internal/csvrows"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const (
	maxUpload     = 64 << 20 // bytes
	uploadTimeout = 2 * time.Minute
	storeTimeout  = 90 * time.Second // for a batch that is received
)

// upload is the body of a batch in a temporary file. The file lets it be read twice,
// and keeps a slow client from holding a transaction open.
type upload struct {
	file    *os.File
	csv     bool
	charset csvrows.Charset // that was declared for CSV
	query   url.Values      // holds the batch's fields if the body is CSV
	hash    string          // of the body and its charset, in hex
}

// readUpload receives the whole body.
func readUpload(q Request) (*upload, error) {
	declared, params, _ := mime.ParseMediaType(q.r.Header.Get("Content-Type"))
	if declared != mediaType && declared != "text/csv" {
		return nil, newProblem(http.StatusUnsupportedMediaType, "The Content-Type must be application/json or text/csv.")
	}
	charset, err := csvCharset(params["charset"])
	if err != nil && declared == "text/csv" {
		return nil, err
	}
	if declared == mediaType {
		if err := checkCharset(params["charset"]); err != nil {
			return nil, err
		}
	}
	query, err := queryOf(q.r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	body, err := httpkit.Body(q.w, q.r, maxUpload)
	if err != nil {
		return nil, bodyError(err, "")
	}
	control := http.NewResponseController(q.w)
	if err := errors.Join(control.SetReadDeadline(time.Now().Add(uploadTimeout)), extendWriteDeadline(q.w, uploadTimeout+storeTimeout+writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("extending the upload deadlines: %w", err)
	}
	file, err := os.CreateTemp("", "postcard-batch-")
	if err != nil {
		return nil, fmt.Errorf("storing an upload: %w", err)
	}
	u := &upload{file: file, csv: declared == "text/csv", charset: charset, query: query}
	if err := os.Remove(file.Name()); err != nil { // the open file stays usable
		return nil, errors.Join(fmt.Errorf("storing an upload: %w", err), file.Close())
	}
	hash := sha256.New()
	hash.Write([]byte(charset))
	_, err = io.Copy(io.MultiWriter(file, hash), body)
	u.hash = hex.EncodeToString(hash.Sum(nil))
	if err == nil {
		return u, nil
	}
	if disk := (*os.PathError)(nil); errors.As(err, &disk) {
		err = fmt.Errorf("storing an upload: %w", err)
	} else {
		err = bodyError(err, "The request body exceeds 64 MiB. Split the batch.")
	}
	return nil, errors.Join(err, file.Close())
}

// csvCharset returns the encoding that a Content-Type declares for CSV. UTF-8 and UTF-16
// need not be declared.
func csvCharset(declared string) (csvrows.Charset, error) {
	switch strings.ToLower(declared) {
	case "", "utf-8", "utf8", "us-ascii", "utf-16", "utf-16le", "utf-16be":
		return csvrows.Recognize, nil
	case "windows-1252", "cp1252", "iso-8859-1", "latin1": // browsers, too, take ISO 8859-1 for Windows-1252
		return csvrows.Windows1252, nil
	}
	return "", newProblem(http.StatusUnsupportedMediaType, "The charset of CSV must be utf-8, utf-16 or windows-1252.")
}

// Close deletes the file.
func (u *upload) Close() { _ = u.file.Close() } // the file has been unlinked already

// open decodes the batch's fields and positions a reader at its rows.
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
		csv, err := csvrows.NewCSV(u.file, u.charset)
		if columns := (invalid.Fields)(nil); errors.As(err, &columns) {
			return body, intake.NoRows(columns), nil
		}
		return body, csv, err
	}
	var violations invalid.Fields
	checkParameters(u.query, nil, &violations)
	if err := violations.Err(); err != nil {
		return body, nil, err
	}
	common, hasRows, err := u.common()
	if err != nil {
		return body, nil, err
	}
	if err := decodeObject(common, &body); err != nil {
		return body, nil, err
	}
	if !hasRows {
		return body, intake.NoRows{{Name: "rows", Rule: "required", Message: "are missing: add a list of objects, each with the recipient as to"}}, nil
	}
	list, err := u.jsonRows()
	return body, list, err
}

// queryAsObject converts a query to the equivalent JSON object.
func queryAsObject(query url.Values) ([]byte, error) {
	object := map[string]any{}
	metadata := map[string]string{}
	var violations invalid.Fields
	for name, values := range query {
		key, isMetadata := metadataKey(name)
		switch {
		case !utf8.ValidString(name + strings.Join(values, "")): // json.Marshal would replace it
			violations.Add(clip(name), "utf8", "must be valid UTF-8")
		case isMetadata && len(values) > 1:
			violations.Add(clip(name), "duplicate", "is given more than once")
		case isMetadata:
			metadata[key] = values[0]
			object["metadata"] = metadata
		case name == "mediaUrls", name == "mediaIds":
			object[name] = values
		case name == "rows":
			violations.Add(name, "unknown", "must be in the body")
		case len(values) > 1:
			violations.Add(clip(name), "duplicate", "is given more than once")
		case name != "metadata" && values[0] == "": // counts as absent, as in every query
		case name == "validFor" && jsonNumber.MatchString(strings.TrimSpace(values[0])):
			object[name] = json.RawMessage(strings.TrimSpace(values[0]))
		default:
			object[name] = values[0]
		}
	}
	if err := violations.Err(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encoding a query as JSON: %w", err)
	}
	return text, nil
}

// withPlusHint adds the hint to violations of fields in the query.
func (u *upload) withPlusHint(err error) error {
	var violations invalid.Fields
	if errors.As(err, &violations) {
		return withPlusHint(u.query, violations)
	}
	return err
}

// decoder decodes the file from its start. One value can have csvrows.MaxRow bytes.
func (u *upload) decoder() (*json.Decoder, *csvrows.Meter, error) {
	m, err := u.meter()
	return json.NewDecoder(m), m, err
}

func (u *upload) meter() (*csvrows.Meter, error) {
	start := int64(0)
	mark := make([]byte, len(byteOrderMark))
	if n, _ := u.file.ReadAt(mark, 0); string(mark[:n]) == byteOrderMark { // the decoder meets an error again
		start = int64(n)
	}
	if _, err := u.file.Seek(start, io.SeekStart); err != nil {
		return nil, fmt.Errorf("rereading an upload: %w", err)
	}
	return csvrows.NewMeter(u.file), nil
}

// common returns the body's object without its rows, and whether it has rows.
func (u *upload) common() (object []byte, hasRows bool, err error) {
	d, m, err := u.decoder()
	if err != nil {
		return nil, false, err
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
			return invalidBody("max_length", "must have at most 64 KiB besides its rows")
		}
		key, _ := json.Marshal(name) // a string can always be encoded
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		out.Write(key)
		out.WriteByte(':')
		out.Write(raw)
		return nil
	})
	if err != nil {
		return nil, false, invalidJSON(d, err)
	}
	out.WriteByte('}')
	return out.Bytes(), seen, nil
}

// eachMember calls member for each name of the object that is the whole input.
func eachMember(d *json.Decoder, member func(name string) error) error {
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return errors.Join(err, invalidBody("object", "must be a JSON object"))
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // the decoder allows nothing else here
		if err := member(name); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalidBody("json", "must be exactly one JSON object")
	}
	return nil
}

// skipRows skips the list of rows. It checks that it is a list and valid JSON.
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

// invalidJSON turns an error of the decoder into a violation.
func invalidJSON(d *json.Decoder, err error) error {
	var fields invalid.Fields
	switch {
	case errors.As(err, &fields):
		return fields
	case errors.Is(err, csvrows.ErrTooLong):
		return invalidBody("max_length", fmt.Sprintf("contains a value or row longer than 256 KiB (near byte %d)", d.InputOffset()))
	default:
		return invalidBody("json", fmt.Sprintf("is not valid JSON (near byte %d)", d.InputOffset()))
	}
}

// jsonRows returns a reader of the rows. common must have checked the body.
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
	d   *json.Decoder
	m   *csvrows.Meter
	row int
}

// Row implements intake.Rows.
func (r *jsonRows) Row() int { return r.row }

// Next implements intake.Rows.
func (r *jsonRows) Next() (map[string]string, error) {
	if !r.d.More() {
		return nil, io.EOF
	}
	r.row++
	r.m.Reset()
	var raw json.RawMessage
	if err := r.d.Decode(&raw); err != nil { // common has decoded it before
		return nil, fmt.Errorf("rereading an upload: %w", err)
	}
	var violations invalid.Fields
	row := map[string]string{}
	if kindOf(raw) != "an object" {
		violations.Add("row", "type", "must be an object, not "+kindOf(raw))
		return nil, violations
	}
	if !utf8.Valid(raw) {
		violations.Add("row", "utf8", "must be valid UTF-8")
		return nil, violations
	}
	seen := map[string]bool{}
	err := eachField(raw, func(name string, value json.RawMessage) bool {
		if seen[name] {
			violations.Add(clip(name), "duplicate", "is given more than once")
		}
		seen[name] = true
		switch kindOf(value) {
		case "null": // the same as leaving the column out
		case "a number", "a boolean":
			row[name] = string(value)
		default:
			row[name] = decodeString(value, clip(name), &violations)
		}
		return len(seen) <= csvrows.MaxColumns && len(violations) < maxViolations
	})
	if err == nil && len(seen) > csvrows.MaxColumns {
		violations.Add("row", "max_items", fmt.Sprintf("must have at most %d columns", csvrows.MaxColumns))
	}
	return row, errors.Join(err, violations.Err())
}

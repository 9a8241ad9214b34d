package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/invalid"
)

const (
	mediaType = "application/json"

	maxBody       = 64 << 10 // bytes
	maxViolations = 50       // listed in one response, to bound its size
	maxName       = 64       // bytes of an unknown field's name that a response repeats

	// byteOrderMark may begin a body in UTF-8, for example one from PowerShell or .NET. A
	// reader may ignore it (RFC 8259, section 8.1).
	byteOrderMark = "\ufeff"
)

// readObject decodes the request's body, one JSON object, into the struct at dest.
// It checks syntax, names and types, and returns all violations at once. The domain
// validates the values.
func readObject(q Request, dest any) error {
	body, err := readBody(q)
	if err != nil {
		return err
	}
	return decodeObject(body, dest)
}

// readNothing rejects a body with fields: the operation has none, and would ignore what
// the client wants. Some clients send an empty object or null.
func readNothing(q Request) error {
	if q.r.ContentLength == 0 {
		return nil
	}
	body, err := readAll(q)
	if err != nil {
		return err
	}
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return nil
	}
	if err := checkContentType(q.r.Header.Get("Content-Type")); err != nil || string(body) == "null" {
		return err
	}
	return decodeObject(body, &struct{}{})
}

// readBody reads a JSON body.
func readBody(q Request) ([]byte, error) {
	if err := checkContentType(q.r.Header.Get("Content-Type")); err != nil {
		return nil, err
	}
	return readAll(q)
}

// readAll reads a body of up to maxBody bytes.
func readAll(q Request) ([]byte, error) {
	decoded, err := httpkit.Body(q.w, q.r, maxBody)
	if err != nil {
		return nil, bodyError(err, "")
	}
	body, err := io.ReadAll(decoded)
	return body, bodyError(err, "The request body exceeds 64 KiB.")
}

// bodyError answers an error of reading a body.
func bodyError(err error, tooLarge string) error {
	var limit *http.MaxBytesError
	var encoding httpkit.UnsupportedEncodingError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &limit):
		return newProblem(http.StatusRequestEntityTooLarge, tooLarge)
	case errors.As(err, &encoding):
		p := newProblem(http.StatusUnsupportedMediaType, sentence(encoding.Error()+": send the body as it is, or with gzip"))
		p.headers.Set("Accept-Encoding", "gzip") // RFC 9110, section 15.5.16
		return p
	case errors.Is(err, httpkit.ErrCorruptGzip):
		return invalidBody("gzip", "is not valid gzip, which its Content-Encoding says it is")
	default:
		return invalidBody("read", "could not be read completely")
	}
}

// checkContentType requires application/json or no Content-Type at all. It rejects
// the media type of a web form, which curl -d sends by default: any site can make a
// browser send that.
func checkContentType(header string) error {
	if header == "" {
		return nil
	}
	declared, params, err := mime.ParseMediaType(header)
	if err != nil || declared != mediaType {
		return newProblem(http.StatusUnsupportedMediaType,
			"The Content-Type must be application/json in UTF-8 (with curl: -H 'Content-Type: application/json').")
	}
	return checkCharset(params["charset"])
}

func checkCharset(charset string) error {
	if slices.Contains([]string{"", "utf-8", "utf8"}, strings.ToLower(charset)) {
		return nil
	}
	return newProblem(http.StatusUnsupportedMediaType, fmt.Sprintf("The charset %.40q in the Content-Type is not supported: send UTF-8.", charset))
}

func invalidBody(rule, message string) error {
	return invalid.Fields{{Name: "body", Rule: rule, Message: message}}
}

// decodeObject decodes a JSON object into the struct at dest, whose fields are of
// type string, *string, bool, []string, map[string]string or *int. Unlike json.Unmarshal, it
// rejects invalid UTF-8, NUL characters, unknown and duplicate names, and names in
// another case. A field that is null counts as absent.
func decodeObject(body []byte, dest any) error {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte(byteOrderMark)))
	if len(body) == 0 {
		return invalidBody("required", "is empty: it must be a JSON object")
	}
	if !utf8.Valid(body) {
		return invalidBody("utf8", "must be valid UTF-8")
	}
	if err := checkSyntax(body); err != nil {
		return err
	}
	if body[0] != '{' {
		return invalidBody("object", "must be a JSON object, not "+kindOf(body))
	}
	return decodeFields(body, reflect.ValueOf(dest).Elem())
}

func checkSyntax(body []byte) error {
	var raw json.RawMessage
	err := json.Unmarshal(body, &raw)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return invalidBody("json", fmt.Sprintf("is not valid JSON: %s (byte %d)", syntax, syntax.Offset))
	}
	if err != nil {
		return invalidBody("json", "is not valid JSON")
	}
	return nil
}

func decodeFields(object []byte, dest reflect.Value) error {
	var violations invalid.Fields
	seen := map[string]bool{}
	err := eachField(object, func(name string, raw json.RawMessage) bool {
		field := fieldNamed(dest, name)
		switch {
		case !field.IsValid():
			violations.Add(clip(name), "unknown", unknownField(dest))
		case seen[name]:
			violations.Add(name, "duplicate", "is given more than once")
		case kindOf(raw) != "null": // null is the same as leaving the field out
			set(field, name, raw, &violations)
		}
		seen[name] = true
		return len(violations) < maxViolations
	})
	if err != nil {
		return err
	}
	return violations.Err()
}

func unknownField(dest reflect.Value) string {
	if dest.NumField() == 0 {
		return "is not a known field: this operation has none"
	}
	return "is not a known field; the known fields are " + strings.Join(fieldNames(dest), ", ")
}

// eachField calls yield for each field of a JSON object in order, until yield
// returns false.
func eachField(object []byte, yield func(name string, raw json.RawMessage) bool) error {
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil { // the opening brace
		return invalidBody("json", "is not valid JSON")
	}
	for d.More() {
		before := d.InputOffset()
		token, err := d.Token()
		name, isName := token.(string)
		if err == nil && hasUnpairedSurrogate(object[before:d.InputOffset()]) {
			return invalidBody("utf8", "must not contain names with an unpaired surrogate")
		}
		var raw json.RawMessage
		if err != nil || !isName || d.Decode(&raw) != nil {
			return invalidBody("json", "is not valid JSON")
		}
		if !yield(name, raw) {
			return nil
		}
	}
	return nil
}

// clip shortens an unknown name to maxName bytes.
func clip(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), maxName)], "")
}

// fieldNamed returns the struct's field with this name in its json tag.
func fieldNamed(dest reflect.Value, name string) reflect.Value {
	if i := slices.Index(fieldNames(dest), name); i >= 0 && name != "" {
		return dest.Field(i)
	}
	return reflect.Value{}
}

func fieldNames(dest reflect.Value) []string {
	names := make([]string, dest.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(dest.Type().Field(i).Tag.Get("json"), ",")
	}
	return names
}

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

	"github.com/postcard-mms/postcard/internal/invalid"
)

const (
	mediaType = "application/json"

	maxBody       = 64 << 10 // bytes
	maxViolations = 50       // listed in one response, to bound its size
	maxName       = 64       // bytes of an unknown field's name that a response repeats
)

// readObject decodes the request's body, one JSON object, into the struct at dest.
// It checks syntax, names and types, and returns all violations at once. The domain
// validates the values.
func readObject(q Request, dest any) error {
	if err := checkContentType(q.r.Header.Get("Content-Type")); err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return newProblem(http.StatusRequestEntityTooLarge, "The request body exceeds 64 KiB.")
	}
	if err != nil {
		return invalidBody("read", "could not be read completely")
	}
	return decodeObject(body, dest)
}

// checkContentType requires application/json or no Content-Type at all. It rejects
// the media type of a web form, which curl -d sends by default: any site can make a
// browser send that.
func checkContentType(header string) error {
	if header == "" {
		return nil
	}
	declared, params, err := mime.ParseMediaType(header)
	charset := strings.ToLower(params["charset"])
	if err == nil && declared == mediaType && (charset == "" || charset == "utf-8") {
		return nil
	}
	return newProblem(http.StatusUnsupportedMediaType,
		"The Content-Type must be application/json in UTF-8 (with curl: -H 'Content-Type: application/json').")
}

func invalidBody(rule, message string) error {
	return invalid.Fields{{Name: "body", Rule: rule, Message: message}}
}

// decodeObject decodes a JSON object into the struct at dest, whose fields are of
// type string, bool, []string, map[string]string or *int. Unlike json.Unmarshal, it
// rejects invalid UTF-8, NUL characters, unknown and duplicate names, and names in
// another case. A field that is null counts as absent.
func decodeObject(body []byte, dest any) error {
	body = bytes.TrimSpace(body)
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
			violations.Add(clip(name), "unknown", "is not a known field; the known fields are "+strings.Join(fieldNames(dest), ", "))
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

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
	maxViolations = 50       // listed in one answer, so that it stays in proportion to the question
	maxName       = 64       // bytes repeated of a field's name that we do not know
)

// readObject reads the request's body, one JSON object, into the struct at
// dest. It looks at the form alone: syntax, names and types, all faults of
// which it returns at once. What the values must be like is for others to say.
func readObject(q Request, dest any) error {
	if err := checkContentType(q.r.Header.Get("Content-Type")); err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return newProblem(http.StatusRequestEntityTooLarge, "The body is larger than 64 KiB.")
	}
	if err != nil {
		return invalidBody("read", "could not be read to its end")
	}
	return decodeObject(body, dest)
}

// checkContentType wants JSON to be declared as such. No declaration at all is
// taken for JSON: whoever leaves it out has read no more than an example. What
// curl -d declares by itself, a web form, is refused with a hint: pages of any
// site can make browsers send that.
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
		"The body must be JSON in UTF-8 and declared as such: Content-Type: application/json (curl: -H 'Content-Type: application/json').")
}

func invalidBody(rule, message string) error {
	return invalid.Fields{{Name: "body", Rule: rule, Message: message}}
}

// decodeObject fills the fields of the struct at dest, which are of type
// string, bool, []string, map[string]string or *int, from a JSON object with exactly their names. Unlike
// json.Unmarshal it refuses broken UTF-8 instead of replacing it, names in
// another case, names that come twice, and null.
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
	var whole json.RawMessage
	err := json.Unmarshal(body, &whole)
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
	var faults invalid.Fields
	seen := map[string]bool{}
	err := eachField(object, func(name string, raw json.RawMessage) bool {
		field := fieldNamed(dest, name)
		switch {
		case !field.IsValid():
			faults.Add(clip(name), "unknown", "is not known here; known are "+strings.Join(fieldNames(dest), ", "))
		case seen[name]:
			faults.Add(name, "duplicate", "is given more than once")
		default:
			set(field, name, raw, &faults)
		}
		seen[name] = true
		return len(faults) < maxViolations
	})
	if err != nil {
		return err
	}
	return faults.Err()
}

// eachField hands out the fields of a JSON object in their order, until take
// returns false.
func eachField(object []byte, take func(name string, raw json.RawMessage) bool) error {
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil { // the opening brace
		return invalidBody("json", "is not valid JSON")
	}
	for d.More() {
		token, err := d.Token()
		name, isName := token.(string)
		var raw json.RawMessage
		if err != nil || !isName || d.Decode(&raw) != nil {
			return invalidBody("json", "is not valid JSON")
		}
		if !take(name, raw) {
			return nil
		}
	}
	return nil
}

func clip(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), maxName)], "")
}

// fieldNamed finds the struct's field by the exact name in its json tag.
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

package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// set decodes one field, or adds a violation if the value has another type.
func set(field reflect.Value, name string, raw json.RawMessage, violations *invalid.Fields) {
	switch field.Kind() {
	case reflect.String:
		field.SetString(decodeString(raw, name, violations))
	case reflect.Bool:
		field.SetBool(decodeBool(raw, name, violations))
	case reflect.Pointer:
		if field.Type().Elem().Kind() == reflect.String {
			text := decodeString(raw, name, violations)
			field.Set(reflect.ValueOf(&text))
			return
		}
		field.Set(reflect.ValueOf(decodeInt(raw, name, violations)))
	case reflect.Map:
		field.Set(reflect.ValueOf(decodeStringMap(raw, name, violations)))
	default:
		field.Set(reflect.ValueOf(decodeStrings(raw, name, violations)))
	}
}

func decodeStrings(raw json.RawMessage, name string, violations *invalid.Fields) []string {
	var elements []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &elements) != nil {
		violations.Add(name, "type", "must be a list of strings, not "+kindOf(raw))
		return nil
	}
	list := make([]string, 0, len(elements))
	for i, element := range elements {
		if len(*violations) >= maxViolations {
			break
		}
		list = append(list, decodeString(element, name+"["+strconv.Itoa(i)+"]", violations))
	}
	return list
}

// decodeStringMap decodes an object of strings. It rejects duplicate names, and leaves
// out those whose value is null.
func decodeStringMap(raw json.RawMessage, name string, violations *invalid.Fields) map[string]string {
	object, seen := map[string]string{}, map[string]bool{}
	if raw[0] != '{' {
		violations.Add(name, "type", "must be an object of strings, not "+kindOf(raw))
		return object
	}
	err := eachField(raw, func(key string, value json.RawMessage) bool {
		if seen[key] {
			violations.Add(name+"."+clip(key), "duplicate", "is given more than once")
		}
		if seen[key] = true; kindOf(value) != "null" {
			object[key] = decodeString(value, name+"."+clip(key), violations)
		}
		return len(*violations) < maxViolations
	})
	var invalidName invalid.Fields
	if errors.As(err, &invalidName) {
		violations.Add(name, invalidName[0].Rule, invalidName[0].Message)
	}
	return object
}

func decodeBool(raw json.RawMessage, name string, violations *invalid.Fields) bool {
	if kindOf(raw) != "a boolean" {
		violations.Add(name, "type", "must be true or false, not "+kindOf(raw))
	}
	return raw[0] == 't'
}

// decodeInt also decodes numbers like 3600.0 and 3.6e3: some languages write integers
// like that.
func decodeInt(raw json.RawMessage, name string, violations *invalid.Fields) *int {
	n, ok := 0, false
	if kindOf(raw) != "a number" {
		violations.Add(name, "type", "must be an integer, not "+kindOf(raw))
	} else if n, ok = parseInteger(string(raw)); !ok {
		violations.Add(name, "type", "must be an integer")
	}
	return &n
}

var jsonNumber = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// maxExactInteger is the largest integer up to which a float64 can represent all of them.
const maxExactInteger = 1 << 53

// parseInteger parses a JSON number without a fraction other than zero.
func parseInteger(number string) (int, bool) {
	if !jsonNumber.MatchString(number) {
		return 0, false
	}
	if n, err := strconv.Atoi(number); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > maxExactInteger {
		return 0, false
	}
	return int(f), true
}

func decodeString(raw json.RawMessage, name string, violations *invalid.Fields) string {
	var s string
	switch {
	case raw[0] != '"' || json.Unmarshal(raw, &s) != nil:
		violations.Add(name, "type", "must be a string, not "+kindOf(raw))
	case hasUnpairedSurrogate(raw):
		violations.Add(name, "utf8", "contains an unpaired surrogate")
	case strings.ContainsRune(s, 0):
		violations.Add(name, "control", noNUL)
	}
	return s
}

// noNUL is the violation of a field with a NUL character, which Postgres cannot store.
const noNUL = `must not contain NUL characters (\u0000)`

// hasUnpairedSurrogate reports whether a JSON string contains an escape like \ud83d
// without its second half. Programs that cut strings by UTF-16 units produce them,
// and encoding/json replaces them silently. raw must be valid JSON.
func hasUnpairedSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // to the escaped character
		if raw[i] != 'u' {
			continue
		}
		unit := hexUnit(raw[i+1:])
		i += 4
		switch {
		case unit >= 0xDC00 && unit <= 0xDFFF:
			return true
		case unit >= 0xD800 && unit <= 0xDBFF:
			if !bytes.HasPrefix(raw[i+1:], []byte(`\u`)) {
				return true
			}
			if low := hexUnit(raw[i+3:]); low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 6
		}
	}
	return false
}

func hexUnit(raw []byte) uint64 {
	unit, _ := strconv.ParseUint(string(raw[:4]), 16, 16) // the syntax has been checked
	return unit
}

// kindOf returns the type of a JSON value, for error messages.
func kindOf(raw []byte) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

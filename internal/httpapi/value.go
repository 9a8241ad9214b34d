package httpapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// set fills one field, or notes what is wrong with the value's type.
func set(field reflect.Value, name string, raw json.RawMessage, faults *invalid.Fields) {
	switch field.Kind() {
	case reflect.String:
		field.SetString(decodeString(raw, name, faults))
	case reflect.Bool:
		field.SetBool(decodeBool(raw, name, faults))
	case reflect.Pointer:
		field.Set(reflect.ValueOf(decodeInt(raw, name, faults)))
	case reflect.Map:
		field.Set(reflect.ValueOf(decodeStringMap(raw, name, faults)))
	default:
		field.Set(reflect.ValueOf(decodeStrings(raw, name, faults)))
	}
}

func decodeStrings(raw json.RawMessage, name string, faults *invalid.Fields) []string {
	var elements []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &elements) != nil {
		faults.Add(name, "type", "must be a list of strings, not "+kindOf(raw))
		return nil
	}
	list := make([]string, 0, len(elements))
	for i, element := range elements {
		if len(*faults) >= maxViolations {
			break
		}
		list = append(list, decodeString(element, name+"["+strconv.Itoa(i)+"]", faults))
	}
	return list
}

// decodeStringMap reads an object of strings, in which no name may stand twice.
func decodeStringMap(raw json.RawMessage, name string, faults *invalid.Fields) map[string]string {
	object := map[string]string{}
	if raw[0] != '{' {
		faults.Add(name, "type", "must be an object of strings, not "+kindOf(raw))
		return object
	}
	err := eachField(raw, func(key string, value json.RawMessage) bool {
		if _, twice := object[key]; twice {
			faults.Add(name+"."+clip(key), "duplicate", "is given more than once")
		}
		object[key] = decodeString(value, name+"."+clip(key), faults)
		return len(*faults) < maxViolations
	})
	if err != nil {
		faults.Add(name, "type", "must be an object of strings")
	}
	return object
}

func decodeBool(raw json.RawMessage, name string, faults *invalid.Fields) bool {
	if kindOf(raw) != "a boolean" {
		faults.Add(name, "type", "must be true or false, not "+kindOf(raw))
	}
	return raw[0] == 't'
}

func decodeInt(raw json.RawMessage, name string, faults *invalid.Fields) *int {
	n := new(int)
	switch {
	case kindOf(raw) != "a number":
		faults.Add(name, "type", "must be a whole number, not "+kindOf(raw))
	case json.Unmarshal(raw, n) != nil:
		faults.Add(name, "type", "must be a whole number")
	}
	return n
}

func decodeString(raw json.RawMessage, name string, faults *invalid.Fields) string {
	var s string
	switch {
	case raw[0] != '"' || json.Unmarshal(raw, &s) != nil:
		faults.Add(name, "type", "must be a string, not "+kindOf(raw))
	case hasUnpairedSurrogate(raw):
		faults.Add(name, "utf8", "contains half of a character (an unpaired surrogate)")
	}
	return s
}

// hasUnpairedSurrogate finds escapes like \ud83d without their second half, which
// programs produce that cut strings between the two. encoding/json replaces
// them silently. The raw string is valid JSON.
func hasUnpairedSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // at the escaped character
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
	unit, _ := strconv.ParseUint(string(raw[:4]), 16, 16) // the syntax is checked already
	return unit
}

// kindOf names the type of a JSON value.
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

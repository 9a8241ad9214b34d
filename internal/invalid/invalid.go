// Package invalid says what is wrong with somebody's input, field by field.
// It holds no rules: those live with what they protect, in mms and identity.
package invalid

import "strings"

// Field is one fault of one field.
type Field struct {
	Name    string // as the sender of the input wrote it, e.g. "mediaUrls[2]"
	Rule    string // a short, stable code of the broken rule, e.g. "e164"
	Message string // the rule in plain words, to be shown behind or beside the name
}

// Fields is an error that lists every fault found, in the order of the fields.
type Fields []Field

// Add notes one more fault.
func (f *Fields) Add(name, rule, message string) {
	*f = append(*f, Field{Name: name, Rule: rule, Message: message})
}

// Err is the list as an error, or nil where there is no fault.
func (f Fields) Err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// Error names every field and rule. It repeats nothing of what was typed, so
// it may be logged.
func (f Fields) Error() string {
	faults := make([]string, len(f))
	for i, field := range f {
		faults[i] = field.Name + " " + field.Message
	}
	return "invalid input: " + strings.Join(faults, "; ")
}

// Of returns the first message about the named field, or "".
func (f Fields) Of(name string) string {
	for _, field := range f {
		if field.Name == name {
			return field.Message
		}
	}
	return ""
}

// Package invalid describes invalid input, field by field. It must not contain
// rules: those belong to the packages whose data they protect.
package invalid

import "strings"

// Field is one violation in one field.
type Field struct {
	Name    string // the field's name in the input, like "mediaUrls[2]"
	Rule    string // a short, stable code of the violated rule, like "e164"
	Message string // the rule in plain language, shown behind or beside the name: "must be ..."
}

// Fields is an error that lists all violations, in the order of the fields.
type Fields []Field

// Add appends a violation.
func (f *Fields) Add(name, rule, message string) {
	*f = append(*f, Field{Name: name, Rule: rule, Message: message})
}

// Err returns the list as an error, or nil if it is empty.
func (f Fields) Err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// Error lists every field and message. It may be logged as long as messages do not
// repeat submitted values.
func (f Fields) Error() string {
	violations := make([]string, len(f))
	for i, field := range f {
		violations[i] = field.Name + " " + field.Message
	}
	return "invalid input: " + strings.Join(violations, "; ")
}

// Of returns the first message about the named field, or "" if there is none.
func (f Fields) Of(name string) string {
	for _, field := range f {
		if field.Name == name {
			return field.Message
		}
	}
	return ""
}

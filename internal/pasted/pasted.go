// Package pasted cleans values that people type or paste: phone numbers, emails,
// URLs, keys and names. Contact lists, spreadsheets and word processors add invisible
// characters to them, like direction marks, zero-width and no-break spaces.
//
// It must not know what the values mean. Texts of messages are never cleaned: in them,
// such characters can have a meaning.
package pasted

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean removes invisible characters from s and spaces from its ends, and makes every
// other space an ordinary one. It returns invalid UTF-8 unchanged.
func Clean(s string) string {
	if !utf8.ValidString(s) {
		return s
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case IsInvisible(r):
			return -1
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, s))
}

// Trim removes invisible characters and spaces from both ends of s. It is for values
// whose inner characters must not be changed, like URLs.
func Trim(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return IsInvisible(r) || unicode.IsSpace(r) })
}

// Invisible returns the first invisible character of s and the number of characters
// before it, or -1.
func Invisible(s string) (r rune, before int) {
	for _, r := range s {
		if IsInvisible(r) {
			return r, before
		}
		before++
	}
	return 0, -1
}

// IsInvisible reports whether r is shown as nothing: Unicode's format characters and
// those that it says to ignore, like U+200B (zero-width space), U+202A (direction
// mark), U+00AD (soft hyphen) and U+FEFF (byte order mark). Spaces, which are shown as
// a gap, are not among them.
func IsInvisible(r rune) bool {
	if r < 0x80 {
		return false
	}
	return unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) &&
		!unicode.Is(unicode.Prepended_Concatenation_Mark, r) // these are shown
}

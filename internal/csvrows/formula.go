package csvrows

import (
	"strings"
	"unicode/utf8"
)

// formulaStarts are the characters at which a spreadsheet takes a cell for a formula, or
// splits it (OWASP, CSV injection).
const formulaStarts = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"

// EscapeFormula returns the value as a cell of a CSV file that spreadsheets do not evaluate:
// with an apostrophe before it if it begins like a formula, or like one with apostrophes.
func EscapeFormula(value string) string {
	if isFormula(strings.TrimLeft(value, "'")) {
		return "'" + value
	}
	return value
}

// unescapeFormula is the inverse of EscapeFormula. People and other programs escape in the
// same way, for example '+14155550123.
func unescapeFormula(value string) string {
	if unescaped, ok := strings.CutPrefix(value, "'"); ok && isFormula(strings.TrimLeft(value, "'")) {
		return unescaped
	}
	return value
}

func isFormula(value string) bool {
	first, _ := utf8.DecodeRuneInString(value)
	return value != "" && strings.ContainsRune(formulaStarts, first)
}

// Package csvrows reads the rows of a batch from CSV as spreadsheets save it, with bounded
// memory. It must not know messages: which values are valid is for mms to decide.
package csvrows

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// Limits of a file.
const (
	MaxRow     = 256 << 10 // bytes per row
	MaxColumns = 100
)

// MalformedError says why the rest of a file cannot be read, as a sentence for people.
type MalformedError string

func (e MalformedError) Error() string { return string(e) }

// CSV reads rows of values (RFC 4180). The first row names the columns. The values are
// separated by commas, semicolons, tabs or vertical bars, whichever the first row has, or
// by the character in a line like "sep=;" before it.
type CSV struct {
	records *records
	columns columns
}

// NewCSV reads the first row. It returns violations as invalid.Fields; one of the columns
// must hold the recipients.
func NewCSV(file io.ReadSeeker, declared Charset) (*CSV, error) {
	t, err := newText(file, declared)
	if err != nil {
		return nil, err
	}
	separator, err := findSeparator(t)
	if err != nil {
		return nil, err
	}
	r, header, err := openAt(t, separator)
	if err != nil {
		return nil, err
	}
	c, err := newColumns(header)
	return &CSV{records: r, columns: c}, err
}

// Columns returns the names of the columns as they are written in the first row.
func (r *CSV) Columns() []string {
	var names []string
	for _, name := range r.columns.names {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// Row returns the number of the row that Next returned last, as a spreadsheet shows it:
// the first row of the file, which names the columns, has number 1.
func (r *CSV) Row() int { return r.records.row }

// Next returns the next row's values by column, or io.EOF after the last row. The
// recipient is in the column "to", whatever the file calls it. Next skips rows without values
// and removes apostrophes that keep spreadsheets from evaluating a value. It returns
// violations of one row as invalid.Fields; the next row can still be read. After a
// MalformedError, nothing more can be read.
//
// A row may have fewer values than columns, because Excel leaves out separators behind the
// last value of a row. Such a row has no value in the last columns.
func (r *CSV) Next() (map[string]string, error) {
	values, err := r.records.nextFilled()
	if err != nil {
		return nil, err
	}
	names := r.columns.names
	if len(values) > len(names) && !blank(values[len(names):]) {
		return nil, invalid.Fields{{Name: "row", Rule: "columns", Message: fmt.Sprintf("must have %d values, one for each column of the first row, and has more: put values that contain a separator in quotes", len(names))}}
	}
	row := make(map[string]string, len(names)+1)
	for i, name := range names[:min(len(names), len(values))] {
		if strings.ContainsFunc(values[i], isLost) {
			return nil, invalid.Fields{{Name: cmp.Or(name, "row"), Rule: "utf8", Message: "has a character that was lost when the file was saved: enter it again and save the file as CSV UTF-8"}}
		}
		if name != "" {
			row[name] = unescapeFormula(values[i])
		}
	}
	if r.columns.recipient < len(values) {
		row[recipientColumn] = unescapeFormula(values[r.columns.recipient])
	}
	return row, nil
}

// isLost reports whether r stands for a character that was lost in a conversion. Characters
// of other encodings become C1 controls, for example when Windows-1252 is converted as
// ISO 8859-1.
func isLost(r rune) bool { return r == utf8.RuneError || r >= 0x80 && r < 0xa0 }

// blank reports whether the values consist of spaces.
func blank(values []string) bool {
	for _, value := range values {
		if strings.TrimSpace(value) != "" {
			return false
		}
	}
	return true
}

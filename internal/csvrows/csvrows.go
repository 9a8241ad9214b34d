// Package csvrows reads the rows of a batch from CSV with bounded memory. It must
// not know messages: which values are valid is for mms to decide.
package csvrows

import (
	"encoding/csv"
	"errors"
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

// ErrTooLong is returned by a Meter for a row longer than MaxRow.
var ErrTooLong = errors.New("a row is longer than 256 KiB")

// Meter is a reader that returns at most MaxRow bytes between two calls of Reset.
// It bounds the memory that a parser on top of it needs for a row.
type Meter struct {
	in   io.Reader
	left int
}

// NewMeter returns a meter that reads from in.
func NewMeter(in io.Reader) *Meter { return &Meter{in: in, left: MaxRow} }

// Reset allows another MaxRow bytes. It has to be called before each row.
func (m *Meter) Reset() { m.left = MaxRow }

// Read implements io.Reader.
func (m *Meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, ErrTooLong
	}
	n, err := m.in.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}

// CSV reads comma-separated rows (RFC 4180) in UTF-8. The first line names the
// columns.
type CSV struct {
	in      *csv.Reader
	meter   *Meter
	columns []string
}

// NewCSV reads the first line. It returns violations as invalid.Fields; one of the
// columns must be "to".
func NewCSV(in io.Reader) (*CSV, error) {
	meter := NewMeter(in)
	r := &CSV{in: csv.NewReader(meter), meter: meter}
	header, err := r.in.Read()
	if err != nil {
		return nil, invalid.Fields{{Name: "rows", Rule: "csv", Message: "must begin with a line that names the columns, separated by commas"}}
	}
	var violations invalid.Fields
	seen := map[string]bool{}
	for i, column := range header {
		if i == 0 {
			column = strings.TrimPrefix(column, "\ufeff") // byte order mark, written by spreadsheets
		}
		column = strings.TrimSpace(column)
		if seen[column] || len(r.columns) >= MaxColumns {
			violations.Add("columns", "duplicate", fmt.Sprintf("must have different names, and there can be at most %d", MaxColumns))
			break
		}
		seen[column] = true
		r.columns = append(r.columns, column)
	}
	if !seen["to"] {
		violations.Add("columns", "required", "must be named in the first line, separated by commas, and one of them must be \"to\"")
	}
	return r, violations.Err()
}

// Next returns the next row's values by column, or io.EOF after the last row. It
// returns violations of one row as invalid.Fields; the next row can still be read.
// After a MalformedError, nothing more can be read.
func (r *CSV) Next() (map[string]string, error) {
	r.meter.Reset()
	values, err := r.in.Read()
	var parseErr *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case errors.As(err, &parseErr) && errors.Is(parseErr.Err, csv.ErrFieldCount):
		return nil, invalid.Fields{{Name: "row", Rule: "columns", Message: fmt.Sprintf("must have %d values, one for each column of the first line", len(r.columns))}}
	case errors.As(err, &parseErr):
		return nil, MalformedError(fmt.Sprintf("The CSV file cannot be read from line %d on: check its quotes.", parseErr.Line))
	case errors.Is(err, ErrTooLong):
		return nil, MalformedError("The CSV file has a row longer than 256 KiB: check its quotes.")
	case err != nil:
		return nil, fmt.Errorf("reading rows: %w", err)
	}
	row := make(map[string]string, len(values))
	for i, value := range values {
		if !utf8.ValidString(value) {
			return nil, invalid.Fields{{Name: r.columns[i], Rule: "utf8", Message: "must be valid UTF-8"}}
		}
		row[r.columns[i]] = value
	}
	return row, nil
}

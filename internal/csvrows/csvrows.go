// Package rows reads the rows of a batch from CSV with bounded memory. It knows
// nothing of messages: what the values must be like is for mms to say.
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

// Limits of rows; our own.
const (
	MaxRow     = 256 << 10 // bytes
	MaxColumns = 100
)

// BrokenError says in words why nothing more can be read.
type BrokenError string

func (e BrokenError) Error() string { return string(e) }

// ErrTooLong is what a Meter returns when one row has used up what it may.
var ErrTooLong = errors.New("a row is longer than 256 KiB")

// Meter reads at most MaxRow bytes at a time, until Reset: that bounds the memory
// that a reader of rows can take.
type Meter struct {
	in   io.Reader
	left int
}

// NewMeter makes a meter on in.
func NewMeter(in io.Reader) *Meter { return &Meter{in: in, left: MaxRow} }

// Reset is called before each row.
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

// CSV reads comma-separated rows (RFC 4180) in UTF-8 behind a line of their
// columns' names.
type CSV struct {
	in      *csv.Reader
	meter   *Meter
	columns []string
}

// NewCSV reads the first line. A column "to" must be among those it names, or it
// returns invalid.Fields.
func NewCSV(in io.Reader) (*CSV, error) {
	meter := NewMeter(in)
	r := &CSV{in: csv.NewReader(meter), meter: meter}
	header, err := r.in.Read()
	if err != nil {
		return nil, invalid.Fields{{Name: "rows", Rule: "csv", Message: "must begin with a line that names the columns, separated by commas"}}
	}
	var faults invalid.Fields
	seen := map[string]bool{}
	for i, column := range header {
		if i == 0 {
			column = strings.TrimPrefix(column, "\ufeff") // a byte order mark, as spreadsheets write it
		}
		column = strings.TrimSpace(column)
		if seen[column] || len(r.columns) >= MaxColumns {
			faults.Add("columns", "duplicate", fmt.Sprintf("must be different from each other, and at most %d", MaxColumns))
			break
		}
		seen[column] = true
		r.columns = append(r.columns, column)
	}
	if !seen["to"] {
		faults.Add("columns", "required", "must be named in the first line, separated by commas, and one must be to")
	}
	return r, faults.Err()
}

// Next returns the next row by its columns, or io.EOF behind the last. A row that
// cannot be read although the next may be is invalid.Fields; nothing follows
// after BrokenError.
func (r *CSV) Next() (map[string]string, error) {
	r.meter.Reset()
	values, err := r.in.Read()
	var wrong *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case errors.As(err, &wrong) && errors.Is(wrong.Err, csv.ErrFieldCount):
		return nil, invalid.Fields{{Name: "row", Rule: "columns", Message: fmt.Sprintf("must have %d values, as the first line has names", len(r.columns))}}
	case errors.As(err, &wrong):
		return nil, BrokenError(fmt.Sprintf("The CSV cannot be read from line %d on: check its quotes.", wrong.Line))
	case errors.Is(err, ErrTooLong):
		return nil, BrokenError("The CSV has a row that is longer than 256 KiB: check its quotes.")
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

package csvrows

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// records splits a text into the records of a CSV file (RFC 4180). Lines end with LF, CRLF
// or CR. Spaces around quotes are allowed. Unlike encoding/csv, it knows the row of the
// spreadsheet and where an open quote began.
type records struct {
	in        *bufio.Reader
	separator byte
	row       int // the number of the last record, from 1; empty ones count
	line      int // of the text at which in stands, from 1
}

// newRecords reads a text that begins at a line.
func newRecords(in io.Reader, separator byte, line int) *records {
	return &records{in: bufio.NewReader(in), separator: separator, line: line}
}

// nextFilled returns the next record that has a value, or io.EOF.
func (r *records) nextFilled() ([]string, error) {
	for {
		values, err := r.next()
		if err != nil || !blank(values) {
			return values, err
		}
	}
}

// end ends a value or a record.
const (
	endOfLine = '\n'
	endOfText = -1
)

// next returns the next record, or io.EOF.
func (r *records) next() ([]string, error) {
	r.row++
	p := record{records: r, began: r.line}
	if _, err := r.in.Peek(1); err != nil {
		return nil, readError(err)
	}
	var values []string
	for {
		value, end, err := p.value()
		if err != nil {
			return nil, err
		}
		values = append(values, value)
		if end == endOfLine || end == endOfText {
			return values, nil
		}
	}
}

func readError(err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return fmt.Errorf("reading rows: %w", err)
}

// record is a record that is being read.
type record struct {
	*records
	began int // line
	size  int // bytes read
	quote int // the line at which the last quoted value began; 0 if there is none
}

// read returns the next byte, endOfLine for any line end, or endOfText.
func (p *record) read() (int, error) {
	c, err := p.in.ReadByte()
	if errors.Is(err, io.EOF) {
		return endOfText, nil
	}
	if err != nil {
		return 0, readError(err)
	}
	if p.size++; p.size > MaxRow {
		return 0, p.tooLong()
	}
	if c == '\r' {
		if next, _ := p.in.Peek(1); len(next) == 1 && next[0] == '\n' {
			_, _ = p.in.Discard(1) // it has been peeked
		}
		c = '\n'
	}
	if c == '\n' {
		p.line++
	}
	return int(c), nil
}

func (p *record) tooLong() error {
	hint := ""
	if p.quote > 0 {
		hint = fmt.Sprintf(" Check the quote that begins in line %d.", p.quote)
	}
	return MalformedError(fmt.Sprintf("The row that begins in line %d of the file is longer than 256 KiB.%s", p.began, hint))
}

// value returns the next value and what follows it: the separator, endOfLine or endOfText.
func (p *record) value() (string, int, error) {
	var value strings.Builder
	for {
		c, err := p.read()
		switch {
		case err != nil:
			return "", 0, err
		case c == int(p.separator) || c == endOfLine || c == endOfText:
			return value.String(), c, nil
		case c == '"' && strings.Trim(value.String(), " ") == "":
			return p.quoted()
		case c == '"':
			return "", 0, MalformedError(fmt.Sprintf("Line %d of the file has a quote inside a value. Put the whole value in quotes, and double the quotes in it.", p.line))
		}
		value.WriteByte(byte(c))
	}
}

// quoted returns the rest of a value after its opening quote.
func (p *record) quoted() (string, int, error) {
	p.quote = p.line
	var value strings.Builder
	for {
		c, err := p.read()
		switch {
		case err != nil:
			return "", 0, err
		case c == endOfText:
			return "", 0, MalformedError(fmt.Sprintf("The quote that begins in line %d of the file is never closed. Close it, or double it if it belongs to the value.", p.quote))
		case c != '"':
			value.WriteByte(byte(c))
			continue
		}
		if next, _ := p.in.Peek(1); len(next) == 0 || next[0] != '"' {
			end, err := p.afterQuote()
			return value.String(), end, err
		}
		if _, err := p.read(); err != nil { // the second of two quotes
			return "", 0, err
		}
		value.WriteByte('"')
	}
}

// afterQuote returns what follows a closing quote.
func (p *record) afterQuote() (int, error) {
	for {
		line := p.line
		c, err := p.read()
		switch {
		case err != nil:
			return 0, err
		case c == int(p.separator) || c == endOfLine || c == endOfText:
			return c, nil
		case c != ' ':
			return 0, MalformedError(fmt.Sprintf("Line %d of the file has text after the end of a value whose quote begins in line %d. Double the quotes inside the value.", line, p.quote))
		}
	}
}

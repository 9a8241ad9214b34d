package csvrows

import (
	"errors"
	"io"
)

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

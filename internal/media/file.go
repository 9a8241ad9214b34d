package media

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/picture"
)

// File is an uploaded file. Its content is read into memory when it is its turn to be worked
// on, and not before.
type File struct {
	Name       string    // for errors
	Content    io.Reader // of which picture.MaxBytes are read, and one more
	Size       int       // of the content in bytes, if it is known
	FirstFrame bool      // use the first frame of an animation that does not fit
}

// ErrNoSpace says that an uploaded file cannot be kept on disk.
var ErrNoSpace = fmt.Errorf("%w: keeping an uploaded file on disk", mms.ErrNotStored)

// ReadFile receives a file of at most picture.MaxBytes, and one byte of a larger one more,
// which Fit refuses. The file is on disk until it is closed, so that neither a slow client
// nor one that waits for others occupies memory. The error is ErrNoSpace if it is not the
// reader's.
func ReadFile(name string, r io.Reader) (File, error) {
	file, err := os.CreateTemp("", "postcard-picture-")
	if err != nil {
		return File{}, fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	f := File{Name: name, Content: file}
	if err := os.Remove(file.Name()); err != nil { // the open file stays usable
		f.Close()
		return File{}, fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	n, err := io.Copy(file, io.LimitReader(r, picture.MaxBytes+1))
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		if disk := (*os.PathError)(nil); errors.As(err, &disk) {
			return File{}, fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		return File{}, fmt.Errorf("reading an uploaded file: %w", err)
	}
	f.Size = int(n)
	return f, nil
}

// Close deletes the file.
func (f File) Close() {
	if closer, ok := f.Content.(io.Closer); ok {
		_ = closer.Close() // the file has been unlinked already
	}
}

func (f File) read() ([]byte, error) {
	data := bytes.NewBuffer(make([]byte, 0, min(f.Size, picture.MaxBytes+1)+bytes.MinRead)) // does not grow
	if _, err := data.ReadFrom(io.LimitReader(f.Content, picture.MaxBytes+1)); err != nil {
		return nil, fmt.Errorf("reading an uploaded file again: %w", err)
	}
	return data.Bytes(), nil
}

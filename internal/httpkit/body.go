package httpkit

import (
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// ErrCorruptGzip says that a body is not what its Content-Encoding says.
var ErrCorruptGzip = errors.New("the body is not valid gzip")

// UnsupportedEncodingError names the Content-Encoding of a request that cannot be read.
type UnsupportedEncodingError string

// Error implements error.
func (e UnsupportedEncodingError) Error() string {
	return fmt.Sprintf("the Content-Encoding %.40q is not supported", string(e))
}

// Body returns the request's body, decoded if its Content-Encoding is gzip. Reading more
// than limit bytes, encoded or decoded, fails with *http.MaxBytesError, so that a small
// body cannot grow without bounds. Another encoding is an UnsupportedEncodingError, and
// reading what is not gzip fails with ErrCorruptGzip.
func Body(w http.ResponseWriter, r *http.Request, limit int64) (io.Reader, error) {
	encoded := http.MaxBytesReader(w, r.Body, limit)
	encoding := strings.ToLower(strings.TrimSpace(strings.Join(r.Header.Values("Content-Encoding"), ",")))
	switch encoding {
	case "", "identity":
		return encoded, nil
	case "gzip", "x-gzip": // RFC 9110, section 8.4.1.3
		return http.MaxBytesReader(w, &gzipBody{encoded: encoded}, limit), nil
	}
	return nil, UnsupportedEncodingError(encoding)
}

// gzipBody decodes a body. It reads the gzip header with the first Read.
type gzipBody struct {
	encoded io.ReadCloser
	decoder *gzip.Reader
}

func (b *gzipBody) Read(p []byte) (int, error) {
	if b.decoder == nil {
		decoder, err := gzip.NewReader(b.encoded)
		if errors.Is(err, io.EOF) {
			return 0, ErrCorruptGzip
		}
		if err != nil {
			return 0, gzipError(err)
		}
		b.decoder = decoder
	}
	n, err := b.decoder.Read(p)
	return n, gzipError(err)
}

func (b *gzipBody) Close() error { return b.encoded.Close() } //nolint:wrapcheck // passes through what net/http says

// gzipError replaces the errors of corrupt input. Those of the connection stay.
func gzipError(err error) error {
	var corrupt flate.CorruptInputError
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &corrupt) {
		return fmt.Errorf("%w: %w", ErrCorruptGzip, err)
	}
	return err
}

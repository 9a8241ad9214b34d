package httpkit_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/postcard-mms/postcard/internal/httpkit"
)

// FuzzBody reads arbitrary bytes as gzip: never more than the limit, and what gzip wrote
// comes back.
func FuzzBody(f *testing.F) {
	f.Add([]byte("hello"), true)
	f.Add([]byte("\x1f\x8b\x08\x00"), false)
	f.Add(bytes.Repeat([]byte{0}, 2000), true)
	f.Add([]byte{}, false)
	const limit = 1000
	f.Fuzz(func(t *testing.T, content []byte, compress bool) {
		encoded := bytes.NewBuffer(content)
		if compress {
			encoded = &bytes.Buffer{}
			w := gzip.NewWriter(encoded)
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		r := httptest.NewRequest(http.MethodPost, "/", encoded)
		r.Header.Set("Content-Encoding", "gzip")
		body, err := httpkit.Body(httptest.NewRecorder(), r, limit)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		var tooLarge *http.MaxBytesError
		switch {
		case len(got) > limit:
			t.Errorf("read %d bytes, want at most %d", len(got), limit)
		case err != nil && !errors.As(err, &tooLarge) && !errors.Is(err, httpkit.ErrCorruptGzip):
			t.Errorf("got error %v", err)
		case compress && len(content) <= limit/2 && (err != nil || !bytes.Equal(got, content)):
			t.Errorf("got %q, %v, want %q", got, err, content)
		case compress && len(content) > limit && !errors.As(err, &tooLarge):
			t.Errorf("got %d bytes and %v, want an error", len(got), err)
		}
	})
}

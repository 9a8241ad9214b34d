package httpkit

import (
	"bytes"
	"net/http"
	"time"
)

// ServePicture answers with a picture that belongs to one user. Its hash is the ETag: the
// bytes behind a hash never change.
func ServePicture(w http.ResponseWriter, r *http.Request, mediaType, hash string, data []byte) {
	header := w.Header()
	header.Set("Content-Type", mediaType)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	header.Set("Cache-Control", "private, no-cache") // asked for again, since the user may have logged out
	header.Set("ETag", `"`+hash+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

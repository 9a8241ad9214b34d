package plivosim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	_ "image/gif"  // reads dimensions
	_ "image/jpeg" // reads dimensions
	_ "image/png"  // reads dimensions
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Documented limits of media. Whether a megabyte has 1,000,000 or 1,048,576 bytes is not
// documented; the smaller one finds more mistakes of clients.
const (
	maxMediaBytes   = 2_000_000 // of one attachment
	maxMessageBytes = 5_000_000 // of the text and all attachments of a message
	unusedMediaLife = 6 * time.Hour
	usedMediaLife   = 365 * 24 * time.Hour
)

// The error codes of media. Plivo documents only the first; third parties report the others.
const (
	codeTooLarge    = "120"
	codeUnsupported = "130"
	codeUnusable    = "140"
)

// File describes bytes that the simulator was sent or has fetched.
type File struct {
	SHA256 string `json:"sha256"` // hexadecimal
	Type   string `json:"type"`   // media type, as declared
	Bytes  int    `json:"bytes"`
	Width  int    `json:"width"` // in pixels, before any rotation; 0 unless JPEG, PNG or GIF
	Height int    `json:"height"`
}

// Medium is an attachment of a message: an upload, or what was fetched from a URL.
type Medium struct {
	MediaID string `json:"mediaId"` // empty for a URL
	URL     string `json:"url"`     // empty for an upload
	File
}

// Upload is a file that was uploaded and stored, whatever the response said.
type Upload struct {
	MediaID    string    `json:"mediaId"`
	FileName   string    `json:"fileName"`
	UploadedAt time.Time `json:"uploadedAt"`
	Used       bool      `json:"used"`      // by a message
	ExpiresAt  time.Time `json:"expiresAt"` // unknown to requests from this time on
	File
}

// Content is a file, with how often it came.
type Content struct {
	File
	Uploads int `json:"uploads"`
	Fetches int `json:"fetches"`
}

// content is a Content with its bytes.
type content struct {
	Content
	data []byte
}

// mediaError says why Plivo cannot use a file, with the error code of messages that fail
// for it.
type mediaError struct {
	code string
	text string
}

// Uploads returns all files that were stored, in the order of their arrival, also those
// that have expired.
func (s *Simulator) Uploads() []Upload {
	e := s.current()
	e.mu.Lock()
	defer e.mu.Unlock()
	uploads := make([]Upload, len(e.uploads))
	for i, u := range e.uploads {
		uploads[i] = *u
	}
	return uploads
}

// Contents returns everything that was uploaded or fetched, each content once, in the
// order in which they first came.
func (s *Simulator) Contents() []Content {
	e := s.current()
	e.mu.Lock()
	defer e.mu.Unlock()
	contents := make([]Content, len(e.contents))
	for i, c := range e.contents {
		contents[i] = c.Content
	}
	return contents
}

// Data returns the bytes of a content.
func (s *Simulator) Data(sha256 string) (File, []byte, bool) {
	e := s.current()
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.content(sha256)
	if c == nil {
		return File{}, nil, false
	}
	return c.File, bytes.Clone(c.data), true
}

// ForgetMedia makes all media ids unknown, as if they had expired. Uploads and Contents
// still return them.
func (s *Simulator) ForgetMedia() {
	now, e := s.cfg.Now(), s.current()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, u := range e.uploads {
		if u.ExpiresAt.After(now) {
			u.ExpiresAt = now
		}
	}
}

// content returns nil if there is none. The epoch's mutex must be held.
func (e *epoch) content(sha256 string) *content {
	i := slices.IndexFunc(e.contents, func(c *content) bool { return c.SHA256 == sha256 })
	if i < 0 {
		return nil
	}
	return e.contents[i]
}

// keep stores the bytes of a file once, and counts it. The epoch's mutex must be held.
func (e *epoch) keep(f File, data []byte, uploads, fetches int) {
	c := e.content(f.SHA256)
	if c == nil {
		c = &content{Content: Content{File: f}, data: data}
		e.contents = append(e.contents, c)
	}
	c.Uploads += uploads
	c.Fetches += fetches
}

// addUpload stores a file under a new media id.
func (e *epoch) addUpload(name string, f File, data []byte, now time.Time) Upload {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keep(f, data, 1, 0)
	u := &Upload{MediaID: uuid.NewString(), FileName: name, UploadedAt: now, ExpiresAt: now.Add(unusedMediaLife), File: f}
	e.uploads = append(e.uploads, u)
	return *u
}

// liveUpload returns nil if the id is unknown or has expired. The epoch's mutex must be
// held.
func (e *epoch) liveUpload(mediaID string, now time.Time) *Upload {
	i := slices.IndexFunc(e.uploads, func(u *Upload) bool { return u.MediaID == mediaID })
	if i < 0 || !now.Before(e.uploads[i].ExpiresAt) {
		return nil
	}
	return e.uploads[i]
}

// findUploads returns the uploads of a message request, or the error text of a response
// with status 400, which is ours.
func (e *epoch) findUploads(ids []string, now time.Time) ([]Medium, string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var media []Medium
	for _, id := range ids {
		u := e.liveUpload(id, now)
		if u == nil {
			return nil, fmt.Sprintf("media_ids not found: %q", id)
		}
		media = append(media, Medium{MediaID: id, File: u.File})
	}
	return media, ""
}

// useUploads keeps uploads for longer, because a message has used them. The epoch's mutex
// must be held.
func (e *epoch) useUploads(media []Medium, now time.Time) {
	for _, m := range media {
		if u := e.liveUpload(m.MediaID, now); u != nil {
			u.Used, u.ExpiresAt = true, u.UploadedAt.Add(usedMediaLife)
		}
	}
}

// newFile describes a file.
func newFile(mediaType string, data []byte) File {
	sum := sha256.Sum256(data)
	f := File{SHA256: hex.EncodeToString(sum[:]), Type: mediaType, Bytes: len(data)}
	if config, _, err := image.DecodeConfig(bytes.NewReader(data)); err == nil {
		f.Width, f.Height = config.Width, config.Height
	}
	return f
}

// checkFile checks the size of a file, and that a picture has the declared type, which it
// returns without parameters.
func checkFile(declared string, data []byte) (string, *mediaError) {
	if len(data) == 0 {
		return "", &mediaError{codeUnusable, "the file is empty"}
	}
	if len(data) > maxMediaBytes {
		return "", &mediaError{codeTooLarge, fmt.Sprintf("the file is larger than %d bytes", maxMediaBytes)}
	}
	mediaType, _, err := mime.ParseMediaType(declared)
	if err != nil || !isSupported(mediaType) {
		return "", &mediaError{codeUnsupported, fmt.Sprintf("the type %q is not supported", declared)}
	}
	mediaType = strings.Replace(mediaType, "image/jpg", "image/jpeg", 1)
	found := http.DetectContentType(data)
	if isPicture := strings.HasPrefix(mediaType, "image/") || strings.HasPrefix(found, "image/"); isPicture && found != mediaType && mediaType != "image/x-xcf" {
		return "", &mediaError{codeUnsupported, fmt.Sprintf("the type is %s, but the content is %s", mediaType, found)}
	}
	return mediaType, nil
}

// isSupported knows the types that Plivo's pages and SDKs list; the exact list is not
// documented.
func isSupported(mediaType string) bool {
	major, minor, _ := strings.Cut(mediaType, "/")
	switch major {
	case "image":
		return slices.Contains([]string{"jpeg", "jpg", "png", "gif", "x-xcf"}, minor) // Gimp
	case "audio", "video":
		return true
	case "text":
		return slices.Contains([]string{"plain", "csv", "vcard", "x-vcard"}, minor)
	}
	return slices.Contains([]string{"application/pdf", "application/vnd.ms-excel", "application/ogg"}, mediaType)
}

// checkTotal checks the size of a whole message.
func checkTotal(text string, media []Medium) *mediaError {
	if len(text)+totalBytes(media) > maxMessageBytes {
		return &mediaError{codeTooLarge, fmt.Sprintf("the text and the attachments are larger than %d bytes in total", maxMessageBytes)}
	}
	return nil
}

func totalBytes(media []Medium) int {
	total := 0
	for _, m := range media {
		total += m.Bytes
	}
	return total
}

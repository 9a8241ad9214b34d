package mms

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// ContentHash identifies the bytes of a picture: it is their SHA-256.
type ContentHash [32]byte

// String is the hash in hexadecimal.
func (h ContentHash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether there is no content.
func (h ContentHash) IsZero() bool { return h == ContentHash{} }

// PictureInfo describes a picture.
type PictureInfo struct {
	Type          string // media type, like image/jpeg
	Bytes         int
	Width, Height int // pixels, as people see the picture
}

// Content is a picture as it is stored and sent, without metadata. It is stored once,
// however many uploads and messages use it.
type Content struct {
	Hash ContentHash
	PictureInfo
	Data    []byte
	Preview ContentHash // of a small version for lists; zero if it has none
}

// Upload is a picture that a user has uploaded.
type Upload struct {
	ID        uuid.UUID // UUIDv7; the media id of the API
	Workspace uuid.UUID
	Uploaded  PictureInfo // the file as it came
	Sent      ContentHash // what is sent, unless a message has several pictures or its own Fit
	SentInfo  PictureInfo
	Original  ContentHash // the uploaded picture without metadata; zero if it is too large to be sent as it is
	Changed   []string    // what was done to the picture (see package picture)

	CreatedAt time.Time
	ExpiresAt time.Time // no new message can use it after this
}

// Limits of uploads. A picture's own limits are those of package picture.
const (
	MaxUploads     = 10        // files of one request
	MaxPlivoMedia  = 2_000_000 // bytes of one attachment (Plivo docs, MMS)
	MaxPlivoTotal  = 5_000_000 // bytes of the text and all attachments of a message (Plivo docs, MMS)
	UploadLifetime = 7 * 24 * time.Hour
)

var (
	// ErrNoUpload says that an upload does not exist, has expired, or belongs to another
	// user. The cases look the same on purpose.
	ErrNoUpload = errors.New("no such upload")
)

// QuotaError says that uploads exceed their workspace's quota.
type QuotaError struct {
	Quota, Used, Requested int64 // bytes
}

func (e QuotaError) Error() string {
	return fmt.Sprintf("the quota for uploads is %d MB: %d MB are in use, and %d MB more were uploaded", e.Quota/1e6, e.Used/1e6, e.Requested/1e6)
}

// MessageUpload is an upload that a message sends.
type MessageUpload struct {
	ID      uuid.UUID
	Content ContentHash // what the message sends of it
}

// Fit says whether the pictures of a message are made to fit the budget.
type Fit string

// The values of Fit. An upload always fits, so FitAuto and FitAlways are the same for it;
// with FitNever its original is sent, without metadata.
const (
	FitAuto   Fit = "auto"   // a picture behind a URL is copied if it would not fit
	FitAlways Fit = "always" // each picture behind a URL is copied
	FitNever  Fit = "never"  // the URL is sent, whatever is behind it
)

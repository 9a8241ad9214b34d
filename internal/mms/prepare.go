package mms

import (
	"fmt"
	"time"

	"github.com/google/uuid"
)

// MediaCheckLifetime is how long the result of a media check is used.
const MediaCheckLifetime = 10 * time.Minute

// Plivo deletes an upload that no message has used after 6 hours, and keeps others for a
// year (Plivo docs, media upload).
const (
	UnusedPlivoMedia = 5 * time.Hour
	UsedPlivoMedia   = 300 * 24 * time.Hour
)

// CheckResult is the result of a media check.
type CheckResult string

// The results.
const (
	CheckPassed CheckResult = "passed"
	CheckFailed CheckResult = "failed" // Plivo could not use it
	CheckRetry  CheckResult = "retry"  // the host did not answer, or with an error that may pass
)

// MediaCheck is what was found behind a media URL.
type MediaCheck struct {
	URL       string
	CheckedAt time.Time // by the database's clock; set when read
	Result    CheckResult
	Reason    Reason // of a failure
	Detail    string // in plain language: what was found, and what to do
	PictureInfo
	Redirected bool
	Fits       bool        // it can be sent as it is within the whole budget
	Copy       ContentHash // the picture without metadata, made to fit; zero if there is none
	Preview    ContentHash // a small version for lists; zero if there is none
}

// Preparation is a queued message whose pictures are not ready yet: a URL has not been
// checked, or Plivo does not have an upload.
type Preparation struct {
	MessageID uuid.UUID
	Fit       Fit
	ExpiresAt time.Time
	Media     []MessageMedium
}

// MessageMedium is one attachment of a message: a URL, a stored picture, or a URL whose
// picture has been copied.
type MessageMedium struct {
	Position int         // from 1
	URL      string      // empty for an upload
	Content  ContentHash // what is sent in place of the URL; zero: the URL
	Bytes    int         // of the content
	AtPlivo  bool        // Plivo has the content
}

// Prepared is the outcome for one message: it can be sent, with these contents in place
// of URLs.
type Prepared struct {
	MessageID uuid.UUID
	Contents  map[int]ContentHash // by position; only those that change
	Previews  map[int]ContentHash // by position
	Note      string              // for the history; empty for none
}

// PlivoMediaError is Plivo's rejection of a picture. No other picture is
// affected, and another upload of this one fails as well.
type PlivoMediaError struct {
	Text string // Plivo's, at most MaxDetail bytes
}

func (e PlivoMediaError) Error() string { return "Plivo rejected the picture: " + e.Text }

// TooLargeCode is Plivo's error code for media that are too large (Plivo support, MMS file
// sizes). Such a message is not charged.
const TooLargeCode = "120"

// RefitCandidate is a message that failed at Plivo with TooLargeCode.
type RefitCandidate struct {
	Unreported
	Media    []MessageMedium
	FailedAt time.Time
}

// Describe says in plain language what was found, and what happens with it.
func (c MediaCheck) Describe() string {
	if c.Result != CheckPassed {
		return c.Detail
	}
	text := fmt.Sprintf("A file of type %s, %s.", c.Type, FormatBytes(c.Bytes))
	if c.Width > 0 {
		text = fmt.Sprintf("A picture of %d × %d pixels, %s.", c.Width, c.Height, FormatBytes(c.Bytes))
	}
	switch {
	case c.Redirected:
		text += " The link leads to another one, so a copy is sent."
	case !c.Fits && c.Width > 0:
		text += " It is made smaller before it is sent."
	}
	return text
}

// FormatBytes formats a size for people, like "1.2 MB" or "260 kB".
func FormatBytes(n int) string {
	if n >= 1_000_000 {
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d kB", max(1, n/1000))
}

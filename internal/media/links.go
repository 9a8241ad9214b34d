package media

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

// How many links a user may have checked in a process: each makes Postcard call another
// host.
const (
	checksPerMinute = 30
	checksAtOnce    = 10
)

// TooManyChecksError says that a user has had too many links checked.
type TooManyChecksError struct{ RetryAfter time.Duration }

func (e TooManyChecksError) Error() string {
	return fmt.Sprintf("too many links were checked: wait %.0f seconds", math.Ceil(e.RetryAfter.Seconds()))
}

// Checker checks what is behind a URL.
type Checker interface {
	Check(ctx context.Context, url string) (check mms.MediaCheck, data []byte, err error)
}

// Thumbnails makes small versions of pictures, and the zero value of what is no picture.
type Thumbnails interface {
	Thumbnail(ctx context.Context, data []byte) (mms.Content, error)
}

// Links checks links to pictures for people, before they send them.
type Links struct {
	Rules   mms.Rules
	Checker Checker
	Store   interface {
		// ForgetFailedCheck lets the worker check a URL again that has failed.
		ForgetFailedCheck(ctx context.Context, url string) error
	}
	Thumbnails Thumbnails

	mu     sync.Mutex
	limits map[uuid.UUID]*rate.Limiter // by user; never shrinks, since users do not become many
}

// Check checks what is behind a link now. It returns invalid.Fields if Plivo could not fetch the
// URL, and TooManyChecksError if the user has to wait.
func (l *Links) Check(ctx context.Context, user uuid.UUID, raw string) (mms.MediaCheck, error) {
	check, _, err := l.check(ctx, user, raw)
	return check, err
}

// CheckAndShow is Check with a small version of the picture, for pages. That is zero if there
// is no picture, or other pictures took too long.
func (l *Links) CheckAndShow(ctx context.Context, user uuid.UUID, raw string) (mms.MediaCheck, mms.Content, error) {
	check, data, err := l.check(ctx, user, raw)
	if err != nil || check.Result != mms.CheckPassed || check.Width == 0 {
		return check, mms.Content{}, err
	}
	thumbnail, err := l.Thumbnails.Thumbnail(ctx, data)
	if errors.Is(err, context.DeadlineExceeded) {
		return check, mms.Content{}, nil
	}
	return check, thumbnail, err
}

func (l *Links) check(ctx context.Context, user uuid.UUID, raw string) (mms.MediaCheck, []byte, error) {
	url, err := l.Rules.ParseMediaURL(raw)
	if err != nil {
		return mms.MediaCheck{}, nil, invalid.Fields{{Name: "url", Rule: "media_url", Message: err.Error()}}
	}
	if wait := l.limit(user); wait > 0 {
		return mms.MediaCheck{}, nil, TooManyChecksError{RetryAfter: wait}
	}
	check, data, err := l.Checker.Check(ctx, url)
	if err == nil && check.Result == mms.CheckPassed {
		err = l.Store.ForgetFailedCheck(ctx, url)
	}
	return check, data, err
}

// limit returns how long the user has to wait; 0 if a link may be checked now.
func (l *Links) limit(user uuid.UUID) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.limits[user]
	if limit == nil {
		if l.limits == nil {
			l.limits = map[uuid.UUID]*rate.Limiter{}
		}
		limit = rate.NewLimiter(rate.Every(time.Minute/checksPerMinute), checksAtOnce)
		l.limits[user] = limit
	}
	reservation := limit.Reserve()
	if wait := reservation.Delay(); wait > 0 {
		reservation.Cancel()
		return wait
	}
	return 0
}

package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	_ "time/tzdata" // so that time zones are known on every machine
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/pasted"
)

var (
	// ErrDisabled says that an admin has disabled the user, who cannot log in.
	ErrDisabled = errors.New("the user is disabled")

	// ErrNoSession says that a session does not exist, has ended, or is another user's.
	ErrNoSession = errors.New("no such session")

	// ErrNoReset says that a link that resets a password is unknown, used or expired.
	ErrNoReset = errors.New("no such password reset")
)

// Session is a browser in which a user is logged in.
type Session struct {
	ID         uuid.UUID // random; not secret
	UserID     uuid.UUID
	Browser    string // such as Firefox on Windows
	Address    string // of the last use
	CreatedAt  time.Time
	LastUsedAt time.Time // accurate to a minute
}

// LogValue logs the session's ID only.
func (s Session) LogValue() slog.Value { return slog.StringValue(s.ID.String()) }

// ResetLifetime is how long a link that resets a password works.
const ResetLifetime = 30 * time.Minute

// ResetToken is the secret of a link that resets a password. It must never be logged or
// stored.
type ResetToken string

// NewResetToken returns a random token of 130 bits.
func NewResetToken() ResetToken { return ResetToken(rand.Text()) }

// LogValue keeps the token out of logs.
func (ResetToken) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// Hash returns the hash under which the token is stored. The token has 130 random bits, so
// a fast hash is enough.
func (t ResetToken) Hash() [32]byte { return sha256.Sum256([]byte(t)) }

// Link returns the address of the page that resets the password. publicURL has no trailing
// slash.
func (t ResetToken) Link(publicURL string) string { return publicURL + "/reset/new?token=" + string(t) }

// ProfileParams are a user's changes of their profile, as submitted. nil leaves a value
// unchanged.
type ProfileParams struct {
	Name            *string
	Email           *string
	TimeZone        *string
	NewPassword     *string
	CurrentPassword string // needed to change the email or the password
}

// LogValue keeps the values out of logs.
func (ProfileParams) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// Limits of a profile.
const (
	MaxUserName = 100 // characters
	maxTimeZone = 64  // bytes; the longest of the IANA database has 32
)

// Change returns the user with the changes, except for the password, and whether they need
// the current password. It returns all violations of the fields name, email, timeZone and
// newPassword as invalid.Fields.
func (u User) Change(p ProfileParams) (changed User, credentials bool, err error) {
	var violations invalid.Fields
	changed = u
	if p.Name != nil {
		changed.Name = pasted.Clean(*p.Name)
		validateUserName(changed.Name, &violations)
	}
	if p.Email != nil {
		changed.Email = NormalizeEmail(*p.Email)
		if changed.Email != u.Email { // an email of an earlier version stays valid
			validateEmail(changed.Email, &violations)
		}
	}
	if p.TimeZone != nil {
		changed.TimeZone = pasted.Clean(*p.TimeZone)
		validateTimeZone(changed.TimeZone, &violations)
	}
	if p.NewPassword != nil {
		validatePassword("newPassword", *p.NewPassword, &violations)
	}
	return changed, changed.Email != u.Email || p.NewPassword != nil, violations.Err()
}

func validateUserName(name string, violations *invalid.Fields) {
	switch {
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		violations.Add("name", "control", "must be valid UTF-8 without control characters")
	case utf8.RuneCountInString(name) > MaxUserName:
		violations.Add("name", "max_length", fmt.Sprintf("must be at most %d characters long", MaxUserName))
	}
}

func validateTimeZone(zone string, violations *invalid.Fields) {
	if zone == "" {
		violations.Add("timeZone", "required", "is missing")
		return
	}
	// Local is a zone for Go alone: that of this machine.
	if _, err := time.LoadLocation(zone); err != nil || zone == "Local" || len(zone) > maxTimeZone {
		violations.Add("timeZone", "time_zone", "must be a time zone like America/New_York or UTC")
	}
}

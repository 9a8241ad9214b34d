package auth

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/identity"
)

// SetDecoy replaces the hash that is compared if the email is unknown.
func (s *Service) SetDecoy(hash identity.PasswordHash) { s.decoy = hash }

// ForgetSessionID makes the session one of an earlier version.
func (s *Service) ForgetSessionID(ctx context.Context) { s.sessions.Remove(ctx, sessionKey) }

// BrowserName returns a short name for a User-Agent header.
var BrowserName = browserName

// SendWaiting sends the mails that wait.
func (s *Service) SendWaiting(ctx context.Context) {
	for len(s.mail.jobs) > 0 {
		s.mail.do(ctx, <-s.mail.jobs)
	}
}

// SetNow replaces the clock.
func (s *Service) SetNow(now func() time.Time) { s.now = now }

// PendingLifetime is how long a person may take at the provider of single sign-on.
const PendingLifetime = pendingLifetime

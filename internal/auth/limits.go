package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"time"
)

// TooManyAttemptsError says that there were too many attempts to log in or sign up.
type TooManyAttemptsError struct{ RetryAfter time.Duration }

func (TooManyAttemptsError) Error() string { return "too many attempts; try again later" }

// Throttle counts attempts over all api processes.
type Throttle interface {
	// Throttle counts an attempt under the key. It returns how long to wait if
	// there are more than limit in the current window, else 0.
	Throttle(ctx context.Context, key [32]byte, limit int, window time.Duration) (time.Duration, error)

	// Unthrottle resets the key's count.
	Unthrottle(ctx context.Context, key [32]byte) error
}

// limit bounds how often something may be attempted. An attempt is counted before
// the password is checked, so concurrent attempts gain nothing.
type limit struct {
	name   string
	max    int
	window time.Duration
}

// The limits per address allow for an office behind one address. A guesser is stopped by
// the limit for one account from one address; the limit per account stops those who guess
// from many addresses. Neither applies to a browser that has logged in to the account
// before, which is counted alone: guessers cannot lock the owner out.
var (
	loginPerAddress           = limit{name: "login-address", max: 60, window: 15 * time.Minute}
	loginPerAccountAndAddress = limit{name: "login-account-address", max: 10, window: 15 * time.Minute}
	loginPerAccount           = limit{name: "login-account", max: 100, window: 15 * time.Minute}
	loginPerKnownBrowser      = limit{name: "login-browser", max: 10, window: 15 * time.Minute}
	signupPerAddress          = limit{name: "signup-address", max: 20, window: time.Hour}
	ssoPerAddress             = limit{name: "sso-address", max: 200, window: 15 * time.Minute} // each stores a session
	ssoPerState               = limit{name: "sso-state", max: 1, window: pendingLifetime}

	// A thief of a session guesses in that session, so the owner is not locked out.
	confirmPerSession = limit{name: "confirm-session", max: 10, window: 15 * time.Minute}

	// A mailbox must not be filled by somebody else.
	resetPerAddress    = limit{name: "reset-address", max: 20, window: time.Hour}
	resetPerEmail      = limit{name: "reset-email", max: 5, window: time.Hour}
	resetUsePerAddress = limit{name: "reset-use-address", max: 60, window: 15 * time.Minute}
)

// key returns the throttle key under this limit of an account, address or browser.
func (l limit) key(subject string) [32]byte {
	return sha256.Sum256([]byte(l.name + "\x00" + subject))
}

// network returns the network whose attempts are counted together: a single IPv4
// address, or the /64 of an IPv6 address, since one subscriber has at least a /64.
func network(clientIP string) string {
	addr, err := netip.ParseAddr(clientIP)
	if err != nil || addr.Unmap().Is4() {
		return clientIP
	}
	prefix, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return clientIP
	}
	return prefix.String()
}

func (s *Service) limit(ctx context.Context, l limit, subject string) error {
	wait, err := s.throttle.Throttle(ctx, l.key(subject), l.max, l.window)
	if err != nil {
		return fmt.Errorf("counting attempts: %w", err)
	}
	if wait > 0 {
		return TooManyAttemptsError{RetryAfter: wait}
	}
	return nil
}

// limitLogin counts an attempt to log in to an account under every limit that applies.
// It returns the throttle key that a successful log-in resets. browser is the id of a
// browser that is known to the account, or empty.
func (s *Service) limitLogin(ctx context.Context, clientIP, email, browser string) (reset [32]byte, err error) {
	if browser != "" {
		subject := email + "\x00" + browser
		return loginPerKnownBrowser.key(subject), s.limit(ctx, loginPerKnownBrowser, subject)
	}
	address := network(clientIP)
	subject := email + "\x00" + address
	if err := s.limit(ctx, loginPerAddress, address); err != nil {
		return reset, err
	}
	if err := s.limit(ctx, loginPerAccountAndAddress, subject); err != nil {
		return reset, err
	}
	return loginPerAccountAndAddress.key(subject), s.limit(ctx, loginPerAccount, email)
}

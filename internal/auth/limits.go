package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"time"
)

// TooManyAttemptsError says that tries are limited.
type TooManyAttemptsError struct{ RetryAfter time.Duration }

func (TooManyAttemptsError) Error() string { return "too many attempts; try again later" }

// Throttle counts tries, for all api processes together. Throttle counts one
// more try under the key and returns how long to wait when there were more
// than limit in the current window, else 0. Unthrottle forgets the key.
type Throttle interface {
	Throttle(ctx context.Context, key [32]byte, limit int, window time.Duration) (time.Duration, error)
	Unthrottle(ctx context.Context, key [32]byte) error
}

// limit is how often something may be tried. Tries count before the password
// is looked at, so many at once gain nothing.
type limit struct {
	what   string
	max    int
	window time.Duration
}

// The address limit leaves room for an office behind one address; the account
// limit is for guessing one person's password from many addresses.
var (
	loginPerAddress  = limit{what: "login-address", max: 60, window: 15 * time.Minute}
	loginPerAccount  = limit{what: "login-account", max: 10, window: 15 * time.Minute}
	signupPerAddress = limit{what: "signup-address", max: 20, window: time.Hour}
)

func (l limit) key(of string) [32]byte { return sha256.Sum256([]byte(l.what + "\x00" + of)) }

// network is what tries are counted for: an IPv4 address, or the /64 of an
// IPv6 address, since that is the least that one subscriber gets, and holds
// more addresses than could ever be tried.
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

func (s *Service) limit(ctx context.Context, l limit, of string) error {
	wait, err := s.throttle.Throttle(ctx, l.key(of), l.max, l.window)
	if err != nil {
		return fmt.Errorf("counting tries: %w", err)
	}
	if wait > 0 {
		return TooManyAttemptsError{RetryAfter: wait}
	}
	return nil
}

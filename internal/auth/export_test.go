package auth

import (
	"github.com/alexedwards/scs/v2"

	"github.com/postcard-mms/postcard/internal/identity"
)

// NewWithDecoy is New without the time that hashing a decoy takes.
func NewWithDecoy(users Users, throttle Throttle, sessions *scs.SessionManager, signupOpen bool, decoy identity.PasswordHash) *Service {
	return &Service{users: users, throttle: throttle, sessions: sessions, signupOpen: signupOpen, decoy: decoy}
}

// SetDecoy replaces the hash that is compared if the email is unknown.
func (s *Service) SetDecoy(hash identity.PasswordHash) { s.decoy = hash }

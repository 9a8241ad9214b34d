package auth

import (
	"github.com/alexedwards/scs/v2"

	"github.com/postcard-mms/postcard/internal/identity"
)

// NewWithDecoy is New without the time it takes to make a good decoy.
func NewWithDecoy(users Users, throttle Throttle, sessions *scs.SessionManager, signupOpen bool, decoy identity.PasswordHash) *Service {
	return &Service{users: users, throttle: throttle, sessions: sessions, signupOpen: signupOpen, decoy: decoy}
}

// SetDecoy replaces the hash that unknown emails are compared with.
func (s *Service) SetDecoy(hash identity.PasswordHash) { s.decoy = hash }

package auth

import "github.com/postcard-mms/postcard/internal/identity"

// SetDecoy replaces the hash that is compared if the email is unknown.
func (s *Service) SetDecoy(hash identity.PasswordHash) { s.decoy = hash }

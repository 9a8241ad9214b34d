package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/pasted"
)

var (
	// ErrInvalidPasskey says that the answer of a passkey does not fit the request.
	ErrInvalidPasskey = errors.New("the passkey was not accepted")

	// ErrPasskeysOff says that the installation can have no passkeys.
	ErrPasskeysOff = errors.New("passkeys are off: they need SECRET_KEY, and a PUBLIC_URL with https or localhost")
)

// PasskeyStore stores passkeys. SecondFactorStore lists them.
type PasskeyStore interface {
	AddPasskey(ctx context.Context, user uuid.UUID, p identity.Passkey, codes [][32]byte) error
	UsePasskey(ctx context.Context, user uuid.UUID, p identity.Passkey) error
	RemovePasskey(ctx context.Context, user, id uuid.UUID) error
}

// UsePasskeys turns passkeys on for the installation at the public URL, to whose host they
// belong, and reports whether they can be used there. It must be called after
// UseSecondFactors and before the first request.
func (s *Service) UsePasskeys(store PasskeyStore, publicURL string) (bool, error) {
	u, err := url.Parse(publicURL)
	if err != nil {
		return false, fmt.Errorf("parsing the public URL: %w", err)
	}
	browsersAllow := u.Scheme == "https" || u.Hostname() == "localhost"
	if !s.SecondFactorsOn() || !browsersAllow || protocol.ValidateRPID(u.Hostname()) != nil {
		return false, nil
	}
	enforced := webauthn.TimeoutConfig{Enforce: true, Timeout: halfLifetime, TimeoutUVD: halfLifetime}
	s.webauthn, err = webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: totpIssuer, RPOrigins: []string{u.Scheme + "://" + u.Host},
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementPreferred, UserVerification: protocol.VerificationPreferred,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: enforced, Registration: enforced},
	})
	if err != nil {
		return false, fmt.Errorf("configuring passkeys: %w", err)
	}
	s.passkeys = store
	return true, nil
}

// PasskeysOn reports whether users can have passkeys.
func (s *Service) PasskeysOn() bool { return s.webauthn != nil }

// passkeyUser is a user as webauthn sees one. Its handle is the user's id.
type passkeyUser struct {
	identity.User
	credentials []webauthn.Credential
}

func (u *passkeyUser) WebAuthnID() []byte                         { return u.ID[:] }
func (u *passkeyUser) WebAuthnName() string                       { return u.Email }
func (u *passkeyUser) WebAuthnDisplayName() string                { return u.Email }
func (u *passkeyUser) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

func (s *Service) passkeyUser(ctx context.Context, user identity.User) (*passkeyUser, error) {
	factors, err := s.SecondFactors(ctx, user.ID)
	if err != nil {
		return nil, err
	}
	u := &passkeyUser{User: user}
	for _, p := range factors.Passkeys {
		var c webauthn.Credential
		if err := json.Unmarshal(p.Credential, &c); err != nil {
			return nil, fmt.Errorf("decoding passkey %s: %w", p.ID, err)
		}
		u.credentials = append(u.credentials, c)
	}
	return u, nil
}

// Keys of a session's values: what was asked of a passkey, so that an answer counts once.
const (
	registrationKey = "passkey_registration"
	assertionKey    = "passkey_assertion"
)

func (s *Service) rememberCeremony(ctx context.Context, key string, data *webauthn.SessionData) error {
	encoded, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encoding a request to a passkey: %w", err)
	}
	s.sessions.Put(ctx, key, string(encoded))
	return nil
}

// popCeremony returns ErrInvalidPasskey if nothing was asked.
func (s *Service) popCeremony(ctx context.Context, key string) (webauthn.SessionData, error) {
	var data webauthn.SessionData
	encoded := s.sessions.PopString(ctx, key)
	if encoded == "" {
		return data, ErrInvalidPasskey
	}
	if err := json.Unmarshal([]byte(encoded), &data); err != nil {
		return data, fmt.Errorf("decoding a request to a passkey: %w", err)
	}
	return data, nil
}

// StartPasskey returns what the browser needs to create a passkey. It returns
// ErrPasskeysOff, TooManyAttemptsError, or a violation of currentPassword as invalid.Fields.
func (s *Service) StartPasskey(ctx context.Context, p identity.Principal, password string) (*protocol.CredentialCreation, error) {
	if !s.PasskeysOn() {
		return nil, ErrPasskeysOff
	}
	if err := s.confirmChange(ctx, p, password); err != nil {
		return nil, err
	}
	user, err := s.passkeyUser(ctx, identity.User{ID: p.UserID, Email: p.Email})
	if err != nil {
		return nil, err
	}
	options, data, err := s.webauthn.BeginRegistration(user, webauthn.WithExclusions(webauthn.Credentials(user.credentials).CredentialDescriptors()))
	if err != nil {
		return nil, fmt.Errorf("asking for a passkey: %w", err)
	}
	return options, s.rememberCeremony(ctx, registrationKey, data)
}

// AddPasskey adds the passkey that the browser has created and ends the user's other
// sessions. With the first second factor, it returns recovery codes, which are shown once.
// It returns ErrPasskeysOff, ErrInvalidPasskey, violations of name as invalid.Fields,
// identity.ErrFactorExists or identity.ErrTooManyPasskeys.
func (s *Service) AddPasskey(ctx context.Context, p identity.Principal, name, answer string) ([]identity.RecoveryCode, error) {
	if !s.PasskeysOn() {
		return nil, ErrPasskeysOff
	}
	name, err := passkeyName(name)
	if err != nil {
		return nil, err
	}
	data, err := s.popCeremony(ctx, registrationKey)
	if err != nil {
		return nil, err
	}
	user, err := s.passkeyUser(ctx, identity.User{ID: p.UserID, Email: p.Email})
	if err != nil {
		return nil, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(answer))
	if err != nil {
		return nil, invalidPasskey(err)
	}
	credential, err := s.webauthn.CreateCredential(user, data, parsed)
	if err != nil {
		return nil, invalidPasskey(err)
	}
	codes, err := s.storePasskey(ctx, user, name, credential)
	if err != nil {
		return nil, err
	}
	return codes, s.continueSession(ctx, p)
}

func (s *Service) storePasskey(ctx context.Context, user *passkeyUser, name string, credential *webauthn.Credential) ([]identity.RecoveryCode, error) {
	encoded, err := json.Marshal(credential)
	if err != nil {
		return nil, fmt.Errorf("encoding a passkey: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("generating the id of a passkey: %w", err)
	}
	factors, err := s.SecondFactors(ctx, user.ID)
	if err != nil {
		return nil, err
	}
	var codes []identity.RecoveryCode
	var hashes [][32]byte
	if !factors.Any() {
		codes, hashes = s.newRecoveryCodes(user.ID)
	}
	return codes, s.passkeys.AddPasskey(ctx, user.ID, identity.Passkey{ID: id, CredentialID: credential.ID, Credential: encoded, Name: name}, hashes)
}

func passkeyName(typed string) (string, error) {
	var violations invalid.Fields
	name := pasted.Clean(typed)
	switch {
	case name == "":
		violations.Add("name", "required", "is missing: enter a name that identifies the device")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		violations.Add("name", "control", "must be valid UTF-8 without control characters")
	case utf8.RuneCountInString(name) > identity.MaxPasskeyName:
		violations.Add("name", "max_length", fmt.Sprintf("must be at most %d characters long", identity.MaxPasskeyName))
	}
	return name, violations.Err()
}

// RemovePasskey removes a passkey of the user and ends the user's other sessions. It
// returns TooManyAttemptsError, a violation of currentPassword as invalid.Fields, or
// identity.ErrNoFactor.
func (s *Service) RemovePasskey(ctx context.Context, p identity.Principal, id uuid.UUID, password string) error {
	if !s.PasskeysOn() {
		return ErrPasskeysOff
	}
	if err := s.confirmChange(ctx, p, password); err != nil {
		return err
	}
	if err := s.passkeys.RemovePasskey(ctx, p.UserID, id); err != nil {
		return err
	}
	return s.continueSession(ctx, p)
}

// StartPasskeyLogin returns what the browser needs to log in with a passkey: with a half
// session one of its user's, as the second factor, otherwise any. A passkey that replaces
// the password too must verify the user, by a PIN or a fingerprint.
func (s *Service) StartPasskeyLogin(ctx context.Context) (*protocol.CredentialAssertion, error) {
	if !s.PasskeysOn() {
		return nil, ErrPasskeysOff
	}
	options, data, err := s.beginPasskeyLogin(ctx)
	if err != nil {
		return nil, err
	}
	return options, s.rememberCeremony(ctx, assertionKey, data)
}

func (s *Service) beginPasskeyLogin(ctx context.Context) (*protocol.CredentialAssertion, *webauthn.SessionData, error) {
	half, err := s.halfUser(ctx)
	if errors.Is(err, ErrNoHalfSession) {
		options, data, err := s.webauthn.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
		if err != nil {
			return nil, nil, fmt.Errorf("asking for any passkey: %w", err)
		}
		return options, data, nil
	}
	if err != nil {
		return nil, nil, err
	}
	user, err := s.passkeyUser(ctx, half)
	if err != nil {
		return nil, nil, err
	}
	if len(user.credentials) == 0 {
		return nil, nil, identity.ErrNoFactor
	}
	options, data, err := s.webauthn.BeginLogin(user)
	if err != nil {
		return nil, nil, fmt.Errorf("asking for a passkey: %w", err)
	}
	return options, data, nil
}

// LoginWithPasskey starts the session of the user whose passkey has answered what
// StartPasskeyLogin asked. It returns ErrPasskeysOff, ErrInvalidPasskey, ErrNoHalfSession,
// identity.ErrDisabled or TooManyAttemptsError.
func (s *Service) LoginWithPasskey(ctx context.Context, clientIP, answer string) (identity.Principal, error) {
	if !s.PasskeysOn() {
		return identity.Principal{}, ErrPasskeysOff
	}
	if err := s.limit(ctx, loginPerAddress, network(clientIP)); err != nil {
		return identity.Principal{}, err
	}
	data, err := s.popCeremony(ctx, assertionKey)
	if err != nil {
		return identity.Principal{}, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(answer))
	if err != nil {
		return identity.Principal{}, invalidPasskey(err)
	}
	user, credential, err := s.validatePasskey(ctx, data, parsed)
	if err != nil {
		return identity.Principal{}, err
	}
	if credential.Authenticator.CloneWarning { // its counter went back
		return identity.Principal{}, ErrInvalidPasskey
	}
	encoded, err := json.Marshal(credential)
	if err != nil {
		return identity.Principal{}, fmt.Errorf("encoding a passkey: %w", err)
	}
	err = s.passkeys.UsePasskey(ctx, user.ID, identity.Passkey{CredentialID: credential.ID, Credential: encoded})
	if errors.Is(err, identity.ErrNoFactor) {
		return identity.Principal{}, ErrInvalidPasskey
	}
	if err != nil {
		return identity.Principal{}, err
	}
	return s.startSession(ctx, user)
}

// validatePasskey returns the user of the passkey. A request to the passkeys of one user is
// valid only in that user's half session.
func (s *Service) validatePasskey(ctx context.Context, data webauthn.SessionData, parsed *protocol.ParsedCredentialAssertionData) (identity.User, *webauthn.Credential, error) {
	if len(data.UserID) == 0 {
		return s.validateDiscoveredPasskey(ctx, data, parsed)
	}
	half, err := s.halfUser(ctx)
	if err != nil {
		return identity.User{}, nil, err
	}
	user, err := s.passkeyUser(ctx, half)
	if err != nil {
		return identity.User{}, nil, err
	}
	credential, err := s.webauthn.ValidateLogin(user, data, parsed)
	if err != nil {
		return identity.User{}, nil, invalidPasskey(err)
	}
	return half, credential, nil
}

func (s *Service) validateDiscoveredPasskey(ctx context.Context, data webauthn.SessionData, parsed *protocol.ParsedCredentialAssertionData) (identity.User, *webauthn.Credential, error) {
	var found *passkeyUser
	var failure error // of the store, which the library hides
	_, credential, err := s.webauthn.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
		id, err := uuid.FromBytes(handle)
		if err != nil {
			return nil, ErrInvalidPasskey
		}
		user, err := s.users.UserByID(ctx, id)
		if err == nil {
			found, err = s.passkeyUser(ctx, user)
		}
		if err != nil && !errors.Is(err, identity.ErrNoUser) {
			failure = err
		}
		return found, err
	}, data, parsed)
	switch {
	case failure != nil:
		return identity.User{}, nil, failure
	case err != nil:
		return identity.User{}, nil, invalidPasskey(err)
	}
	return found.User, credential, nil
}

func invalidPasskey(err error) error { return fmt.Errorf("%w: %w", ErrInvalidPasskey, err) }

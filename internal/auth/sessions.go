package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
)

// Sessions stores in which browsers users are logged in. A session counts only while it is
// stored here, so ending it here ends it at all processes. UseSession and EndSession return
// identity.ErrNoSession, StartSession identity.ErrDisabled. EndSession and EndOtherSessions
// tell all processes to end the user's live streams.
type Sessions interface {
	StartSession(ctx context.Context, session identity.Session, lifetime time.Duration) error
	UseSession(ctx context.Context, user, id uuid.UUID, address string) error
	UserSessions(ctx context.Context, user uuid.UUID) ([]identity.Session, error)
	EndSession(ctx context.Context, user, id uuid.UUID) error
	EndOtherSessions(ctx context.Context, user, except uuid.UUID) error
}

// Sessions returns the sessions of a user, the most recently used first, and the id of the
// one that the context's request belongs to.
func (s *Service) Sessions(ctx context.Context, user uuid.UUID) (list []identity.Session, current uuid.UUID, err error) {
	_, current, _ = s.currentSession(ctx)
	list, err = s.users.UserSessions(ctx, user)
	return list, current, err
}

// EndSession ends a session of the user at all processes. It returns
// identity.ErrNoSession.
func (s *Service) EndSession(ctx context.Context, user, id uuid.UUID) error {
	return s.users.EndSession(ctx, user, id)
}

// EndOtherSessions ends all sessions of the user at all processes, except the one that the
// context's request belongs to.
func (s *Service) EndOtherSessions(ctx context.Context, user uuid.UUID) error {
	_, current, _ := s.currentSession(ctx)
	return s.users.EndOtherSessions(ctx, user, current)
}

// currentSession returns the user and the id of the session of the context's request. It
// does not check whether the session has ended.
func (s *Service) currentSession(ctx context.Context) (user, id uuid.UUID, ok bool) {
	user, err := uuid.Parse(s.sessions.GetString(ctx, userKey))
	if err != nil {
		return uuid.Nil, uuid.Nil, false
	}
	id, err = uuid.Parse(s.sessions.GetString(ctx, sessionKey))
	return user, id, err == nil
}

// endCurrentSession ends the session that the browser has, if any.
func (s *Service) endCurrentSession(ctx context.Context) error {
	user, id, ok := s.currentSession(ctx)
	if !ok {
		return nil
	}
	err := s.users.EndSession(ctx, user, id)
	if errors.Is(err, identity.ErrNoSession) {
		return nil
	}
	return err
}

// newSession returns a session of the user in the browser of the context's request.
func newSession(ctx context.Context, user uuid.UUID) (identity.Session, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return identity.Session{}, fmt.Errorf("generating a session id: %w", err)
	}
	session := identity.Session{ID: id, UserID: user, Browser: unknownBrowser}
	if exchange, ok := ctx.Value(exchangeKey{}).(exchange); ok {
		session.Browser = browserName(exchange.request.UserAgent())
		session.Address = httpkit.ClientIP(exchange.request)
	}
	return session, nil
}

// keepSession makes a stored session that of the browser, until the user's password changes.
func (s *Service) keepSession(ctx context.Context, session identity.Session, user identity.User) {
	s.sessions.Put(ctx, sessionKey, session.ID.String())
	s.sessions.Put(ctx, fingerprintKey, user.PasswordHash.Fingerprint())
	s.rememberBrowser(ctx, user)
}

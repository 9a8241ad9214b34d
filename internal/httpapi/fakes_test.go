package httpapi_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth/authtest"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeUsers keeps users in memory.
type fakeUsers struct {
	authtest.Accounts
	mu        sync.Mutex
	users     []identity.User
	loggedOut func(uuid.UUID)
	err       error
}

func (f *fakeUsers) find(is func(identity.User) bool) (identity.User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return identity.User{}, f.err
	}
	if i := slices.IndexFunc(f.users, is); i >= 0 {
		return authtest.InOwnWorkspace(f.users[i]), nil
	}
	return identity.User{}, identity.ErrNoUser
}

func (f *fakeUsers) UserByEmail(_ context.Context, email string) (identity.User, error) {
	return f.find(func(u identity.User) bool { return u.Email == email })
}

func (f *fakeUsers) UserByID(_ context.Context, id uuid.UUID) (identity.User, error) {
	return f.find(func(u identity.User) bool { return u.ID == id })
}

func (f *fakeUsers) CreateUser(ctx context.Context, u identity.User) error {
	if _, err := f.UserByEmail(ctx, u.Email); err == nil {
		return identity.ErrEmailTaken
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users = append(f.users, u)
	return f.err
}

func (f *fakeUsers) EndSession(ctx context.Context, user, id uuid.UUID) error {
	f.loggedOut(user)
	return f.Accounts.EndSession(ctx, user, id)
}

func (f *fakeUsers) replace(u identity.User) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.users {
		if f.users[i].ID == u.ID {
			f.users[i] = u
		}
	}
}

func (f *fakeUsers) setErr(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// fakeSessionStore is the memory store of scs, with injectable write errors.
type fakeSessionStore struct {
	*memstore.MemStore
	mu  sync.Mutex
	err error
}

func newSessions() *scs.SessionManager {
	sessions := scs.New()
	sessions.Store = &fakeSessionStore{MemStore: memstore.NewWithCleanupInterval(0)}
	return sessions
}

func (s *fakeSessionStore) setErr(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *fakeSessionStore) Commit(token string, b []byte, expiry time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return s.MemStore.Commit(token, b, expiry)
}

func (s *fakeSessionStore) Delete(token string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return s.MemStore.Delete(token)
}

// fakeThrottle counts attempts in memory; its window never ends.
type fakeThrottle struct {
	mu       sync.Mutex
	attempts map[[32]byte]int
	err      error
}

func (f *fakeThrottle) Throttle(_ context.Context, key [32]byte, limit int, _ time.Duration) (time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attempts == nil {
		f.attempts = map[[32]byte]int{}
	}
	f.attempts[key]++
	if f.attempts[key] > limit {
		return 90500 * time.Millisecond, f.err
	}
	return 0, f.err
}

func (f *fakeThrottle) Unthrottle(_ context.Context, key [32]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.attempts, key)
	return f.err
}

// late reports whether the deadline of ctx has passed.
func late(ctx context.Context) bool { return errors.Is(ctx.Err(), context.DeadlineExceeded) }

// fakeMessages keeps messages in memory, for the intake, the API and the hub.
type fakeMessages struct {
	mu           sync.Mutex
	histories    map[uuid.UUID]mms.History
	reads        map[uuid.UUID]int // calls of Message
	replies      map[uuid.UUID][]mms.Inbound
	position     mms.QueuePosition // of every message; zero if it is not waiting
	lastDecision mms.Decision      // the most recent one
	onCreate     func(mms.CreateRequest)
	onPage       func(mms.Page)
	onList       func(context.Context)
	err          error
}

func (f *fakeMessages) put(h mms.History) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.histories[h.ID] = h
}

// take returns a message and removes it.
func (f *fakeMessages) take(id uuid.UUID) mms.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.histories[id].Message
	delete(f.histories, id)
	return m
}

// finish makes a message final.
func (f *fakeMessages) finish(id uuid.UUID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, final := f.histories[id], noon
	h.Status, h.FinalAt = mms.Delivered, &final
	h.Version++
	f.histories[id] = h
}

func (f *fakeMessages) readsOf(id uuid.UUID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads[id]
}

func (f *fakeMessages) CreateMessage(_ context.Context, o mms.CreateRequest) (mms.CreateResult, error) {
	m := o.Message
	if f.onCreate != nil {
		f.onCreate(o)
	}
	m.CreatedAt, m.UpdatedAt, m.ExpiresAt = noon, noon, noon.Add(3*time.Hour)
	if f.err == nil {
		f.put(mms.History{Message: m})
	}
	return mms.CreateResult{Message: m}, f.err
}

func (f *fakeMessages) MessageCreatedUnder(context.Context, uuid.UUID, mms.Idempotency) (mms.CreateResult, error) {
	return mms.CreateResult{}, mms.ErrNotFound
}

func (f *fakeMessages) BatchCreatedUnder(context.Context, uuid.UUID, mms.Idempotency) (mms.BatchResult, error) {
	return mms.BatchResult{}, mms.ErrBatchNotFound
}

// BeginBatch returns a writer that keeps the messages of the batch and nothing else.
func (f *fakeMessages) BeginBatch(_ context.Context, request mms.BatchRequest) (mms.BatchWriter, *mms.BatchResult, error) {
	return &fakeBatchWriter{messages: f, batch: request.Batch}, nil, nil
}

type fakeBatchWriter struct {
	messages *fakeMessages
	batch    mms.Batch
}

func (w *fakeBatchWriter) Add(_ context.Context, messages []mms.Message) error {
	for _, m := range messages {
		w.messages.put(mms.History{Message: m})
	}
	w.batch.Created += len(messages)
	return w.messages.err
}

func (w *fakeBatchWriter) Commit(ctx context.Context, rejected mms.RowErrors) (mms.BatchResult, error) {
	if late(ctx) {
		return mms.BatchResult{}, ctx.Err()
	}
	w.batch.Rejected, w.batch.CreatedAt = rejected.Rejected, noon
	return mms.BatchResult{Batch: w.batch, Errors: rejected.First()}, w.messages.err
}

func (w *fakeBatchWriter) Rollback() {}

func (f *fakeMessages) Forecast(_ context.Context, m mms.Message, _ []mms.PhoneNumber) (mms.Forecast, error) {
	return mms.Forecast{Message: m, Interval: 4 * time.Second, Ahead: 2, SendAt: noon.Add(8 * time.Second), Cost: mms.ListPrice}, f.err
}

func (f *fakeMessages) Now(context.Context) (time.Time, error) { return noon, f.err }

func (f *fakeMessages) Cancel(ctx context.Context, workspace, id uuid.UUID) error {
	_, err := f.Version(ctx, workspace, id)
	return err
}

func (f *fakeMessages) Message(_ context.Context, workspace, id uuid.UUID) (mms.History, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads[id]++
	h, ok := f.histories[id]
	if f.err == nil && (!ok || h.Workspace != workspace) {
		return mms.History{}, mms.ErrNotFound
	}
	return h, f.err
}

func (f *fakeMessages) Version(ctx context.Context, workspace, id uuid.UUID) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if late(ctx) {
		return 0, ctx.Err()
	}
	h, ok := f.histories[id]
	if f.err == nil && (!ok || h.Workspace != workspace) {
		return 0, mms.ErrNotFound
	}
	return h.Version, f.err
}

func (f *fakeMessages) Messages(ctx context.Context, workspace uuid.UUID, p mms.Page) ([]mms.Message, uuid.UUID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if late(ctx) {
		return nil, uuid.Nil, ctx.Err()
	}
	if f.onList != nil {
		f.onList(ctx)
	}
	if f.onPage != nil {
		f.onPage(p)
	}
	var list []mms.Message
	ids := slices.SortedFunc(maps.Keys(f.histories), func(a, b uuid.UUID) int { return strings.Compare(b.String(), a.String()) })
	for _, id := range ids {
		m := f.histories[id].Message
		older := p.Before == uuid.Nil || id.String() < p.Before.String()
		if m.Workspace == workspace && older && (p.Recipient == "" || p.Recipient == m.Recipient) && (p.Status == "" || p.Status == m.Status) {
			list = append(list, m)
		}
	}
	if len(list) > p.Limit {
		return list[:p.Limit], list[p.Limit-1].ID, f.err
	}
	return list, uuid.Nil, f.err
}

func (f *fakeMessages) Replies(_ context.Context, _, id uuid.UUID) ([]mms.Inbound, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replies[id], nil
}

func (f *fakeMessages) QueuePosition(context.Context, uuid.UUID, uuid.UUID) (mms.QueuePosition, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.position, f.position != mms.QueuePosition{}, nil
}

// Decide records the decision and releases the message, which must be held.
func (f *fakeMessages) Decide(_ context.Context, workspace, id uuid.UUID, d mms.Decision) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, ok := f.histories[id]
	switch {
	case f.err != nil:
		return f.err
	case !ok || h.Workspace != workspace:
		return mms.ErrNotFound
	case !h.Held:
		return mms.ErrNotHeld
	}
	h.Held, f.lastDecision = false, d
	f.histories[id] = h
	return nil
}

// Workspaces and Versions implement live.Store.
func (f *fakeMessages) Workspaces(_ context.Context, ids []uuid.UUID) ([]uuid.UUID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var workspaces []uuid.UUID
	for _, id := range ids {
		workspaces = append(workspaces, f.histories[id].Workspace)
	}
	return workspaces, f.err
}

func (f *fakeMessages) Versions(context.Context, []uuid.UUID) (map[uuid.UUID]int64, error) {
	return nil, f.err
}

// fakeQueue drops every task.
type fakeQueue struct{}

func (fakeQueue) Enqueue(context.Context, mms.Task) error { return nil }

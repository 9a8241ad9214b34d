package auth_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/auth/authtest"
	"github.com/postcard-mms/postcard/internal/identity"
)

const (
	adaEmail, adaPassword = "ada@example.com", "correct horse battery"

	// adaHash has the lowest bcrypt cost, since the tests of limits compare many
	// passwords.
	adaHash identity.PasswordHash = "$2a$04$qsXqA2XUCZ0QQa3ovHRFBO1yjTSLOHMKrTL241J.egA6LC1Lf/5uy"

	// throttledFor is how long fakeThrottle makes a client wait.
	throttledFor = time.Minute
)

type fakeUsers struct {
	authtest.Accounts
	mu        sync.Mutex
	users     []identity.User
	loggedOut []uuid.UUID
	err       error
	useErr    error // of UseSession
}

func (f *fakeUsers) UseSession(ctx context.Context, user, id uuid.UUID, address string) error {
	if f.useErr != nil {
		return f.useErr
	}
	return f.Accounts.UseSession(ctx, user, id, address)
}

func (f *fakeUsers) find(matches func(identity.User) bool) (identity.User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.IndexFunc(f.users, matches); i >= 0 && f.err == nil {
		return authtest.InOwnWorkspace(f.users[i]), nil
	}
	if f.err != nil {
		return identity.User{}, f.err
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
	f.mu.Lock()
	f.loggedOut = append(f.loggedOut, user)
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return err
	}
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

func (f *fakeUsers) setHash(email string, hash identity.PasswordHash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.users {
		if f.users[i].Email == email {
			f.users[i].PasswordHash = hash
		}
	}
}

func (f *fakeUsers) remove(email string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users = slices.DeleteFunc(f.users, func(u identity.User) bool { return u.Email == email })
}

type fakeThrottle struct {
	mu       sync.Mutex
	attempts map[[32]byte]int
	err      error
}

func (f *fakeThrottle) Throttle(_ context.Context, key [32]byte, limit int, _ time.Duration) (time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts[key]++
	if f.attempts[key] > limit {
		return throttledFor, f.err
	}
	return 0, f.err
}

func (f *fakeThrottle) Unthrottle(_ context.Context, key [32]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.attempts, key)
	return f.err
}

func (f *fakeThrottle) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.attempts)
}

func (f *fakeThrottle) setErr(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// failingStore is scs's memory store with injected failures.
type failingStore struct {
	*memstore.MemStore
	findErr, commitErr error
}

func (s *failingStore) Find(token string) ([]byte, bool, error) {
	if s.findErr != nil {
		return nil, false, s.findErr
	}
	return s.MemStore.Find(token)
}

func (s *failingStore) Commit(token string, b []byte, expiry time.Time) error {
	if s.commitErr != nil {
		return s.commitErr
	}
	return s.MemStore.Commit(token, b, expiry)
}

// harness is a service whose dependencies are in memory.
type harness struct {
	t        *testing.T
	service  *auth.Service
	users    *fakeUsers
	throttle *fakeThrottle
	store    *failingStore
	mu       sync.Mutex
	failed   error // the last error that onError got
}

func newHarness(t *testing.T, signupOpen bool) *harness {
	t.Helper()
	h := &harness{
		t: t, users: &fakeUsers{users: []identity.User{{ID: uuid.New(), Email: adaEmail, PasswordHash: adaHash, Role: identity.RoleUser}}}, throttle: &fakeThrottle{attempts: map[[32]byte]int{}},
		store: &failingStore{MemStore: memstore.NewWithCleanupInterval(0)},
	}
	h.users.Find, h.users.Replace = h.users.find, h.users.replace
	sessions := scs.New()
	sessions.Store = h.store
	h.service = auth.New(h.users, h.throttle, sessions, signupOpen)
	h.service.SetDecoy(adaHash) // cheaper to compare with
	return h
}

func (h *harness) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// serve runs the handler behind the service's middleware.
func (h *harness) serve(w http.ResponseWriter, r *http.Request, handler http.HandlerFunc) {
	onError := func(w http.ResponseWriter, _ *http.Request, err error) {
		h.mu.Lock()
		h.failed = err
		h.mu.Unlock()
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte(errorBody))
	}
	h.service.Middleware(onError)(handler).ServeHTTP(w, r)
}

// errorBody is the response body of onError.
const errorBody = "sorry"

// browser keeps cookies between requests.
type browser struct {
	harness *harness
	cookie  *http.Cookie            // of the session
	others  map[string]*http.Cookie // by name
	last    *httptest.ResponseRecorder
}

func (h *harness) browser() *browser { return &browser{harness: h, others: map[string]*http.Cookie{}} }

// request runs do within a request of this browser, which then gets "done".
func (b *browser) request(do func(ctx context.Context)) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	for _, cookie := range b.others {
		r.AddCookie(cookie)
	}
	b.last = httptest.NewRecorder()
	b.harness.serve(b.last, r, func(w http.ResponseWriter, r *http.Request) {
		do(r.Context())
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte("done"))
	})
	for _, cookie := range b.last.Result().Cookies() {
		if cookie.Name == "session" {
			b.cookie = cookie
		} else {
			b.others[cookie.Name] = cookie
		}
	}
}

func (b *browser) get() *httptest.ResponseRecorder {
	b.request(func(context.Context) {})
	return b.last
}

func (b *browser) login(email, password string) error {
	return b.loginFrom("192.0.2.200", email, password)
}

func (b *browser) loginFrom(address, email, password string) (err error) {
	b.request(func(ctx context.Context) { _, err = b.harness.service.Login(ctx, address, email, password) })
	return err
}

func (b *browser) signUp(email, password string) (err error) {
	b.request(func(ctx context.Context) { _, err = b.harness.service.SignUp(ctx, "192.0.2.200", email, password) })
	return err
}

func (b *browser) logout() (err error) {
	b.request(func(ctx context.Context) { err = b.harness.service.Logout(ctx) })
	return err
}

func (b *browser) flash(notice string) {
	b.request(func(ctx context.Context) { b.harness.service.Flash(ctx, notice) })
}

func (b *browser) popFlash() (notice string) {
	b.request(func(ctx context.Context) { notice = b.harness.service.PopFlash(ctx) })
	return notice
}

// loggedInAs returns the email of the logged-in user, "" for none.
func (b *browser) loggedInAs() (email string) {
	b.request(func(ctx context.Context) {
		if principal, ok := identity.PrincipalFrom(ctx); ok {
			email = principal.Email
		}
	})
	return email
}

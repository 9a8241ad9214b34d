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
	"github.com/postcard-mms/postcard/internal/identity"
)

const (
	adaEmail, adaPassword = "ada@example.com", "correct horse battery"

	// adaHash is bcrypt at its least cost: the limits need many comparisons.
	adaHash identity.PasswordHash = "$2a$04$qsXqA2XUCZ0QQa3ovHRFBO1yjTSLOHMKrTL241J.egA6LC1Lf/5uy"

	aMinute = time.Minute
)

type fakeUsers struct {
	mu        sync.Mutex
	users     []identity.User
	loggedOut []uuid.UUID
	err       error
}

func (f *fakeUsers) find(is func(identity.User) bool) (identity.User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.IndexFunc(f.users, is); i >= 0 && f.err == nil {
		return f.users[i], nil
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

func (f *fakeUsers) NotifyLogout(_ context.Context, id uuid.UUID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loggedOut = append(f.loggedOut, id)
	return f.err
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
	mu    sync.Mutex
	tries map[[32]byte]int
	err   error
}

func (f *fakeThrottle) Throttle(_ context.Context, key [32]byte, limit int, _ time.Duration) (time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries[key]++
	if f.tries[key] > limit {
		return aMinute, f.err
	}
	return 0, f.err
}

func (f *fakeThrottle) Unthrottle(_ context.Context, key [32]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tries, key)
	return f.err
}

func (f *fakeThrottle) setErr(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// brittleStore is scs's memory store, with faults.
type brittleStore struct {
	*memstore.MemStore
	find, commit error
}

func (s *brittleStore) Find(token string) ([]byte, bool, error) {
	if s.find != nil {
		return nil, false, s.find
	}
	return s.MemStore.Find(token)
}

func (s *brittleStore) Commit(token string, b []byte, expiry time.Time) error {
	if s.commit != nil {
		return s.commit
	}
	return s.MemStore.Commit(token, b, expiry)
}

// door is the service with everything around it in memory.
type door struct {
	t        *testing.T
	service  *auth.Service
	users    *fakeUsers
	throttle *fakeThrottle
	store    *brittleStore
	mu       sync.Mutex
	failed   error // what onError was last called with
}

func newDoor(t *testing.T, signupOpen bool) *door {
	t.Helper()
	d := &door{
		t: t, users: &fakeUsers{users: []identity.User{{ID: uuid.New(), Email: adaEmail, PasswordHash: adaHash, Role: identity.RoleUser}}}, throttle: &fakeThrottle{tries: map[[32]byte]int{}},
		store: &brittleStore{MemStore: memstore.NewWithCleanupInterval(0)},
	}
	sessions := scs.New()
	sessions.Store = d.store
	d.service = auth.NewWithDecoy(d.users, d.throttle, sessions, signupOpen, adaHash)
	return d
}

func (d *door) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// serve runs do behind the door's middleware.
func (d *door) serve(w http.ResponseWriter, r *http.Request, do http.HandlerFunc) {
	onError := func(w http.ResponseWriter, _ *http.Request, err error) {
		d.mu.Lock()
		d.failed = err
		d.mu.Unlock()
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte("sorry"))
	}
	d.service.Middleware(onError)(do).ServeHTTP(w, r)
}

// browser keeps the session's cookie from request to request.
type browser struct {
	door   *door
	cookie *http.Cookie
	last   *httptest.ResponseRecorder
}

func (d *door) browser() *browser { return &browser{door: d} }

// request runs do in a request of this browser and then answers "done".
func (b *browser) request(do func(ctx context.Context)) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	b.last = httptest.NewRecorder()
	b.door.serve(b.last, r, func(w http.ResponseWriter, r *http.Request) {
		do(r.Context())
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte("done"))
	})
	for _, cookie := range b.last.Result().Cookies() {
		b.cookie = cookie
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
	b.request(func(ctx context.Context) { _, err = b.door.service.Login(ctx, address, email, password) })
	return err
}

func (b *browser) signUp(email, password string) (err error) {
	b.request(func(ctx context.Context) { _, err = b.door.service.SignUp(ctx, "192.0.2.200", email, password) })
	return err
}

func (b *browser) logout() (err error) {
	b.request(func(ctx context.Context) { err = b.door.service.Logout(ctx) })
	return err
}

func (b *browser) flash(notice string) {
	b.request(func(ctx context.Context) { b.door.service.Flash(ctx, notice) })
}

func (b *browser) popFlash() (notice string) {
	b.request(func(ctx context.Context) { notice = b.door.service.PopFlash(ctx) })
	return notice
}

// whoAmI is the email of who acts, "" for nobody.
func (b *browser) whoAmI() (email string) {
	b.request(func(ctx context.Context) {
		if who, ok := identity.PrincipalFrom(ctx); ok {
			email = who.Email
		}
	})
	return email
}

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const lease = time.Minute

// newStore returns a store with a database of its own, an unlimited sender, and a user.
func newStore(t *testing.T) (*postgres.Store, uuid.UUID) {
	t.Helper()
	return newStoreOn(t, testkit.Database(t), postgres.StatementTimeout)
}

// newStoreForLargeTables returns a store whose statements may take a minute, to fill tables
// on a busy machine.
func newStoreForLargeTables(t *testing.T) (*postgres.Store, uuid.UUID) {
	t.Helper()
	return newStoreOn(t, testkit.Database(t), time.Minute)
}

func newStoreOn(t *testing.T, database string, timeout time.Duration) (*postgres.Store, uuid.UUID) {
	t.Helper()
	store := openStore(t, database, 10, timeout)
	if err := store.SetRateLimit(t.Context(), "+14155550100", 0); err != nil {
		t.Fatal(err)
	}
	return store, addUser(t, store, "ada@example.com")
}

// openStore returns a store that the end of the test closes.
func openStore(t testing.TB, url string, connections int, timeout time.Duration) *postgres.Store {
	t.Helper()
	store, err := postgres.Open(url, connections, timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func addUser(t *testing.T, store *postgres.Store, email string) uuid.UUID {
	t.Helper()
	user := identity.User{
		ID: uuid.Must(uuid.NewV7()), Email: email, Role: identity.RoleUser,
		PasswordHash: identity.PasswordHash(strings.Repeat("x", 60)),
	}
	if err := store.CreateUser(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	return user.ID
}

// lastRecipient gives every message a recipient of its own, so that none waits for
// another of its pair.
var lastRecipient atomic.Int64

func create(t *testing.T, store *postgres.Store, workspace uuid.UUID) mms.Message {
	t.Helper()
	return createFor(t, store, workspace, mms.PhoneNumber(fmt.Sprintf("+1415556%04d", lastRecipient.Add(1))))
}

func createFor(t *testing.T, store *postgres.Store, workspace uuid.UUID, recipient mms.PhoneNumber) mms.Message {
	t.Helper()
	return mustCreate(t, store, mms.CreateRequest{Message: mms.Message{
		ID: uuid.Must(uuid.NewV7()), Workspace: workspace, CreatedBy: workspace, Sender: "+14155550100", Recipient: recipient,
		Text: "Hello", MediaURLs: []string{"https://example.com/b.jpg", "https://example.com/a.jpg"}, ValidFor: time.Hour, Priority: mms.Normal,
	}})
}

func mustCreate(t *testing.T, store *postgres.Store, request mms.CreateRequest) mms.Message {
	t.Helper()
	result, err := store.CreateMessage(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return result.Message
}

func token() string { return strings.Repeat("t", 16) + uuid.NewString() }

// adopt records that Plivo accepted an attempt, and reports whether that was not known
// before.
func adopt(ctx context.Context, store *postgres.Store, ref mms.AttemptRef, uuid string) (bool, error) {
	result, err := store.RecordSubmitted(ctx, ref, mms.Verdict{Outcome: mms.Accepted, PlivoUUID: uuid, HTTPStatus: 202, APIID: "a-1"}, mms.EventSubmitted)
	return result == mms.Adopted, err
}

// claim claims a message and returns the claim and its token.
func claim(t *testing.T, store *postgres.Store, id uuid.UUID) (mms.Claim, string) {
	t.Helper()
	secret := token()
	c, ok, err := store.Claim(t.Context(), id, secret, lease)
	if err != nil || !ok {
		t.Fatalf("Claim: got %t, %v, want true", ok, err)
	}
	return c, secret
}

func read(t *testing.T, store *postgres.Store, m mms.Message) mms.History {
	t.Helper()
	h, err := store.Message(t.Context(), m.Workspace, m.ID)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// kinds returns the kinds of a message's events, and its status after each.
func kinds(h mms.History) string {
	var list []string
	for _, e := range h.Events {
		list = append(list, string(e.Kind)+">"+string(e.Status))
	}
	return strings.Join(list, " ")
}

// wantEvents compares a message's status and the kinds of its events.
func wantEvents(t *testing.T, h mms.History, status mms.Status, events string) {
	t.Helper()
	if h.Status != status || kinds(h) != events {
		t.Errorf("got status %s after %q, want %s after %q", h.Status, kinds(h), status, events)
	}
}

func TestMigrateUpDownUp(t *testing.T) {
	t.Parallel()
	store := openStore(t, testkit.Database(t), 2, postgres.StatementTimeout)
	for range 2 {
		if err := postgres.MigrateDown(t.Context(), store.DB()); err != nil {
			t.Fatal(err)
		}
		var tables int
		if err := store.DB().QueryRow(`SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public' AND table_name NOT LIKE 'goose%'`).Scan(&tables); err != nil || tables != 0 {
			t.Errorf("got %d tables after MigrateDown, %v, want none", tables, err)
		}
		if err := postgres.Migrate(t.Context(), store.DB()); err != nil {
			t.Fatal(err)
		}
	}
	addUser(t, store, "ada@example.com")
}

func TestConcurrentMigrations(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	first := openStore(t, url, 2, postgres.StatementTimeout)
	if err := postgres.MigrateDown(t.Context(), first.DB()); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 4 {
		store := openStore(t, url, 2, postgres.StatementTimeout)
		group.Go(func() {
			if err := postgres.Migrate(t.Context(), store.DB()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	addUser(t, first, "ada@example.com")
}

// TestRepeatedCallsHaveNoEffect: after a connection breaks, intake repeats the call, or
// database/sql the statement, although the first may have been committed.
func TestRepeatedCallsHaveNoEffect(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := mms.Message{
		ID: uuid.Must(uuid.NewV7()), Workspace: workspace, CreatedBy: workspace, Sender: "+14155550100", Recipient: "+14155559996",
		Text: "Hi", MediaURLs: []string{"https://example.com/a.jpg"}, ValidFor: time.Hour, Priority: mms.Normal,
	}
	first, err := store.CreateMessage(t.Context(), mms.CreateRequest{Message: m})
	if err != nil {
		t.Fatal(err)
	}
	second, err := store.CreateMessage(t.Context(), mms.CreateRequest{Message: m})
	if diff := cmp.Diff(first, second); diff != "" || err != nil {
		t.Errorf("CreateMessage, repeated: got error %v (-want +got):\n%s", err, diff)
	}
	if h := read(t, store, first.Message); len(h.Events) != 1 || len(h.MediaURLs) != 1 {
		t.Errorf("got %+v, want one event and one media URL", h)
	}
	secret := token()
	var claims []mms.Claim
	for range 2 {
		c, ok, err := store.Claim(t.Context(), m.ID, secret, time.Minute)
		if err != nil || !ok {
			t.Fatalf("Claim: got %t, %v, want true", ok, err)
		}
		claims = append(claims, c)
	}
	if diff := cmp.Diff(claims[0], claims[1]); diff != "" {
		t.Errorf("Claim, repeated (-want +got):\n%s", diff)
	}
	if _, ok, err := store.Claim(t.Context(), m.ID, token(), time.Minute); err != nil || ok {
		t.Errorf("Claim with another token: got %t, %v, want false", ok, err)
	}
}

// TestUnresponsiveDatabase has a server that accepts connections and never answers.
func TestUnresponsiveDatabase(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	store := openStore(t, "postgres://nobody@"+listener.Addr().String()+"/none?sslmode=disable", 1, 50*time.Millisecond)
	if err := store.Ping(context.Background()); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("Ping: got error %v, want ErrUnavailable", err)
	}
}

// TestUnresponsiveDatabaseWithManyCallers has many more callers than connections.
// database/sql opens connections one after another; callers must not wait for all of
// them.
func TestUnresponsiveDatabaseWithManyCallers(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	store := openStore(t, "postgres://nobody@"+listener.Addr().String()+"/none?sslmode=disable", 2, 500*time.Millisecond)
	var returned atomic.Int32
	const callers = 200 // one after the other they would take 50 s
	for range callers {
		go func() {
			if _, err := store.Version(context.Background(), uuid.New(), uuid.New()); !errors.Is(err, mms.ErrUnavailable) {
				t.Errorf("Version: got error %v, want ErrUnavailable", err)
			}
			returned.Add(1)
		}()
	}
	testkit.Eventually(t, "all calls have returned", func() bool { return returned.Load() == callers })
}

func TestEventsCannotBeChanged(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	_, err := store.DB().Exec(`UPDATE message_events SET kind = 'x' WHERE message_id = $1`, m.ID)
	if err == nil || !strings.Contains(err.Error(), "append-only") {
		t.Errorf("got error %v, want append-only", err)
	}
}

func TestSchemaConstraints(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	claim(t, store, m.ID)
	for name, statement := range map[string]string{
		"unknown status":                    `UPDATE messages SET status = 'gone' WHERE id = $1`,
		"final without a time":              `UPDATE messages SET status = 'failed' WHERE id = $1`,
		"submitted without a UUID":          `UPDATE messages SET status = 'submitted' WHERE id = $1`,
		"queued without a time":             `UPDATE messages SET status = 'queued' WHERE id = $1`,
		"sender that is not a phone number": `UPDATE messages SET sender = '4155550100' WHERE id = $1`,
		"sender equal to recipient":         `UPDATE messages SET sender = recipient WHERE id = $1`,
		"second open attempt":               `INSERT INTO attempts (message_id, ordinal, token, sender, lease_until) SELECT $1, 2, repeat('x', 40), '+14155550100', now()`,
		"11th media URL":                    `INSERT INTO message_media (message_id, position, url) VALUES ($1, 11, 'https://example.com')`,
		"accepted without a UUID":           `UPDATE attempts SET outcome = 'accepted', finished_at = now() WHERE message_id = $1`,
		"short token":                       `UPDATE attempts SET token = 'short' WHERE message_id = $1`,
		"unknown outcome":                   `UPDATE attempts SET outcome = 'maybe', finished_at = now() WHERE message_id = $1`,
	} {
		if _, err := store.DB().Exec(statement, m.ID); err == nil {
			t.Errorf("%s: got no error, want a constraint violation", name)
		}
	}
}

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

// newStore is a store on a database of the test's own, with one user in it.
func newStore(t *testing.T) (*postgres.Store, uuid.UUID) {
	t.Helper()
	store, err := postgres.Open(testkit.Database(t), 10, postgres.StatementTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := store.SetRateLimit(t.Context(), "+14155550100", 0); err != nil {
		t.Fatal(err)
	}
	return store, addUser(t, store, "ada@example.com")
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

// lastRecipient makes every message go to another number, so that none has to
// wait for another between the same two.
var lastRecipient atomic.Int64

func accept(t *testing.T, store *postgres.Store, owner uuid.UUID) mms.Message {
	t.Helper()
	return acceptFor(t, store, owner, mms.PhoneNumber(fmt.Sprintf("+1415556%04d", lastRecipient.Add(1))))
}

func acceptFor(t *testing.T, store *postgres.Store, owner uuid.UUID, recipient mms.PhoneNumber) mms.Message {
	t.Helper()
	return take(t, store, mms.CreateRequest{Message: mms.Message{
		ID: uuid.Must(uuid.NewV7()), Owner: owner, Sender: "+14155550100", Recipient: recipient,
		Text: "Hello", MediaURLs: []string{"https://example.com/b.jpg", "https://example.com/a.jpg"}, ValidFor: time.Hour, Priority: mms.Normal,
	}})
}

func take(t *testing.T, store *postgres.Store, o mms.CreateRequest) mms.Message {
	t.Helper()
	taken, err := store.CreateMessage(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return taken.Message
}

func token() string { return strings.Repeat("t", 16) + uuid.NewString() }

// adopt records that Plivo accepted an attempt, and reports whether its message
// is known to be there by that.
func adopt(ctx context.Context, store *postgres.Store, ref mms.AttemptRef, uuid string) (bool, error) {
	got, err := store.RecordSubmitted(ctx, ref, mms.Verdict{Outcome: mms.Accepted, PlivoUUID: uuid, HTTPStatus: 202, APIID: "a-1"}, mms.EventSubmitted)
	return got == mms.Adopted, err
}

// claim begins an attempt, which must be possible.
func claim(t *testing.T, store *postgres.Store, id uuid.UUID) (mms.Claim, string) {
	t.Helper()
	secret := token()
	c, ok, err := store.Claim(t.Context(), id, secret, lease)
	if err != nil || !ok {
		t.Fatalf("Claim() = %v, %v, want it claimed", ok, err)
	}
	return c, secret
}

func read(t *testing.T, store *postgres.Store, m mms.Message) mms.History {
	t.Helper()
	h, err := store.Message(t.Context(), m.Owner, m.ID)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// kinds are the events of a message in short.
func kinds(h mms.History) string {
	var list []string
	for _, e := range h.Events {
		list = append(list, string(e.Kind)+">"+string(e.Status))
	}
	return strings.Join(list, " ")
}

func wantStory(t *testing.T, h mms.History, status mms.Status, story string) {
	t.Helper()
	if h.Status != status || kinds(h) != story {
		t.Errorf("message is %s after %q, want %s after %q", h.Status, kinds(h), status, story)
	}
}

func TestMigrationsGoUpDownAndUpAgain(t *testing.T) {
	t.Parallel()
	store, err := postgres.Open(testkit.Database(t), 2, postgres.StatementTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	for range 2 {
		if err := postgres.MigrateDown(t.Context(), store.DB()); err != nil {
			t.Fatal(err)
		}
		var tables int
		if err := store.DB().QueryRow(`SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public' AND table_name NOT LIKE 'goose%'`).Scan(&tables); err != nil || tables != 0 {
			t.Errorf("%d tables are left on the way down, %v", tables, err)
		}
		if err := postgres.Migrate(t.Context(), store.DB()); err != nil {
			t.Fatal(err)
		}
	}
	addUser(t, store, "ada@example.com")
}

func TestSeveralProcessesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	first, err := postgres.Open(url, 2, postgres.StatementTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	if err := postgres.MigrateDown(t.Context(), first.DB()); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 4 {
		store, err := postgres.Open(url, 2, postgres.StatementTimeout)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		group.Go(func() {
			if err := postgres.Migrate(t.Context(), store.DB()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	addUser(t, first, "ada@example.com")
}

func TestAcceptStoresAllOfIt(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	h := read(t, store, m)
	if h.Sender != "+14155550100" || h.Recipient != m.Recipient || h.Text != "Hello" ||
		len(h.MediaURLs) != 2 || h.MediaURLs[0] != "https://example.com/b.jpg" || h.Version != 1 || h.NextAttemptAt == nil {
		t.Errorf("stored message = %+v", h.Message)
	}
	wantStory(t, h, mms.Queued, "created>queued")
}

func TestOnlyOneOfManyClaims(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	var claimed atomic.Int32
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			_, ok, err := store.Claim(t.Context(), m.ID, token(), lease)
			if err != nil {
				t.Error(err)
			}
			if ok {
				claimed.Add(1)
			}
		})
	}
	group.Wait()
	if claimed.Load() != 1 {
		t.Errorf("%d workers claimed the message, want 1", claimed.Load())
	}
	wantStory(t, read(t, store, m), mms.Sending, "created>queued attempt_started>sending")
}

func TestOutcomesOfAnAttempt(t *testing.T) {
	t.Parallel()
	const begun = "created>queued attempt_started>sending "
	tests := map[string]struct {
		record func(*postgres.Store, mms.AttemptRef) (bool, error)
		status mms.Status
		story  string
	}{
		"submitted": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return adopt(context.Background(), s, ref, "u-1")
		}, mms.Submitted, begun + "submitted>submitted"},
		"refused for now": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.RecordTransientFailure(context.Background(), ref, mms.Verdict{Outcome: mms.TransientFailure, HTTPStatus: 429}, mms.Transition{Wait: time.Hour, Reason: mms.ReasonRateLimited})
		}, mms.Queued, begun + "transient_failure>queued"},
		"account trouble": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.RecordAccountError(context.Background(), ref, mms.Verdict{Outcome: mms.AccountError, HTTPStatus: 401, Reason: mms.ReasonCredentials})
		}, mms.Queued, begun + "account_error>queued"},
		"refused": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.RecordPermanentFailure(context.Background(), ref, mms.Verdict{Outcome: mms.PermanentFailure, HTTPStatus: 400, Detail: "no"}, mms.ReasonRejected)
		}, mms.Failed, begun + "permanent_failure>failed"},
		"in doubt": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.RecordInDoubt(context.Background(), ref, mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonNoResponse})
		}, mms.InDoubt, begun + "in_doubt>in_doubt"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, owner := newStore(t)
			m := accept(t, store, owner)
			c, _ := claim(t, store, m.ID)
			if ok, err := tt.record(store, c.AttemptRef); err != nil || !ok {
				t.Fatalf("recording = %v, %v, want true", ok, err)
			}
			h := read(t, store, m)
			wantStory(t, h, tt.status, tt.story)
			if h.AttemptList[0].Outcome == "" || h.AttemptList[0].FinishedAt == nil {
				t.Errorf("the attempt is still open: %+v", h.AttemptList[0])
			}
			if h.Version != int64(len(h.Events)) {
				t.Errorf("version is %d after %d events", h.Version, len(h.Events))
			}
			stale := mms.AttemptRef{MessageID: m.ID, Ordinal: c.Ordinal + 1}
			if ok, err := tt.record(store, stale); err != nil || ok {
				t.Errorf("recording for another attempt = %v, %v, want false", ok, err)
			}
		})
	}
}

func TestALateAnswerSettlesADoubt(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	c, _ := claim(t, store, m.ID)
	if _, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonNoResponse}); err != nil {
		t.Fatal(err)
	}
	ok, err := adopt(t.Context(), store, c.AttemptRef, "u-1")
	if err != nil || !ok {
		t.Fatalf("Submit() = %v, %v, want true", ok, err)
	}
	h := read(t, store, m)
	wantStory(t, h, mms.Submitted, "created>queued attempt_started>sending in_doubt>in_doubt submitted>submitted")
	if ok, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil || ok {
		t.Errorf("Doubt() after Submit() = %v, %v, want false", ok, err)
	}
}

func TestAMessageThatIsNotDueIsNotClaimed(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	c, _ := claim(t, store, m.ID)
	if _, err := store.RecordTransientFailure(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.TransientFailure}, mms.Transition{Wait: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := store.Claim(t.Context(), m.ID, token(), lease); err != nil || ok {
		t.Errorf("Claim() = %v, %v, want false", ok, err)
	}
	o, err := store.ClaimBlocker(t.Context(), m.ID)
	if err != nil || o.DueIn < 59*time.Minute || o.DueIn > time.Hour {
		t.Errorf("Obstacle() = %+v, %v, want about an hour", o, err)
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	for want := range 3 {
		c, _ := claim(t, store, m.ID)
		if c.TransientFailures != want || c.Ordinal != 2*want+1 {
			t.Errorf("claim = %+v, want %d refusals", c, want)
		}
		for _, status := range []int{429, 0} { // not to be reached is no refusal
			if _, err := store.RecordTransientFailure(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.TransientFailure, HTTPStatus: status}, mms.Transition{}); err != nil {
				t.Fatal(err)
			}
			if status == 429 {
				c, _ = claim(t, store, m.ID)
			}
		}
	}
}

// TestACallThatIsMadeTwice plays a connection that broke after the database had
// done its work: database/sql, or the intake, repeats the call.
func TestACallThatIsMadeTwice(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := mms.Message{
		ID: uuid.Must(uuid.NewV7()), Owner: owner, Sender: "+14155550100", Recipient: "+14155559996",
		Text: "Hi", MediaURLs: []string{"https://example.com/a.jpg"}, ValidFor: time.Hour, Priority: mms.Normal,
	}
	first, err := store.CreateMessage(t.Context(), mms.CreateRequest{Message: m})
	if err != nil {
		t.Fatal(err)
	}
	second, err := store.CreateMessage(t.Context(), mms.CreateRequest{Message: m})
	if diff := cmp.Diff(first, second); diff != "" || err != nil {
		t.Errorf("accepting again (-want +got):\n%s%v", diff, err)
	}
	if h := read(t, store, first.Message); len(h.Events) != 1 || len(h.MediaURLs) != 1 {
		t.Errorf("the message was stored twice: %+v", h)
	}
	secret := token()
	var claims []mms.Claim
	for range 2 {
		c, ok, err := store.Claim(t.Context(), m.ID, secret, time.Minute)
		if err != nil || !ok {
			t.Fatalf("Claim() = %v, %v", ok, err)
		}
		claims = append(claims, c)
	}
	if diff := cmp.Diff(claims[0], claims[1]); diff != "" {
		t.Errorf("claiming again (-want +got):\n%s", diff)
	}
	if _, ok, err := store.Claim(t.Context(), m.ID, token(), time.Minute); err != nil || ok {
		t.Errorf("somebody else's claim = %v, %v, want false", ok, err)
	}
}

// TestADatabaseThatStandsStill has a connection on which nothing comes back.
func TestADatabaseThatStandsStill(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	store, err := postgres.Open("postgres://nobody@"+listener.Addr().String()+"/none?sslmode=disable", 1, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := store.Ping(context.Background()); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("Ping() = %v, want ErrUnavailable", err)
	}
}

// TestManyAtADatabaseThatStandsStill has many more callers than connections: database/sql
// opens one after another, but nobody waits for all of them.
func TestManyAtADatabaseThatStandsStill(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	store, err := postgres.Open("postgres://nobody@"+listener.Addr().String()+"/none?sslmode=disable", 2, 500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	var told atomic.Int32
	const callers = 200 // by turns they would take 50 s
	for range callers {
		go func() {
			if _, err := store.Version(context.Background(), uuid.New(), uuid.New()); !errors.Is(err, mms.ErrUnavailable) {
				t.Errorf("Version() = %v, want ErrUnavailable", err)
			}
			told.Add(1)
		}()
	}
	testkit.Eventually(t, "all are told", func() bool { return told.Load() == callers })
}

func TestALapsedLeaseMeansDoubt(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	lost, alive := accept(t, store, owner), accept(t, store, owner)
	if _, ok, err := store.Claim(t.Context(), lost.ID, token(), -time.Second); err != nil || !ok {
		t.Fatal(ok, err)
	}
	claim(t, store, alive.ID)
	if n, err := store.ReapLeases(t.Context(), 10); err != nil || n != 1 {
		t.Errorf("DoubtLapsed() = %d, %v, want 1", n, err)
	}
	h := read(t, store, lost)
	wantStory(t, h, mms.InDoubt, "created>queued attempt_started>sending in_doubt>in_doubt")
	if h.Reason != mms.ReasonWorkerLost || h.AttemptList[0].Outcome != mms.Unknown {
		t.Errorf("lost message = %+v, attempt %+v", h.Message, h.AttemptList[0])
	}
	wantStory(t, read(t, store, alive), mms.Sending, "created>queued attempt_started>sending")
}

func TestLeasesAreRenewedWhileTheyHold(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m, over := accept(t, store, owner), accept(t, store, owner)
	_, held := claim(t, store, m.ID)
	lapsed := token()
	if _, _, err := store.Claim(t.Context(), over.ID, lapsed, -time.Second); err != nil {
		t.Fatal(err)
	}
	renewed, err := store.RenewLeases(t.Context(), []string{held, lapsed, "unknown"}, lease)
	if err != nil || len(renewed) != 1 || renewed[0] != held {
		t.Errorf("RenewLeases() = %v, %v, want the held one alone", renewed, err)
	}
}

// TestRenewalsWaitForNobody renews the leases of two attempts, the outcome of one of
// which is being recorded.
func TestRenewalsWaitForNobody(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	first, firstToken := claim(t, store, accept(t, store, owner).ID)
	_, secondToken := claim(t, store, accept(t, store, owner).ID)
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`UPDATE attempts SET detail = '' WHERE message_id = $1`, first.MessageID); err != nil {
		t.Fatal(err)
	}
	renewed, err := store.RenewLeases(t.Context(), []string{firstToken, secondToken}, time.Minute)
	if diff := cmp.Diff([]string{secondToken}, renewed); diff != "" || err != nil {
		t.Errorf("renewed (-want +got):\n%s%v", diff, err)
	}
}

func TestOnlyTheOwnerSeesAMessage(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	stranger := addUser(t, store, "eve@example.com")
	if _, err := store.Message(t.Context(), stranger, m.ID); err != mms.ErrNotFound {
		t.Errorf("Message() = %v, want ErrNotFound", err)
	}
	if _, err := store.Version(t.Context(), stranger, m.ID); err != mms.ErrNotFound {
		t.Errorf("Version() = %v, want ErrNotFound", err)
	}
	if list, _, err := store.Messages(t.Context(), stranger, mms.Page{Limit: 10}); err != nil || len(list) != 0 {
		t.Errorf("Messages() = %v, %v, want none", list, err)
	}
}

func TestPagesOfMessages(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	var ids []uuid.UUID // newest first
	for range 5 {
		ids = append([]uuid.UUID{accept(t, store, owner).ID}, ids...)
	}
	claim(t, store, ids[2])
	var got []uuid.UUID
	page := mms.Page{Limit: 2}
	for more := true; more; more = page.Before != uuid.Nil {
		var list []mms.Message
		var err error
		if list, page.Before, err = store.Messages(t.Context(), owner, page); err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			got = append(got, m.ID)
		}
	}
	if len(got) != 5 || got[0] != ids[0] || got[4] != ids[4] {
		t.Errorf("pages gave %v, want %v", got, ids)
	}
	list, more, err := store.Messages(t.Context(), owner, mms.Page{Filter: mms.Filter{Status: mms.Sending}, Limit: 10})
	if err != nil || more != uuid.Nil || len(list) != 1 || list[0].ID != ids[2] {
		t.Errorf("messages being sent = %v, %v, %v", list, more, err)
	}
}

func TestEventsCannotBeChanged(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	_, err := store.DB().Exec(`UPDATE message_events SET kind = 'x' WHERE message_id = $1`, m.ID)
	if err == nil || !strings.Contains(err.Error(), "append-only") {
		t.Errorf("changing an event = %v, want a refusal", err)
	}
}

func TestTheSchemaRefusesWhatTheCodeShouldNeverDo(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	claim(t, store, m.ID)
	for name, statement := range map[string]string{
		"an unknown status":            `UPDATE messages SET status = 'gone' WHERE id = $1`,
		"final without a time":         `UPDATE messages SET status = 'failed' WHERE id = $1`,
		"submitted without a UUID":     `UPDATE messages SET status = 'submitted' WHERE id = $1`,
		"queued without a time":        `UPDATE messages SET status = 'queued' WHERE id = $1`,
		"a sender that is no number":   `UPDATE messages SET sender = '4155550100' WHERE id = $1`,
		"sender equal to recipient":    `UPDATE messages SET sender = recipient WHERE id = $1`,
		"a second open attempt":        `INSERT INTO attempts (message_id, ordinal, token, sender, lease_until) SELECT $1, 2, repeat('x', 40), '+14155550100', now()`,
		"an 11th picture":              `INSERT INTO message_media (message_id, position, url) VALUES ($1, 11, 'https://example.com')`,
		"accepted without a UUID":      `UPDATE attempts SET outcome = 'accepted', finished_at = now() WHERE message_id = $1`,
		"a token that can be guessed":  `UPDATE attempts SET token = 'short' WHERE message_id = $1`,
		"an outcome that is not known": `UPDATE attempts SET outcome = 'maybe', finished_at = now() WHERE message_id = $1`,
	} {
		if _, err := store.DB().Exec(statement, m.ID); err == nil {
			t.Errorf("the schema allows %s", name)
		}
	}
}

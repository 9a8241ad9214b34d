package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// newRequest returns a valid request by the workspace, with a recipient of its own.
func newRequest(workspace uuid.UUID) mms.CreateRequest {
	return mms.CreateRequest{Message: mms.Message{
		ID: uuid.Must(uuid.NewV7()), Workspace: workspace, CreatedBy: workspace, Sender: "+14155550100", Recipient: mms.PhoneNumber(fmt.Sprintf("+1415557%04d", lastRecipient.Add(1)%10000)),
		Text: "Hello", MediaURLs: []string{"https://example.com/a.jpg"}, ValidFor: time.Hour, Priority: mms.Normal,
	}}
}

// withKey returns the request with an idempotency key.
func withKey(key string, fingerprint byte, request mms.CreateRequest) mms.CreateRequest {
	request.Idempotency = mms.Idempotency{Key: key, Fingerprint: [32]byte{fingerprint}}
	return request
}

func count(t testing.TB, store *postgres.Store, query string, args ...any) int {
	t.Helper()
	var n int
	if err := store.DB().QueryRow(query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestConcurrentRequestsWithOneKeyCreateOneMessage: all clients get the same result.
func TestConcurrentRequestsWithOneKeyCreateOneMessage(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	var mu sync.Mutex
	var results []mms.Message
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			for {
				result, err := store.CreateMessage(t.Context(), withKey("once", 1, newRequest(workspace)))
				if errors.Is(err, mms.ErrInFlight) {
					continue // a client retries
				}
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				results = append(results, result.Message)
				return
			}
		})
	}
	group.Wait()
	for _, result := range results {
		if diff := cmp.Diff(results[0], result); diff != "" {
			t.Fatalf("results differ:\n%s", diff)
		}
	}
	if n := count(t, store, `SELECT count(*) FROM messages`); n != 1 || len(results) != 50 {
		t.Errorf("got %d messages and %d results, want 1 and 50", n, len(results))
	}
}

// TestIdempotency compares random requests of two users with few keys with a model: a
// map of keys.
func TestIdempotency(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	bob := addUser(t, store, "bob@example.com")
	type entry struct {
		fingerprint byte
		message     mms.Message
	}
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		known := map[string]entry{}
		for range rapid.IntRange(1, 12).Draw(t, "requests") {
			workspace := rapid.SampledFrom([]uuid.UUID{ada, bob}).Draw(t, "workspace")
			key := fmt.Sprintf("%d-%d", round, rapid.IntRange(0, 2).Draw(t, "key"))
			fingerprint := byte(rapid.IntRange(1, 2).Draw(t, "fingerprint"))
			result, err := store.CreateMessage(t.Context(), withKey(key, fingerprint, newRequest(workspace)))
			earlier, found := known[workspace.String()+key]
			switch {
			case found && earlier.fingerprint != fingerprint:
				if !errors.Is(err, mms.ErrKeyReused) {
					t.Fatalf("other request with a used key: got error %v, want ErrKeyReused", err)
				}
			case found:
				if diff := cmp.Diff(earlier.message, result.Message); err != nil || !result.Replayed || diff != "" {
					t.Fatalf("same request: got replayed %t, %v, want true (-want +got):\n%s", result.Replayed, err, diff)
				}
			default:
				if err != nil || result.Replayed {
					t.Fatalf("new key: got replayed %t, %v, want false", result.Replayed, err)
				}
				known[workspace.String()+key] = entry{fingerprint, result.Message}
				// A replay returns the message as it was created, whatever happens to it.
				if _, _, err := store.Claim(t.Context(), result.ID, token(), lease); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestIdempotencyKeysExpireAfterADay(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	first := mustCreate(t, store, withKey("k", 1, newRequest(workspace)))
	if _, err := store.DB().Exec(`UPDATE idempotency_keys SET created_at = now() - interval '23 hours 59 minutes'`); err != nil {
		t.Fatal(err)
	}
	if again := mustCreate(t, store, withKey("k", 1, newRequest(workspace))); again.ID != first.ID {
		t.Error("got a new message within 24 hours, want a replay")
	}
	if _, err := store.DB().Exec(`UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 minute'`); err != nil {
		t.Fatal(err)
	}
	if later := mustCreate(t, store, withKey("k", 2, newRequest(workspace))); later.ID == first.ID {
		t.Error("got a replay after 24 hours, want a new message")
	}
	if _, err := store.DB().Exec(`UPDATE idempotency_keys SET created_at = now() - interval '26 hours'`); err != nil {
		t.Fatal(err)
	}
	if err := store.DeleteExpired(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, store, `SELECT count(*) FROM idempotency_keys`); n != 0 {
		t.Errorf("got %d keys after DeleteExpired, want none", n)
	}
}

func TestDailyCaps(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	key := uuid.New()
	capped := func(userCap, keyCap int) mms.CreateRequest {
		request := newRequest(workspace)
		request.Caps = mms.Submitter{Workspace: workspace, Key: key, WorkspaceCap: userCap, KeyCap: keyCap}.Caps(0)
		return request
	}
	for range 3 {
		mustCreate(t, store, capped(5, 3))
	}
	var capError mms.CapError
	if _, err := store.CreateMessage(t.Context(), capped(5, 3)); !errors.As(err, &capError) || !capError.OfKey || capError.Messages != 3 || capError.RetryAfter <= 0 || capError.RetryAfter > 24*time.Hour {
		t.Errorf("fourth message with the API key: got error %v, want a CapError of the key", err)
	}
	repeated := withKey("k", 1, capped(5, 3))
	if _, err := store.CreateMessage(t.Context(), repeated); !errors.As(err, &capError) {
		t.Errorf("with an idempotency key: got error %v, want a CapError", err)
	}
	mustCreate(t, store, withKey("k", 1, capped(5, 0))) // the capped request did not use the key
	mustCreate(t, store, capped(5, 0))
	if _, err := store.CreateMessage(t.Context(), capped(5, 0)); !errors.As(err, &capError) || capError.OfKey || capError.Remaining != 0 {
		t.Errorf("sixth message of the user: got error %v, want a CapError of the user", err)
	}
	if result, err := store.CreateMessage(t.Context(), withKey("k", 1, capped(5, 3))); err != nil || !result.Replayed {
		t.Errorf("repeated request: got replayed %t, %v, want true although the cap is reached", result.Replayed, err)
	}
	if _, err := store.DB().Exec(`UPDATE daily_counts SET day = day - 1`); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, store, capped(5, 3))
}

func TestScheduledMessageIsQueuedWhenDue(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	now, err := store.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := now.Add(time.Hour).Truncate(time.Microsecond)
	request := newRequest(workspace)
	request.SendAt, request.Priority = &at, mms.High
	m := mustCreate(t, store, request)
	if m.Status != mms.Scheduled || !m.SendAt.Equal(at) || !m.ExpiresAt.Equal(at.Add(time.Hour)) {
		t.Errorf("got %+v, want it scheduled, and valid for an hour from then", m)
	}
	if n, tasks, err := store.QueueScheduled(t.Context(), 10); n != 0 || len(tasks) != 0 || err != nil {
		t.Errorf("QueueScheduled before the message is due: got %d, %v, %v, want none", n, tasks, err)
	}
	if _, claimed, err := store.Claim(t.Context(), m.ID, token(), lease); claimed || err != nil {
		t.Errorf("Claim before the message is due: got %t, %v, want false", claimed, err)
	}
	if _, err := store.DB().Exec(`UPDATE messages SET send_at = now() WHERE id = $1`, m.ID); err != nil {
		t.Fatal(err)
	}
	n, tasks, err := store.QueueScheduled(t.Context(), 10)
	if diff := cmp.Diff([]mms.Task{{MessageID: m.ID, Generation: 1, Priority: mms.High}}, tasks); n != 1 || diff != "" || err != nil {
		t.Errorf("QueueScheduled: got %d, %v, want 1; tasks (-want +got):\n%s", n, err, diff)
	}
	wantEvents(t, read(t, store, m), mms.Queued, "created>scheduled due>queued")
}

func TestResendIsRecordedWithTheOldMessage(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	old := create(t, store, workspace)
	if err := store.Cancel(t.Context(), workspace, old.ID); err != nil {
		t.Fatal(err)
	}
	request := newRequest(workspace)
	request.ResendOf = old.ID
	resend := mustCreate(t, store, request)
	h := read(t, store, old)
	if last := h.Events[len(h.Events)-1]; last.Kind != mms.EventResent || last.Detail != resend.ID.String() || resend.ResendOf != old.ID {
		t.Errorf("got last event %+v for %+v, want a resent event with its id", last, resend)
	}
}

func TestCreateMessageStoresEverything(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	h := read(t, store, m)
	if h.Sender != "+14155550100" || h.Recipient != m.Recipient || h.Text != "Hello" ||
		len(h.MediaURLs) != 2 || h.MediaURLs[0] != "https://example.com/b.jpg" || h.Version != 1 || h.NextAttemptAt != nil {
		t.Errorf("got %+v", h.Message)
	}
	wantEvents(t, h, mms.Queued, "created>queued")
}

package postgres_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// tryClaim claims a message, or adds it to the backlog, as a worker does.
func tryClaim(t *testing.T, store *postgres.Store, id uuid.UUID) bool {
	t.Helper()
	_, ok, err := store.Claim(t.Context(), id, token(), lease)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		if err := store.AddToBacklog(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	return ok
}

func setRateLimit(t *testing.T, store *postgres.Store, interval time.Duration) {
	t.Helper()
	if err := store.SetRateLimit(t.Context(), "+14155550100", interval); err != nil {
		t.Fatal(err)
	}
}

// passInterval makes the next send of every sender due.
func passInterval(t *testing.T, store *postgres.Store) {
	t.Helper()
	if _, err := store.DB().Exec(`UPDATE rate_limits SET next_arrival_at = now(), released_until = '-infinity'`); err != nil {
		t.Fatal(err)
	}
}

func release(t *testing.T, store *postgres.Store) []uuid.UUID {
	t.Helper()
	tasks, err := store.Release(t.Context(), 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	var ids []uuid.UUID
	for _, task := range tasks {
		ids = append(ids, task.MessageID)
		if task.Generation < 2 {
			t.Errorf("got task %+v, want a new generation", task)
		}
	}
	return ids
}

func wantIDs(t *testing.T, name string, got []uuid.UUID, want ...uuid.UUID) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: got %v, want %v", name, got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestBacklogIsReleasedInOrderOneAtATime(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	var ids []uuid.UUID
	for range 4 {
		ids = append(ids, create(t, store, workspace).ID)
	}
	setRateLimit(t, store, time.Hour)
	if !tryClaim(t, store, ids[1]) {
		t.Fatal("got no claim by the first message, want one")
	}
	for _, id := range []uuid.UUID{ids[3], ids[0], ids[2]} {
		if tryClaim(t, store, id) {
			t.Fatal("got a second claim within the interval")
		}
	}
	wantIDs(t, "released within the interval", release(t, store))
	for _, want := range []uuid.UUID{ids[0], ids[2], ids[3]} {
		passInterval(t, store)
		wantIDs(t, "released", release(t, store), want)
		wantIDs(t, "released while a released message is on its way", release(t, store))
		newcomer := create(t, store, workspace).ID
		if want != ids[3] && tryClaim(t, store, newcomer) {
			t.Error("got a claim by a new message ahead of the backlog")
		}
		if !tryClaim(t, store, want) {
			t.Error("got no claim by the released message, want one")
		}
	}
}

func TestRateLimitAllowsOneOfManyConcurrentClaims(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	setRateLimit(t, store, time.Hour)
	var ids []uuid.UUID
	for range 20 {
		ids = append(ids, create(t, store, workspace).ID)
	}
	if _, err := store.DB().Exec(`UPDATE messages SET backlog_state = 'released' WHERE status = 'queued'`); err != nil {
		t.Fatal(err)
	}
	var claimed sync.Map
	var group sync.WaitGroup
	for _, id := range ids {
		group.Go(func() {
			if _, ok, err := store.Claim(t.Context(), id, token(), lease); err != nil {
				t.Error(err)
			} else if ok {
				claimed.Store(id, true)
			}
		})
	}
	group.Wait()
	n := 0
	claimed.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("got %d claims, want 1", n)
	}
}

func TestQueuePosition(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	setRateLimit(t, store, 4*time.Second)
	first, second := create(t, store, workspace).ID, create(t, store, workspace).ID
	for _, id := range []uuid.UUID{first, second} {
		if err := store.AddToBacklog(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	position, ok, err := store.QueuePosition(t.Context(), workspace, second)
	if err != nil || !ok || position.Ahead != 1 || position.Wait < 4*time.Second || position.Wait > 5*time.Second {
		t.Errorf("got %+v, %t, %v, want 1 ahead and 4 s", position, ok, err)
	}
	if _, ok, err := store.QueuePosition(t.Context(), uuid.New(), second); err != nil || ok {
		t.Errorf("other user: got %t, %v, want false", ok, err)
	}
	if _, err := store.DB().Exec(`INSERT INTO pauses (cause, detail, probe_at) VALUES ('plivo_credit', '', now())`); err != nil {
		t.Fatal(err)
	}
	if position, ok, err := store.QueuePosition(t.Context(), workspace, second); err != nil || !ok || !position.Paused {
		t.Errorf("during a pause: got %+v, %t, %v, want the cause of the pause", position, ok, err)
	}
}

// TestCostDoesNotGrowWithTheBacklog bounds what is counted, and the pages that
// statements read.
func TestCostDoesNotGrowWithTheBacklog(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	setRateLimit(t, store, 4*time.Second)
	first := create(t, store, workspace)
	// Twice as many messages are final, and come first in the table.
	// In portions, so that no statement runs into its timeout on a busy machine.
	const messages, portion = 80_000, 5_000
	for from := 0; from < messages; from += portion {
		if _, err := store.DB().Exec(`
			INSERT INTO messages (id, workspace_id, sender, recipient, text, status, backlog_state, next_attempt_at, task_check_at, expires_at, plivo_uuid, final_at)
			SELECT lpad(to_hex(i), 32, '0')::uuid, workspace_id, sender, '+1416' || (2000000 + i), '', CASE WHEN is_waiting THEN 'queued' ELSE 'delivered' END,
				CASE WHEN is_waiting THEN 'waiting' END, CASE WHEN is_waiting THEN now() END, CASE WHEN is_waiting THEN 'infinity'::timestamptz END, expires_at,
				CASE WHEN NOT is_waiting THEN i::text END, CASE WHEN NOT is_waiting THEN now() END
			FROM messages m, generate_series($1::int + 1, $1::int + $2::int) AS i, LATERAL (SELECT i > $3::int * 2.0 / 3 AS is_waiting) w
			WHERE m.id = $4`, from, portion, messages, first.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.AddToBacklog(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`UPDATE rate_limits SET next_arrival_at = now()`); err != nil {
		t.Fatal(err)
	}
	least := mms.MaxCounted * 4 * time.Second
	position, ok, err := store.QueuePosition(t.Context(), workspace, first.ID)
	if err != nil || !ok || position.Ahead != mms.MaxCounted || position.Wait < least {
		t.Errorf("QueuePosition: got %+v, %t, %v, want %d ahead", position, ok, err, mms.MaxCounted)
	}
	if f, err := store.Forecast(t.Context(), first, nil); err != nil || f.Ahead != mms.MaxCounted {
		t.Errorf("Forecast: got %d ahead, %v, want %d", f.Ahead, err, mms.MaxCounted)
	}
	if _, err := store.DB().Exec(`ANALYZE`); err != nil {
		t.Fatal(err)
	}
	if pages := pagesRead(t, store, postgres.ReleaseStatement, 0.3); pages > 60 {
		t.Errorf("release: got %d pages read, want at most 60", pages)
	}
	if _, err := store.DB().Exec(`INSERT INTO pauses (cause, detail, probe_at) VALUES ('plivo_credit', '', now())`); err != nil {
		t.Fatal(err)
	}
	if pages := pagesRead(t, store, postgres.ProbeStatement); pages > 1500 {
		t.Errorf("probe: got %d pages read, want at most 1500", pages)
	}
}

// pagesRead executes a statement, rolls it back, and returns how many pages it read.
func pagesRead(t *testing.T, store *postgres.Store, query string, args ...any) int {
	t.Helper()
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var text []byte
	if err := tx.QueryRow(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+query, args...).Scan(&text); err != nil {
		t.Fatal(err)
	}
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan.Hit + plans[0].Plan.Read
}

func TestExpiredMessageIsNotClaimed(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	expired, valid := create(t, store, workspace), create(t, store, workspace)
	if _, err := store.DB().Exec(`UPDATE messages SET expires_at = now() WHERE id = $1`, expired.ID); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := store.Claim(t.Context(), expired.ID, token(), lease); err != nil || ok {
		t.Errorf("Claim: got %t, %v, want false", ok, err)
	}
	if blocker, err := store.ClaimBlocker(t.Context(), expired.ID); err != nil || !blocker.Expired {
		t.Errorf("ClaimBlocker: got %+v, %v, want expired", blocker, err)
	}
	if n, err := store.ExpireQueued(t.Context(), 10); err != nil || n != 1 {
		t.Errorf("ExpireQueued: got %d, %v, want 1", n, err)
	}
	h := read(t, store, expired)
	wantEvents(t, h, mms.Failed, "created>queued expired>failed")
	if !strings.Contains(h.Explain(), "expired") {
		t.Errorf("got explanation %q", h.Explain())
	}
	claim(t, store, valid.ID)
}

// TestReleaseSkipsLockedMessages locks the first message of the backlog.
func TestReleaseSkipsLockedMessages(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	setRateLimit(t, store, 50*time.Millisecond)
	first, second := create(t, store, workspace), create(t, store, workspace)
	for _, m := range []mms.Message{first, second} {
		if err := store.AddToBacklog(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
	}
	passInterval(t, store)
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`SELECT FROM messages WHERE id = $1 FOR UPDATE`, first.ID); err != nil {
		t.Fatal(err)
	}
	tasks, err := store.Release(t.Context(), 50*time.Millisecond)
	if err != nil || len(tasks) != 1 || tasks[0].MessageID != second.ID {
		t.Errorf("got %+v, %v, want the second message", tasks, err)
	}
}

// TestPriorities releases messages by priority. A new message need not wait for messages
// of a lower priority.
func TestPriorities(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	var waiting []mms.Message
	for _, p := range []mms.Priority{mms.Bulk, mms.Bulk, mms.Normal, mms.High} {
		request := newRequest(workspace)
		request.Priority = p
		m := mustCreate(t, store, request)
		if err := store.AddToBacklog(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, m)
	}
	if position, in, err := store.QueuePosition(t.Context(), workspace, waiting[2].ID); position.Ahead != 1 || !in || err != nil {
		t.Errorf("position of the normal message: got %+v, %t, %v, want 1 ahead", position, in, err)
	}
	tasks, err := store.Release(t.Context(), time.Second)
	if err != nil || len(tasks) != 4 {
		t.Fatalf("Release: got %v, %v, want 4 tasks", tasks, err)
	}
	if _, err := store.DB().Exec(`UPDATE messages SET backlog_state = 'waiting'`); err != nil {
		t.Fatal(err)
	}
	if err := store.SetRateLimit(t.Context(), "+14155550100", 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for i, want := range []uuid.UUID{waiting[3].ID, waiting[2].ID, waiting[0].ID, waiting[1].ID} {
		if _, err := store.DB().Exec(`UPDATE rate_limits SET next_arrival_at = now(), released_until = '-infinity'`); err != nil {
			t.Fatal(err)
		}
		tasks, err := store.Release(t.Context(), time.Millisecond)
		if err != nil || len(tasks) != 1 || tasks[0].MessageID != want {
			t.Fatalf("release %d: got %v, %v, want %v", i, tasks, err, want)
		}
	}
	if _, err := store.DB().Exec(`UPDATE messages SET backlog_state = CASE WHEN priority = 3 THEN 'waiting' END; UPDATE rate_limits SET next_arrival_at = now()`); err != nil {
		t.Fatal(err)
	}
	normal := create(t, store, workspace)
	if _, claimed, err := store.Claim(t.Context(), normal.ID, token(), lease); !claimed || err != nil {
		t.Errorf("normal message behind bulk messages: got claimed %t, %v, want true", claimed, err)
	}
}

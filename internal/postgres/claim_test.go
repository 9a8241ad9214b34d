package postgres_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestOneOfManyClaimsSucceeds(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
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
		t.Errorf("got %d claims, want 1", claimed.Load())
	}
	wantEvents(t, read(t, store, m), mms.Sending, "created>queued attempt_started>sending")
}

func TestMessageIsNotClaimedBeforeItIsDue(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	c, _ := claim(t, store, m.ID)
	if _, err := store.RecordTransientFailure(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.TransientFailure}, mms.Transition{Wait: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := store.Claim(t.Context(), m.ID, token(), lease); err != nil || ok {
		t.Errorf("Claim: got %t, %v, want false", ok, err)
	}
	blocker, err := store.ClaimBlocker(t.Context(), m.ID)
	if err != nil || blocker.DueIn < 59*time.Minute || blocker.DueIn > time.Hour {
		t.Errorf("ClaimBlocker: got %+v, %v, want due in about an hour", blocker, err)
	}
}

func TestClaimCountsTransientFailures(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	for want := range 3 {
		c, _ := claim(t, store, m.ID)
		if c.TransientFailures != want || c.Ordinal != 2*want+1 {
			t.Errorf("got claim %+v, want %d transient failures", c, want)
		}
		for _, status := range []int{429, 0} { // 0: Plivo was not reached, which does not count
			if _, err := store.RecordTransientFailure(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.TransientFailure, HTTPStatus: status}, mms.Transition{}); err != nil {
				t.Fatal(err)
			}
			if status == 429 {
				c, _ = claim(t, store, m.ID)
			}
		}
	}
}

func TestOneMessageOfAPairIsInFlight(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	first, second := createFor(t, store, workspace, "+14155559999"), createFor(t, store, workspace, "+14155559999")
	c, _ := claim(t, store, first.ID)
	if _, ok, err := store.Claim(t.Context(), second.ID, token(), lease); err != nil || ok {
		t.Errorf("Claim of the second message: got %t, %v, want false", ok, err)
	}
	if blocker, err := store.ClaimBlocker(t.Context(), second.ID); err != nil || !blocker.PairInFlight {
		t.Errorf("ClaimBlocker: got %+v, %v, want the pair in flight", blocker, err)
	}
	if _, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := store.Claim(t.Context(), second.ID, token(), lease); err != nil || ok {
		t.Errorf("Claim while the first message is in doubt: got %t, %v, want false", ok, err)
	}
	if _, err := store.Hold(t.Context(), c.AttemptRef, mms.ReasonAmbiguous); err != nil {
		t.Fatal(err)
	}
	claim(t, store, second.ID) // a held message does not block its pair
}

// TestClaimOutlivesItsContext: a claim that is committed after its worker gave up would
// leave the message in doubt.
func TestClaimOutlivesItsContext(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`SELECT FROM messages WHERE id = $1 FOR UPDATE`, m.ID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	claimed := make(chan bool)
	go func() {
		_, ok, err := store.Claim(ctx, m.ID, token(), lease)
		if err != nil {
			t.Error(err)
		}
		claimed <- ok
	}()
	testkit.Eventually(t, "the claim waits for the lock", func() bool {
		return count(t, store, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 1
	})
	cancel()
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if !<-claimed {
		t.Error("got no claim after the context ended, want one")
	}
}

// TestSharedClaimLeavesOutBusyPairs claims, with one statement, two messages of a pair,
// one of a pair in flight, and another.
func TestSharedClaimLeavesOutBusyPairs(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	claim(t, store, createFor(t, store, workspace, "+14165550000").ID)
	inFlight := createFor(t, store, workspace, "+14165550000")
	first, second := createFor(t, store, workspace, "+14165550001"), createFor(t, store, workspace, "+14165550001")
	other := create(t, store, workspace)
	got := map[uuid.UUID]bool{}
	for id := range store.ClaimTogether(t.Context(), inFlight.ID, second.ID, first.ID, other.ID) {
		got[id] = true
	}
	if diff := cmp.Diff(map[uuid.UUID]bool{first.ID: true, other.ID: true}, got); diff != "" {
		t.Errorf("claimed (-want +got):\n%s", diff)
	}
}

// TestBothClaimStatementsAgree claims two messages in the same random state, one alone
// and one with a shared statement, and compares all rows of the two. The condition that
// finds messages without progress must agree too. Each message has a sender of its own
// without a rate limit.
func TestBothClaimStatementsAgree(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	exec := func(t *rapid.T, statement string, args ...any) {
		t.Helper()
		if _, err := store.DB().Exec(statement, args...); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	senders := []mms.PhoneNumber{"+14155550111", "+14155550112", "+14155550113"}
	for _, sender := range senders {
		if err := store.SetRateLimit(t.Context(), sender, 0); err != nil {
			t.Fatal(err)
		}
	}
	recipients := 0
	rapid.Check(t, func(rt *rapid.T) {
		recipients++
		state := drawClaimState(rt)
		exec(rt, `DELETE FROM pauses`)
		exec(rt, `UPDATE messages SET status = 'canceled', backlog_state = NULL, next_attempt_at = NULL, task_check_at = NULL, final_at = now(), held = false
			WHERE status IN ('queued', 'sending', 'in_doubt')`)
		var ids []uuid.UUID
		for _, sender := range senders {
			request := newRequest(workspace)
			request.Sender, request.Recipient = sender, mms.PhoneNumber(fmt.Sprintf("+1416%07d", 2000000+recipients))
			m, err := store.CreateMessage(t.Context(), request)
			if err != nil {
				rt.Fatal(err)
			}
			ids = append(ids, m.ID)
		}
		for _, id := range ids[:2] {
			for _, statement := range state {
				exec(rt, statement, id)
			}
		}
		var foreseen bool
		if err := store.DB().QueryRow(`SELECT `+postgres.WouldBeClaimed+` FROM messages m WHERE id = $1`, ids[0]).Scan(&foreseen); err != nil {
			rt.Fatal(err)
		}
		_, alone, err := store.Claim(t.Context(), ids[0], token(), time.Minute)
		if err != nil {
			rt.Fatal(err)
		}
		if alone != foreseen {
			rt.Fatalf("claimed alone: %t, foreseen by wouldBeClaimed: %t", alone, foreseen)
		}
		claims := store.ClaimTogether(t.Context(), ids[1], ids[2]) // two, so that they share a statement
		_, together := claims[ids[1]]
		if alone != together {
			rt.Fatalf("claimed alone: %t, claimed together: %t", alone, together)
		}
		if diff := cmp.Diff(rowsOf(rt, store, ids[0]), rowsOf(rt, store, ids[1])); diff != "" {
			rt.Fatalf("rows (-alone +together):\n%s", diff)
		}
	})
}

// drawClaimState returns statements that put the message $1, and what can block its
// claim, in a random state.
func drawClaimState(t *rapid.T) []string {
	const addOther = `INSERT INTO messages (id, workspace_id, sender, recipient, text, status, next_attempt_at, task_check_at, backlog_state, priority, held)
		SELECT gen_random_uuid(), workspace_id, sender, `
	statements := []string{
		// An earlier attempt, which counts for the retry policy.
		`WITH attempt AS (INSERT INTO attempts (message_id, ordinal, token, sender, lease_until, finished_at, outcome, http_status)
			SELECT id, 1, repeat('t', 32) || id, sender, now(), now(), 'transient_failure', 429 FROM messages WHERE id = $1)
			UPDATE messages SET attempts = 1 WHERE id = $1`,
		`UPDATE messages SET reason = 'rate_limited' WHERE id = $1`,
		`UPDATE messages SET priority = 1 WHERE id = $1`,
		`UPDATE messages SET backlog_state = 'waiting' WHERE id = $1`,
		`UPDATE messages SET backlog_state = 'released' WHERE id = $1`,
		`UPDATE messages SET backlog_state = 'preparing', prepare_at = now() WHERE id = $1`,
		`UPDATE message_media SET content = sha256('not at Plivo') WHERE message_id = $1`,
		`WITH c AS (INSERT INTO media_contents (hash, type, bytes, width, height, data) VALUES (sha256('x'), 'image/png', 1, 1, 1, 'x') ON CONFLICT (hash) DO UPDATE SET touched_at = now() RETURNING hash),
			p AS (INSERT INTO plivo_media (content, account, media_id, usable_until) SELECT hash, '', 'id', now() + interval '1 hour' FROM c ON CONFLICT DO NOTHING)
			UPDATE message_media SET content = hash FROM c WHERE message_id = $1`,
		`UPDATE messages SET next_attempt_at = now() + interval '1 hour' WHERE id = $1`,
		`UPDATE messages SET expires_at = now() WHERE id = $1`,
		`WITH b AS (INSERT INTO batches (id, workspace_id, name, state) SELECT gen_random_uuid(), workspace_id, '', 'running' FROM messages WHERE id = $1 RETURNING id)
			UPDATE messages SET batch_id = b.id FROM b WHERE messages.id = $1`,
		`UPDATE batches SET state = 'paused' WHERE id = (SELECT batch_id FROM messages WHERE id = $1)`,
		`INSERT INTO suppressions (sender, recipient, reason) SELECT sender, recipient, 'recipient' FROM messages WHERE id = $1`,
		`INSERT INTO pauses (cause, detail, probe_at) SELECT 'plivo_credit', '', now() WHERE $1::uuid IS NOT NULL ON CONFLICT DO NOTHING`,
		addOther + `'+14165550009', '', 'queued', now(), 'infinity', 'waiting', 2, false FROM messages WHERE id = $1`,
		addOther + `recipient, '', 'in_doubt', NULL, NULL, NULL, 2, true FROM messages WHERE id = $1`,
		addOther + `recipient, '', 'sending', NULL, NULL, NULL, 2, false FROM messages WHERE id = $1`,
		`UPDATE messages SET status = 'canceled', backlog_state = NULL, next_attempt_at = NULL, task_check_at = NULL, final_at = now() WHERE id = $1`,
	}
	drawn := rapid.SliceOfNDistinct(rapid.IntRange(0, len(statements)-1), 0, 4, rapid.ID[int]).Draw(t, "statements")
	slices.Sort(drawn)
	var state []string
	for _, i := range drawn {
		state = append(state, statements[i])
	}
	return state
}

// rowsOf returns the rows of a message, its attempts and its events, without what
// differs between any two messages, and with times as whether they are set.
func rowsOf(t *rapid.T, store *postgres.Store, id uuid.UUID) []string {
	t.Helper()
	var found []string
	for _, query := range []string{
		`SELECT to_jsonb(m) - '{id,sender,batch_id}'::text[] FROM messages m WHERE id = $1`,
		`SELECT to_jsonb(a) - '{message_id,token,sender}'::text[] FROM attempts a WHERE message_id = $1 ORDER BY ordinal`,
		`SELECT to_jsonb(e) - '{id,message_id}'::text[] FROM message_events e WHERE message_id = $1 ORDER BY id`,
	} {
		rows, err := store.DB().Query(query, id)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var row string
			if err := rows.Scan(&row); err != nil {
				t.Fatal(err)
			}
			found = append(found, timestamp.ReplaceAllString(row, `"time"`))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

var timestamp = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`)

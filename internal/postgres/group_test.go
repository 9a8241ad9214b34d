package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestManyAtOnce accepts, claims and records many messages side by side, the good
// ones among bad ones: each gets its own answer, and all of it is stored as if it
// had been done one by one.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	const messages = 300
	made, _ := newKey(t, store, owner, nil)
	key := made.ID
	orders := make([]mms.CreateRequest, messages)
	for i := range orders {
		o := order(owner)
		o.Recipient = mms.PhoneNumber(fmt.Sprintf("+1416%07d", 2000000+i))
		o.Text, o.KeyID = fmt.Sprintf("number %d", i), key
		o.MediaURLs = []string{fmt.Sprintf("https://example.com/%d.jpg", i), "https://example.com/b.jpg"}
		o.Metadata = map[string]string{"number": fmt.Sprint(i)}
		o.Idempotency = mms.Idempotency{Key: fmt.Sprint(i / 2 * 2), Fingerprint: [32]byte{byte(i % 2)}} // every second one is refused
		if i%2 == 0 && i%10 != 0 {
			o.Caps = []mms.Cap{{Holder: owner, Messages: 1_000_000}}
		}
		if i%10 <= 1 {
			o.Idempotency = mms.Idempotency{}
		}
		if i%10 == 0 {
			o.Caps = []mms.Cap{{Holder: uuid.Nil, Messages: 5}} // five of thirty are taken
		}
		orders[i] = o
	}
	taken := make([]mms.CreateResult, messages)
	errs := make([]error, messages)
	each := func(do func(i int)) {
		var group sync.WaitGroup
		for i := range orders {
			group.Go(func() { do(i) })
		}
		group.Wait()
	}
	each(func(i int) {
		for {
			if taken[i], errs[i] = store.CreateMessage(t.Context(), orders[i]); !errors.Is(errs[i], mms.ErrInFlight) {
				return
			}
		}
	})
	stored, full, reused := 0, 0, 0
	for i, err := range errs {
		var capped mms.CapError
		switch {
		case err == nil:
			stored++
			h := read(t, store, taken[i].Message)
			if diff := cmp.Diff(taken[i].Message, h.Message.AsCreated()); diff != "" || h.Text != orders[i].Text || len(h.MediaURLs) != 2 || h.KeyID != key {
				t.Fatalf("message %d is stored otherwise than answered:\n%s", i, diff)
			}
			wantStory(t, h, mms.Queued, "created>queued")
		case errors.As(err, &capped):
			full++
		case errors.Is(err, mms.ErrKeyReused):
			reused++
		default:
			t.Fatalf("message %d: %v", i, err)
		}
	}
	// Of two with the same key and different words one is taken, whichever came
	// first; a tenth is capped, and a tenth has no key. Statements under way at the
	// same time do not see each other's counts, so that a cap can be passed.
	if stored+full != 180 || reused != 120 || full > 25 || full < 20 {
		t.Fatalf("%d stored, %d capped, %d with used keys", stored, full, reused)
	}
	if n := count(t, store, `SELECT coalesce(sum(messages), 0) FROM daily_counts WHERE holder = $1`, uuid.Nil); n != 30-full {
		t.Errorf("%d messages count for today, %d were stored", n, 30-full)
	}
	if n := count(t, store, `SELECT count(*) FROM messages`); n != stored {
		t.Errorf("%d messages for %d answers", n, stored)
	}

	claimed := make([]mms.Claim, messages)
	ok := make([]bool, messages)
	each(func(i int) {
		id := taken[i].ID
		if errs[i] != nil {
			id = uuid.New() // of no message
		}
		var err error
		if claimed[i], ok[i], err = store.Claim(t.Context(), id, token(), time.Minute); err != nil {
			t.Error(err)
		}
		if _, again, err := store.Claim(t.Context(), id, token(), time.Minute); again || err != nil {
			t.Errorf("claimed twice: %v", err)
		}
	})
	each(func(i int) {
		if ok[i] != (errs[i] == nil) {
			t.Errorf("message %d is claimed: %t", i, ok[i])
		}
		if !ok[i] {
			return
		}
		if claimed[i].MessageID != taken[i].ID || claimed[i].Text != orders[i].Text || len(claimed[i].MediaURLs) != 2 || claimed[i].Ordinal != 1 {
			t.Errorf("message %d is claimed as %+v", i, claimed[i])
		}
		plivoUUID := fmt.Sprint("uuid-", i)
		if i%20 == 0 {
			plivoUUID = "the same for several" // only one can have it
		}
		v := mms.Verdict{Outcome: mms.Accepted, PlivoUUID: plivoUUID, HTTPStatus: 202, APIID: fmt.Sprint("api-", i)}
		means, err := store.RecordSubmitted(t.Context(), claimed[i].AttemptRef, v, mms.EventSubmitted)
		if err != nil || means != mms.Adopted && i%20 != 0 {
			t.Errorf("message %d: %v, %v", i, means, err)
		}
		if means, err := store.RecordSubmitted(t.Context(), claimed[i].AttemptRef, v, mms.EventSubmitted); err != nil || means != mms.AlreadyKnown {
			t.Errorf("message %d, told twice: %v, %v", i, means, err)
		}
		if i%20 != 0 {
			h := read(t, store, taken[i].Message)
			if a := h.AttemptList[0]; h.PlivoUUID != plivoUUID || a.APIID != fmt.Sprint("api-", i) || a.Outcome != mms.Accepted {
				t.Errorf("message %d is %+v", i, h)
			}
			wantStory(t, h, mms.Submitted, "created>queued attempt_started>sending submitted>submitted")
		}
	})
}

// TestAClaimIsNotAbandoned has a worker stop while it claims: the message that it
// gets all the same must be sent, not be in doubt.
func TestAClaimIsNotAbandoned(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
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
	testkit.Eventually(t, "the claim waits for the message", func() bool {
		return count(t, store, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 1
	})
	cancel()
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if !<-claimed {
		t.Error("the claim was given up, and the message is in doubt")
	}
}

// TestALockedMessageHoldsUpNoOther has somebody lock two messages, of which one is to
// be claimed and the outcome of the other to be recorded: others are claimed and
// recorded all the same, and so are they once they are free.
func TestALockedMessageHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	locked := accept(t, store, owner)
	sent := accept(t, store, owner)
	claimOfSent, _ := claim(t, store, sent.ID)
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`SELECT FROM messages FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		if _, ok, err := store.Claim(t.Context(), locked.ID, token(), lease); !ok || err != nil {
			t.Errorf("the locked message was not claimed when it was free: %v", err)
		}
	})
	group.Go(func() {
		v := mms.Verdict{Outcome: mms.Accepted, PlivoUUID: "locked", HTTPStatus: 202}
		if got, err := store.RecordSubmitted(t.Context(), claimOfSent.AttemptRef, v, mms.EventSubmitted); got != mms.Adopted || err != nil {
			t.Errorf("the outcome for the locked message is %v, %v", got, err)
		}
	})
	testkit.Eventually(t, "both wait for their messages", func() bool {
		return count(t, store, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 2
	})
	for range 3 {
		m := accept(t, store, owner)
		c, _ := claim(t, store, m.ID)
		v := mms.Verdict{Outcome: mms.Accepted, PlivoUUID: m.ID.String(), HTTPStatus: 202}
		if got, err := store.RecordSubmitted(t.Context(), c.AttemptRef, v, mms.EventSubmitted); got != mms.Adopted || err != nil {
			t.Errorf("the outcome beside the locked messages is %v, %v", got, err)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	group.Wait()
}

// TestSharedClaimLeavesOutBusyPairs claims, with one statement, two messages of a pair,
// one of a pair in flight, and another.
func TestSharedClaimLeavesOutBusyPairs(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	claim(t, store, acceptFor(t, store, owner, "+14165550000").ID)
	inFlight := acceptFor(t, store, owner, "+14165550000")
	first, second := acceptFor(t, store, owner, "+14165550001"), acceptFor(t, store, owner, "+14165550001")
	other := accept(t, store, owner)
	got := map[uuid.UUID]bool{}
	for id := range store.ClaimTogether(t.Context(), inFlight.ID, second.ID, first.ID, other.ID) {
		got[id] = true
	}
	if diff := cmp.Diff(map[uuid.UUID]bool{first.ID: true, other.ID: true}, got); diff != "" {
		t.Errorf("claimed (-want +got):\n%s", diff)
	}
}

// TestBothClaimStatementsAgree claims two messages in the same random state, one alone
// and one with a shared statement, and compares all rows of the two. Each has a sender
// of its own without a rate limit.
func TestBothClaimStatementsAgree(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
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
			request := order(owner)
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
		_, alone, err := store.Claim(t.Context(), ids[0], token(), time.Minute)
		if err != nil {
			rt.Fatal(err)
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
	const addOther = `INSERT INTO messages (id, user_id, sender, recipient, text, status, next_attempt_at, task_check_at, backlog_state, priority, held)
		SELECT gen_random_uuid(), user_id, sender, `
	statements := []string{
		// An earlier attempt, which counts for the retry policy.
		`WITH attempt AS (INSERT INTO attempts (message_id, ordinal, token, sender, lease_until, finished_at, outcome, http_status)
			SELECT id, 1, repeat('t', 32) || id, sender, now(), now(), 'transient_failure', 429 FROM messages WHERE id = $1)
			UPDATE messages SET attempts = 1 WHERE id = $1`,
		`UPDATE messages SET reason = 'rate_limited' WHERE id = $1`,
		`UPDATE messages SET priority = 1 WHERE id = $1`,
		`UPDATE messages SET backlog_state = 'waiting' WHERE id = $1`,
		`UPDATE messages SET backlog_state = 'released' WHERE id = $1`,
		`UPDATE messages SET next_attempt_at = now() + interval '1 hour' WHERE id = $1`,
		`UPDATE messages SET expires_at = now() WHERE id = $1`,
		`WITH b AS (INSERT INTO batches (id, user_id, name, state) SELECT gen_random_uuid(), user_id, '', 'running' FROM messages WHERE id = $1 RETURNING id)
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

package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestConcurrentCallsGetTheirOwnResults creates, claims and submits many messages
// concurrently, so that calls share statements. Some calls must fail. Every call must
// get its own result, and the rows must be those of calls made one by one.
func TestConcurrentCallsGetTheirOwnResults(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	const messages = 300
	apiKey, _ := newKey(t, store, workspace, nil)
	key := apiKey.ID
	requests := make([]mms.CreateRequest, messages)
	for i := range requests {
		request := newRequest(workspace)
		request.Recipient = mms.PhoneNumber(fmt.Sprintf("+1416%07d", 2000000+i))
		request.Text, request.KeyID = fmt.Sprintf("number %d", i), key
		request.MediaURLs = []string{fmt.Sprintf("https://example.com/%d.jpg", i), "https://example.com/b.jpg"}
		request.Metadata = map[string]string{"number": fmt.Sprint(i)}
		request.Idempotency = mms.Idempotency{Key: fmt.Sprint(i / 2 * 2), Fingerprint: [32]byte{byte(i % 2)}} // of each pair one is rejected
		if i%2 == 0 && i%10 != 0 {
			request.Caps = []mms.Cap{{Holder: workspace, Messages: 1_000_000}}
		}
		if i%10 <= 1 {
			request.Idempotency = mms.Idempotency{}
		}
		if i%10 == 0 {
			request.Caps = []mms.Cap{{Holder: uuid.Nil, Messages: 5}} // allows five of thirty
		}
		requests[i] = request
	}
	results := make([]mms.CreateResult, messages)
	errs := make([]error, messages)
	each := func(do func(i int)) {
		var group sync.WaitGroup
		for i := range requests {
			group.Go(func() { do(i) })
		}
		group.Wait()
	}
	each(func(i int) {
		for {
			if results[i], errs[i] = store.CreateMessage(t.Context(), requests[i]); !errors.Is(errs[i], mms.ErrInFlight) {
				return
			}
		}
	})
	created, capped, reused := 0, 0, 0
	for i, err := range errs {
		var capError mms.CapError
		switch {
		case err == nil:
			created++
			h := read(t, store, results[i].Message)
			if diff := cmp.Diff(results[i].Message, h.Message.AsCreated()); diff != "" || h.Text != requests[i].Text || len(h.MediaURLs) != 2 || h.KeyID != key {
				t.Fatalf("message %d (-result +stored):\n%s", i, diff)
			}
			wantEvents(t, h, mms.Queued, "created>queued")
		case errors.As(err, &capError):
			capped++
		case errors.Is(err, mms.ErrKeyReused):
			reused++
		default:
			t.Fatalf("message %d: got error %v", i, err)
		}
	}
	// Of two requests with the same key and different fingerprints one is created,
	// whichever is first. A tenth is capped, and a tenth has no key. Concurrent statements
	// do not see each other's counts, so a cap can be exceeded.
	if created+capped != 180 || reused != 120 || capped > 25 || capped < 20 {
		t.Fatalf("got %d created, %d capped, %d with reused keys, want 180 in the first two, 120 reused, 20 to 25 capped", created, capped, reused)
	}
	if n := count(t, store, `SELECT coalesce(sum(messages), 0) FROM daily_counts WHERE holder = $1`, uuid.Nil); n != 30-capped {
		t.Errorf("got a daily count of %d, want %d", n, 30-capped)
	}
	if n := count(t, store, `SELECT count(*) FROM messages`); n != created {
		t.Errorf("got %d messages, want %d", n, created)
	}

	claimed := make([]mms.Claim, messages)
	ok := make([]bool, messages)
	each(func(i int) {
		id := results[i].ID
		if errs[i] != nil {
			id = uuid.New() // no such message
		}
		var err error
		if claimed[i], ok[i], err = store.Claim(t.Context(), id, token(), time.Minute); err != nil {
			t.Error(err)
		}
		if _, claimed, err := store.Claim(t.Context(), id, token(), time.Minute); claimed || err != nil {
			t.Errorf("message %d: got a second claim: %t, %v", i, claimed, err)
		}
	})
	each(func(i int) {
		if ok[i] != (errs[i] == nil) {
			t.Errorf("message %d: got claimed %t, want %t", i, ok[i], errs[i] == nil)
		}
		if !ok[i] {
			return
		}
		if claimed[i].MessageID != results[i].ID || claimed[i].Text != requests[i].Text || len(claimed[i].MediaURLs) != 2 || claimed[i].Ordinal != 1 {
			t.Errorf("message %d: got claim %+v", i, claimed[i])
		}
		plivoUUID := fmt.Sprint("uuid-", i)
		if i%20 == 0 {
			plivoUUID = "shared" // only one attempt can have it
		}
		v := mms.Verdict{Outcome: mms.Accepted, PlivoUUID: plivoUUID, HTTPStatus: 202, APIID: fmt.Sprint("api-", i)}
		result, err := store.RecordSubmitted(t.Context(), claimed[i].AttemptRef, v, mms.EventSubmitted)
		if err != nil || result != mms.Adopted && i%20 != 0 {
			t.Errorf("message %d: got %v, %v, want Adopted", i, result, err)
		}
		if result, err := store.RecordSubmitted(t.Context(), claimed[i].AttemptRef, v, mms.EventSubmitted); err != nil || result != mms.AlreadyKnown {
			t.Errorf("message %d, repeated: got %v, %v, want AlreadyKnown", i, result, err)
		}
		if i%20 != 0 {
			h := read(t, store, results[i].Message)
			if a := h.AttemptList[0]; h.PlivoUUID != plivoUUID || a.APIID != fmt.Sprint("api-", i) || a.Outcome != mms.Accepted {
				t.Errorf("message %d: got %+v", i, h)
			}
			wantEvents(t, h, mms.Submitted, "created>queued attempt_started>sending submitted>submitted")
		}
	})
}

// TestLockedMessagesDelayNoOthers locks a message that is being claimed and one that is
// being submitted. Others must not wait for them.
func TestLockedMessagesDelayNoOthers(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	locked := create(t, store, workspace)
	sent := create(t, store, workspace)
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
			t.Errorf("locked message: got claimed %t, %v, want true once it is unlocked", ok, err)
		}
	})
	group.Go(func() {
		v := mms.Verdict{Outcome: mms.Accepted, PlivoUUID: "locked", HTTPStatus: 202}
		if got, err := store.RecordSubmitted(t.Context(), claimOfSent.AttemptRef, v, mms.EventSubmitted); got != mms.Adopted || err != nil {
			t.Errorf("locked message: got %v, %v, want Adopted once it is unlocked", got, err)
		}
	})
	testkit.Eventually(t, "both calls wait for their locks", func() bool {
		return count(t, store, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 2
	})
	for range 3 {
		m := create(t, store, workspace)
		c, _ := claim(t, store, m.ID)
		v := mms.Verdict{Outcome: mms.Accepted, PlivoUUID: m.ID.String(), HTTPStatus: 202}
		if got, err := store.RecordSubmitted(t.Context(), c.AttemptRef, v, mms.EventSubmitted); got != mms.Adopted || err != nil {
			t.Errorf("other message: got %v, %v, want Adopted", got, err)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	group.Wait()
}

// TestSharedCreateEqualsCreateAlone creates equal messages with a shared statement and
// alone, immediate and scheduled. The results must be equal to each other and to what
// is stored.
func TestSharedCreateEqualsCreateAlone(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	sendAt := time.Now().Add(time.Hour).Truncate(time.Second).Add(123456789 * time.Nanosecond) // finer than the database stores
	immediate, scheduled := newRequest(workspace), newRequest(workspace)
	immediate.Metadata = map[string]string{}
	scheduled.SendAt, scheduled.Metadata, scheduled.Priority = &sendAt, map[string]string{"order": "17"}, mms.High
	results := store.CreateTogether(t.Context(), immediate, scheduled)
	if len(results) != 2 {
		t.Fatalf("got %d messages created, want 2", len(results))
	}
	for _, request := range []mms.CreateRequest{immediate, scheduled} {
		together := results[request.ID].Message
		request.ID = uuid.Must(uuid.NewV7())
		alone := mustCreate(t, store, request)
		for _, m := range []mms.Message{together, alone} {
			h := read(t, store, m)
			if diff := cmp.Diff(m, h.Message); diff != "" {
				t.Errorf("message (-result +stored):\n%s", diff)
			}
			wantEvents(t, h, m.Status, fmt.Sprintf("created>%s", m.Status))
		}
		ignored := cmpopts.IgnoreFields(mms.Message{}, "ID", "CreatedAt", "UpdatedAt", "ExpiresAt", "NextAttemptAt")
		if diff := cmp.Diff(alone, together, ignored); diff != "" {
			t.Errorf("message (-alone +together):\n%s", diff)
		}
	}
}

package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

const (
	sender1, sender2 = mms.PhoneNumber("+14155550100"), mms.PhoneNumber("+14155550101")
	asked            = mms.PhoneNumber("+14165550123") // has opted out
	notAsked         = mms.PhoneNumber("+14165550124")
)

// scopedStores returns a store of each scope on the same database: changing the setting
// needs no other data.
func scopedStores(t *testing.T) (map[mms.OptOutScope]*postgres.Store, uuid.UUID) {
	t.Helper()
	database := testkit.Database(t)
	all, workspace := newStoreOn(t, database, postgres.StatementTimeout)
	one, err := postgres.Open(database, 10, postgres.StatementTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { one.Close() })
	one.SetOptOutScope(mms.OptOutsOfOneSender)
	if err := all.SetRateLimit(t.Context(), sender2, 0); err != nil {
		t.Fatal(err)
	}
	return map[mms.OptOutScope]*postgres.Store{mms.OptOutsOfEverySender: all, mms.OptOutsOfOneSender: one}, workspace
}

func add(t *testing.T, store *postgres.Store, list ...mms.Suppression) {
	t.Helper()
	if _, err := store.AddSuppressions(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

func createBetween(t *testing.T, store *postgres.Store, workspace uuid.UUID, sender, recipient mms.PhoneNumber) mms.Message {
	t.Helper()
	request := newRequest(workspace)
	request.Sender, request.Recipient = sender, recipient
	return mustCreate(t, store, request)
}

// TestOptOutScope checks every statement that asks whether a recipient has opted out.
func TestOptOutScope(t *testing.T) {
	t.Parallel()
	stores, workspace := scopedStores(t)
	byRecipient := mms.Suppression{Sender: sender1, Recipient: asked, Reason: mms.SuppressedByRecipient}
	byAdmin := mms.Suppression{Recipient: asked, Reason: mms.SuppressedByAdmin}
	const texted, added = "recipient +14155550100", "admin "
	for name, tt := range map[string]struct {
		suppression       mms.Suppression
		scope             mms.OptOutScope
		sender, recipient mms.PhoneNumber
		want              string // the detail of the event; empty: not suppressed
	}{
		"all, the sender":                    {byRecipient, mms.OptOutsOfEverySender, sender1, asked, texted},
		"all, another sender":                {byRecipient, mms.OptOutsOfEverySender, sender2, asked, texted},
		"all, another recipient":             {byRecipient, mms.OptOutsOfEverySender, sender1, notAsked, ""},
		"sender, the sender":                 {byRecipient, mms.OptOutsOfOneSender, sender1, asked, texted},
		"sender, another sender":             {byRecipient, mms.OptOutsOfOneSender, sender2, asked, ""},
		"sender, another recipient":          {byRecipient, mms.OptOutsOfOneSender, sender1, notAsked, ""},
		"all, by admin for every sender":     {byAdmin, mms.OptOutsOfEverySender, sender2, asked, added},
		"sender, by admin for every sender":  {byAdmin, mms.OptOutsOfOneSender, sender2, asked, added},
		"sender, by admin for others, other": {byAdmin, mms.OptOutsOfOneSender, sender2, notAsked, ""},
	} {
		store := stores[tt.scope]
		if _, err := store.DB().Exec(`DELETE FROM suppressions; UPDATE messages SET status = 'canceled', backlog_state = NULL, next_attempt_at = NULL, task_check_at = NULL, final_at = now(), held = false WHERE final_at IS NULL`); err != nil {
			t.Fatal(err)
		}
		add(t, store, tt.suppression)
		alone := createBetween(t, store, workspace, tt.sender, tt.recipient)
		together, other := createBetween(t, store, workspace, tt.sender, tt.recipient), create(t, store, workspace)
		suppressed := tt.want != ""
		if f, err := store.Forecast(t.Context(), alone, nil); err != nil || f.Suppressed != suppressed {
			t.Errorf("%s: Forecast: got suppressed %t, %v, want %t", name, f.Suppressed, err, suppressed)
		}
		if b, err := store.ClaimBlocker(t.Context(), alone.ID); err != nil || b.Suppressed != suppressed {
			t.Errorf("%s: ClaimBlocker: got suppressed %t, %v, want %t", name, b.Suppressed, err, suppressed)
		}
		claims := store.ClaimTogether(t.Context(), together.ID, other.ID)
		if _, claimed := claims[together.ID]; claimed == suppressed || len(claims) == 0 {
			t.Errorf("%s: claimed together: got %t, want %t", name, claimed, !suppressed)
		}
		if suppressed {
			if _, claimed, err := store.Claim(t.Context(), alone.ID, token(), time.Minute); err != nil || claimed {
				t.Errorf("%s: Claim: got %t, %v, want false", name, claimed, err)
			}
		}
		if err := store.FailSuppressed(t.Context(), alone.ID); err != nil {
			t.Fatal(err)
		}
		h := read(t, store, alone)
		last := h.Events[len(h.Events)-1]
		if failed := h.Status == mms.Failed; failed != suppressed || failed && last.Detail != tt.want {
			t.Errorf("%s: FailSuppressed: got status %s, detail %q, want failed: %t, %q", name, h.Status, last.Detail, suppressed, tt.want)
		}
	}
}

// TestStartFreesTheScope has a recipient who opted out from two senders, and for whom an
// admin added another opt-out, text START to the first.
func TestStartFreesTheScope(t *testing.T) {
	t.Parallel()
	for scope, want := range map[mms.OptOutScope][]mms.Suppression{
		mms.OptOutsOfEverySender: {{Sender: sender1, Recipient: notAsked, Reason: mms.SuppressedByRecipient}},
		mms.OptOutsOfOneSender:   {{Sender: sender2, Recipient: asked, Reason: mms.SuppressedByPlivo}, {Sender: sender1, Recipient: notAsked, Reason: mms.SuppressedByRecipient}},
	} {
		stores, _ := scopedStores(t)
		store := stores[scope]
		add(t, store, mms.Suppression{Sender: sender2, Recipient: asked, Reason: mms.SuppressedByPlivo}, mms.Suppression{Sender: sender1, Recipient: notAsked, Reason: mms.SuppressedByRecipient})
		text := func(content string) {
			t.Helper()
			receive(t, store, mms.Message{Sender: sender1, Recipient: asked}, content, true)
		}
		text("STOP")
		text("START")
		if diff := cmp.Diff(want, suppressions(t, store)); diff != "" {
			t.Errorf("scope %s: after START (-want +got):\n%s", scope, diff)
		}
		var record string
		if err := store.DB().QueryRow(`SELECT string_agg(keyword || ' ' || to_number, ', ' ORDER BY received_at) FROM inbound_messages`).Scan(&record); err != nil || record != "stop +14155550100, start +14155550100" {
			t.Errorf("scope %s: got record %q, %v, want both texts with the number they were sent to", scope, record, err)
		}
		byAdmin := mms.Suppression{Recipient: asked, Reason: mms.SuppressedByAdmin}
		add(t, store, byAdmin)
		text("START")
		if got := suppressions(t, store); got[0] != byAdmin {
			t.Errorf("scope %s: got %v after START, want the admin's opt-out first", scope, got)
		}
	}
}

// TestRepeatedCallbackAppliesNoKeyword repeats the callback of an opt-out after the
// recipient has opted in again, and the other way round.
func TestRepeatedCallbackAppliesNoKeyword(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	in := func(text string) mms.Inbound {
		return mms.Inbound{ID: uuid.New(), PlivoUUID: uuid.NewString(), From: asked, To: sender1, Text: text, Keyword: mms.KeywordIn(text)}
	}
	stop, start := in("STOP"), in("START")
	for i, step := range []struct {
		in         mms.Inbound
		isNew      bool
		suppressed int
	}{{stop, true, 1}, {start, true, 0}, {stop, false, 0}, {in("stop"), true, 1}, {start, false, 1}} {
		step.in.ID = uuid.New()
		if isNew, err := store.RecordInbound(t.Context(), step.in, true); err != nil || isNew != step.isNew {
			t.Errorf("step %d: got new %t, %v, want %t", i, isNew, err, step.isNew)
		}
		if got := suppressions(t, store); len(got) != step.suppressed {
			t.Errorf("step %d: got %v, want %d", i, got, step.suppressed)
		}
	}
}

// TestOptOutDuringAnAttempt has the recipient opt out while Plivo is being called: a retry
// does not reach Plivo.
func TestOptOutDuringAnAttempt(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	c, _ := claim(t, store, m.ID)
	receive(t, store, mms.Message{Sender: sender2, Recipient: m.Recipient}, "STOP", true)
	if _, err := store.RecordTransientFailure(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.TransientFailure, HTTPStatus: 503}, mms.Transition{Status: mms.Queued}); err != nil {
		t.Fatal(err)
	}
	if _, claimed, err := store.Claim(t.Context(), m.ID, token(), time.Minute); err != nil || claimed {
		t.Errorf("Claim: got %t, %v, want false", claimed, err)
	}
	if b, err := store.ClaimBlocker(t.Context(), m.ID); err != nil || !b.Suppressed {
		t.Errorf("ClaimBlocker: got %+v, %v, want suppressed", b, err)
	}
}

func TestRemovalFreesTheScope(t *testing.T) {
	t.Parallel()
	var list []mms.Suppression
	for _, sender := range []mms.PhoneNumber{"", sender1, sender2} {
		list = append(list, mms.Suppression{Sender: sender, Recipient: asked, Reason: mms.SuppressedByAdmin})
	}
	other := mms.Suppression{Sender: sender1, Recipient: notAsked, Reason: mms.SuppressedByAdmin}
	for scope, want := range map[mms.OptOutScope][]mms.Suppression{
		mms.OptOutsOfEverySender: {other}, mms.OptOutsOfOneSender: {list[0], list[2], other},
	} {
		stores, _ := scopedStores(t)
		store := stores[scope]
		add(t, store, append(list, other)...)
		for _, wantRemoved := range []bool{true, false} {
			if removed, err := store.RemoveSuppression(t.Context(), sender1, asked); err != nil || removed != wantRemoved {
				t.Errorf("scope %s: RemoveSuppression: got %t, %v, want %t", scope, removed, err, wantRemoved)
			}
		}
		if diff := cmp.Diff(want, suppressions(t, store)); diff != "" {
			t.Errorf("scope %s (-want +got):\n%s", scope, diff)
		}
	}
}

// TestOptOutsAreFoundByIndex checks that the claim reads only its recipient's opt-outs.
func TestOptOutsAreFoundByIndex(t *testing.T) {
	t.Parallel()
	store, _ := newStoreForLargeTables(t)
	if _, err := store.DB().Exec(`INSERT INTO suppressions (sender, recipient, reason) SELECT '+1415555010' || i % 10, '+1416' || (2000000 + i), 'recipient' FROM generate_series(1, 20000) i; ANALYZE suppressions`); err != nil {
		t.Fatal(err)
	}
	for _, everySender := range []bool{true, false} {
		wantIndexes(t, store, fmt.Sprintf("every sender: %t", everySender), postgres.SuppressedStatement, fmt.Sprintf("'+14155550100', '+14162000001', %t", everySender))
	}
}

// TestOptOutByAdminOutlivesStart checks that START does not end what an admin has added, also
// if the recipient had opted out before.
func TestOptOutByAdminOutlivesStart(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	receive(t, store, m, "STOP", true)
	byAdmin := mms.Suppression{Sender: m.Sender, Recipient: m.Recipient, Reason: mms.SuppressedByAdmin}
	if n, err := store.AddSuppressions(t.Context(), []mms.Suppression{byAdmin, byAdmin}); err != nil || n != 1 {
		t.Errorf("AddSuppressions() = %d, %v, want 1", n, err)
	}
	receive(t, store, m, "START", true)
	list, _, err := store.Suppressions(t.Context(), m.Recipient, mms.Suppression{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].Reason != mms.SuppressedByAdmin {
		t.Errorf("after START: got %+v, want the admin's opt-out", list)
	}
}

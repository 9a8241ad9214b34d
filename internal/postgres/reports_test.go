package postgres_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// submitted creates a message that Plivo has accepted with the UUID "u-1".
func submitted(t *testing.T, store *postgres.Store, workspace uuid.UUID) (mms.Message, mms.AttemptRef) {
	t.Helper()
	m := create(t, store, workspace)
	c, _ := claim(t, store, m.ID)
	if ok, err := adopt(t.Context(), store, c.AttemptRef, "u-1"); err != nil || !ok {
		t.Fatalf("recording as submitted: got %v, %v, want true", ok, err)
	}
	return m, c.AttemptRef
}

// begun are the events of every message that submitted creates.
const begun = "created>queued attempt_started>sending submitted>submitted"

// report applies a report and checks whether it is recorded as an event.
func report(t *testing.T, store *postgres.Store, ref mms.AttemptRef, r mms.Report, want bool) {
	t.Helper()
	recorded, err := store.ApplyReport(t.Context(), ref, r, mms.EventReport)
	if err != nil || recorded != want {
		t.Errorf("report %s for %s: got recorded %v, %v, want %v", r.Summary(), r.PlivoUUID, recorded, err, want)
	}
}

func TestAttemptByToken(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	c, secret := claim(t, store, m.ID)
	if _, _, err := store.AttemptByToken(t.Context(), token()); !errors.Is(err, mms.ErrNotFound) {
		t.Errorf("unknown token: got %v, want ErrNotFound", err)
	}
	ref, plivoUUID, err := store.AttemptByToken(t.Context(), secret)
	if err != nil || ref != c.AttemptRef || plivoUUID != "" {
		t.Errorf("AttemptByToken() = %v, %q, %v, want %v without a UUID", ref, plivoUUID, err, c.AttemptRef)
	}
}

func TestReportsOnlyMoveForward(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, ref := submitted(t, store, workspace)
	for _, step := range []struct {
		state, uuid string
		recorded    bool
	}{
		{"queued", "u-1", false},
		{"sent", "u-2", false}, // of another message
		{"sent", "u-1", true},
		{"sent", "u-1", false},
		{"queued", "u-1", false},
		{"failed", "u-1", true},
		{"sent", "u-1", false},
		{"undelivered", "u-1", true},
		{"failed", "u-1", false},
		{"delivered", "u-1", true},
		{"undelivered", "u-1", false},
	} {
		report(t, store, ref, mms.Report{PlivoUUID: step.uuid, State: step.state, Code: "30"}, step.recorded)
	}
	h := read(t, store, m)
	wantEvents(t, h, mms.Delivered, begun+" report>sent report>failed report>undelivered report>delivered")
	if h.FinalAt == nil || time.Since(*h.FinalAt) > time.Hour {
		t.Errorf("got final at %v, want now", h.FinalAt)
	}
}

func TestUnknownStateIsRecordedOnce(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, ref := submitted(t, store, workspace)
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "read\x00", Code: strings.Repeat("9", 99)}, true)
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "read\x00", Code: strings.Repeat("9", 99)}, false)
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "delivered", Code: strings.Repeat("9", 99)}, true)
	wantEvents(t, read(t, store, m), mms.Delivered, begun+" report>submitted report>delivered")
}

func TestDetailsAreStoredInAnyOrder(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, ref := submitted(t, store, workspace)
	one, at, later := 1, time.Date(2026, 1, 15, 10, 20, 31, 0, time.UTC), time.Date(2026, 1, 15, 10, 20, 35, 0, time.UTC)
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "queued", Details: mms.Details{Units: &one}}, false)
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "delivered", Details: mms.Details{ReportedAt: &later}}, true)
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "sent", Details: mms.Details{Units: &one, Cost: "0.01600", SentAt: &at}}, false)
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "delivered"}, false)
	h := read(t, store, m)
	for _, moment := range []*time.Time{h.SentAt, h.ReportedAt} {
		if moment != nil {
			*moment = moment.UTC()
		}
	}
	want := mms.Details{Units: &one, Cost: "0.016000", SentAt: &at, ReportedAt: &later}
	if diff := cmp.Diff(want, h.Details); diff != "" {
		t.Errorf("details (-want +got):\n%s", diff)
	}
	if h.Version != int64(len(h.Events)) {
		t.Errorf("got version %d after %d events", h.Version, len(h.Events))
	}
}

func TestOptOutReportAddsSuppression(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, ref := submitted(t, store, workspace)
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "failed", Code: "200"}, true)
	var n int
	if err := store.DB().QueryRow(`SELECT count(*) FROM suppressions WHERE sender = $1 AND recipient = $2`, string(m.Sender), string(m.Recipient)).Scan(&n); err != nil || n != 1 {
		t.Errorf("got %d suppressions, %v, want 1", n, err)
	}
}

// setUnreported makes a message look as if Plivo last reported on it some time ago.
func setUnreported(t *testing.T, store *postgres.Store, m mms.Message, ago time.Duration) {
	t.Helper()
	_, err := store.DB().Exec(`UPDATE messages SET poll_base_at = now() - $2 * interval '1 second', updated_at = now() - $2 * interval '1 second' WHERE id = $1`, m.ID, ago.Seconds())
	if err != nil {
		t.Fatal(err)
	}
}

func takeUnreported(t *testing.T, store *postgres.Store) []mms.Unreported {
	t.Helper()
	unreported, err := store.TakeUnreported(t.Context(), 10*time.Minute, 10)
	if err != nil {
		t.Fatal(err)
	}
	return unreported
}

func TestUnreportedMessagesArePolledLessAndLess(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, ref := submitted(t, store, workspace)
	if got := takeUnreported(t, store); len(got) != 0 {
		t.Errorf("TakeUnreported() at once = %+v, want none", got)
	}
	setUnreported(t, store, m, 11*time.Minute)
	want := []mms.Unreported{{AttemptRef: ref, PlivoUUID: "u-1", Sender: m.Sender, Recipient: m.Recipient}}
	if diff := cmp.Diff(want, takeUnreported(t, store)); diff != "" {
		t.Errorf("TakeUnreported() (-want +got):\n%s", diff)
	}
	if got := takeUnreported(t, store); len(got) != 0 {
		t.Errorf("TakeUnreported() again = %+v, want none", got)
	}
	if err := store.BackOffUnreported(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	var wait float64
	if err := store.DB().QueryRow(`SELECT extract(epoch FROM poll_base_at - now()) FROM messages WHERE id = $1`, m.ID).Scan(&wait); err != nil || wait < 600 || wait > 700 {
		t.Errorf("got the next poll in %v s, %v, want about 660", wait, err)
	}
	if err := store.PollSoon(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if got := takeUnreported(t, store); len(got) != 1 {
		t.Errorf("TakeUnreported() after PollSoon() = %+v, want one", got)
	}
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "delivered"}, true)
	setUnreported(t, store, m, 0)
	if _, err := store.DB().Exec(`UPDATE messages SET poll_base_at = NULL`); err != nil {
		t.Fatal(err)
	}
	if err := store.PollSoon(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if first, second := takeUnreported(t, store), takeUnreported(t, store); len(first) != 1 || len(second) != 0 {
		t.Errorf("final message after PollSoon(): got %d and %d results, want 1 and 0", len(first), len(second))
	}
}

func TestCloseUnreported(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"queued", "sent"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			m, ref := submitted(t, store, workspace)
			report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: state}, state == "sent")
			if n, err := store.CloseUnreported(t.Context(), time.Hour, 10); err != nil || n != 0 {
				t.Errorf("CloseUnreported() at once = %d, %v, want 0", n, err)
			}
			setUnreported(t, store, m, 2*time.Hour)
			if n, err := store.CloseUnreported(t.Context(), time.Hour, 10); err != nil || n != 1 {
				t.Errorf("CloseUnreported() = %d, %v, want 1", n, err)
			}
			h := read(t, store, m)
			if !h.Final() || h.Events[len(h.Events)-1].Kind != mms.EventClosed || h.Explain() == m.Explain() {
				t.Errorf("got %+v, want a closed message", h.Message)
			}
			if got := takeUnreported(t, store); len(got) != 0 {
				t.Errorf("TakeUnreported() = %+v, want none", got)
			}
			if counts, err := store.OpenCounts(t.Context()); err != nil || counts.Messages[mms.Submitted] != 0 {
				t.Errorf("OpenCounts() = %+v, %v, want no submitted message", counts, err)
			}
			report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "delivered"}, true) // a late report still counts
			if h := read(t, store, m); h.Status != mms.Delivered || !h.Final() {
				t.Errorf("after a late report: got status %s, final %v, want delivered, true", h.Status, h.Final())
			}
		})
	}
}

// TestReportOrderDoesNotMatter applies everything that the worker, callbacks and polls
// know about a message in random order, with repetitions. The final status must be
// Plivo's last one.
func TestReportOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	chains := [][]string{{"sent"}, {"failed"}, {"sent", "delivered"}, {"sent", "undelivered"}, {"sent", "undelivered", "delivered"}, {}}
	for round := range 60 {
		chain := chains[round%len(chains)]
		m := create(t, store, workspace)
		c, _ := claim(t, store, m.ID)
		id := fmt.Sprintf("u-%d", round)
		calls := []func() error{
			func() error { _, err := adopt(t.Context(), store, c.AttemptRef, id); return err },
			func() error {
				_, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonNoResponse})
				return err
			},
		}
		for _, state := range append([]string{"queued"}, chain...) {
			for _, kind := range []mms.EventKind{mms.EventReport, mms.EventStatusPolled} {
				calls = append(calls, func() error {
					// As the callback handler and the report poller do.
					if _, err := store.RecordSubmitted(t.Context(), c.AttemptRef, mms.Verdict{PlivoUUID: id}, mms.EventSubmitted); err != nil {
						return err
					}
					_, err := store.ApplyReport(t.Context(), c.AttemptRef, mms.Report{PlivoUUID: id, State: state}, kind)
					return err
				})
			}
		}
		calls = append(calls, calls[random.IntN(len(calls))], calls[random.IntN(len(calls))])
		random.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
		for _, call := range calls {
			if err := call(); err != nil {
				t.Fatal(err)
			}
		}
		want := mms.Submitted
		if len(chain) > 0 {
			want = mms.Status(chain[len(chain)-1])
		}
		h := read(t, store, m)
		if h.Status != want {
			t.Errorf("after %v: got %s, want %s", chain, h.Status, want)
		}
		for i, e := range h.Events[1:] {
			if before := h.Events[i].Status; before != e.Status && !before.CanBecome(e.Status) {
				t.Errorf("after %v: got events with a transition from %s to %s", chain, before, e.Status)
			}
		}
	}
	findings, err := store.Audit(t.Context())
	if err != nil || slices.ContainsFunc(findings, func(f audit.Finding) bool { return f.Broken }) {
		t.Errorf("Audit() = %+v, %v, want nothing broken", findings, err)
	}
}

package postgres_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
	"github.com/postcard-mms/postcard/internal/postgres"
)

const (
	environmentSender = mms.PhoneNumber("+14155550100") // which newStore gives a rate limit
	addedSender       = mms.PhoneNumber("+14155550109")
)

// senderNamed returns one of the senders of an api with environmentSender.
func senderNamed(t *testing.T, store *postgres.Store, number mms.PhoneNumber) operator.Sender {
	t.Helper()
	senders, err := store.Senders(t.Context(), []mms.PhoneNumber{environmentSender})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(senders, func(s operator.Sender) bool { return s.Number == number })
	if i < 0 {
		t.Fatalf("got senders %+v, want %s among them", senders, number)
	}
	return senders[i]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRatesOfThePageWin changes the rates of the environment and of the page.
func TestRatesOfThePageWin(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	want := func(when string, environment, interval time.Duration, rate *float64) {
		t.Helper()
		got := senderNamed(t, store, environmentSender)
		wantSender := operator.Sender{Number: environmentSender, InEnvironment: true, AddedAt: got.AddedAt, Environment: &environment, Interval: &interval, Rate: rate}
		if diff := cmp.Diff(wantSender, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	want("at first", 0, 0, nil)
	six := 6.0
	must(t, store.SetSenderRate(t.Context(), environmentSender, &six))
	want("after a change on the page", 0, mms.IntervalForRate(six), &six)
	must(t, store.SetRateLimit(t.Context(), environmentSender, 2*time.Second))
	want("after the start of a worker", 2*time.Second, mms.IntervalForRate(six), &six)
	must(t, store.SetSenderRate(t.Context(), environmentSender, nil))
	want("with the environment's rate again", 2*time.Second, 2*time.Second, nil)
	unlimited := 0.0
	must(t, store.SetSenderRate(t.Context(), environmentSender, &unlimited))
	want("without a limit", 2*time.Second, 0, &unlimited)
}

func TestAddAndRemoveSenders(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	fifteen := 15.0
	add := func(rate *float64, want bool) {
		t.Helper()
		if added, err := store.AddSender(t.Context(), addedSender, rate); err != nil || added != want {
			t.Errorf("AddSender() = %t, %v, want %t", added, err, want)
		}
	}
	numbers := func(want ...operator.SenderNumber) {
		t.Helper()
		got, err := store.SenderNumbers(t.Context())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("error %v; senders (-want +got):\n%s", err, diff)
		}
	}
	add(&fifteen, true)
	add(&fifteen, false)
	numbers(operator.SenderNumber{Number: environmentSender}, operator.SenderNumber{Number: addedSender, OnPage: true})
	withoutRate, err := store.SendersWithoutEnvironmentRate(t.Context())
	if diff := cmp.Diff([]mms.PhoneNumber{addedSender}, withoutRate); err != nil || diff != "" {
		t.Errorf("senders without the environment's rate: error %v, %s", err, diff)
	}
	must(t, store.SetRateLimit(t.Context(), addedSender, time.Second)) // by a worker
	if got := senderNamed(t, store, addedSender); !got.Removable() || *got.Interval != mms.IntervalForRate(15) || *got.Environment != time.Second {
		t.Errorf("got %+v, want a removable sender with its own rate", got)
	}
	must(t, store.RestSender(t.Context(), addedSender, true))
	must(t, store.RemoveSender(t.Context(), addedSender))
	numbers(operator.SenderNumber{Number: environmentSender})
	if n := count(t, store, `SELECT count(*) FROM rate_limits WHERE name = $1 AND NOT resting AND interval_seconds = 4`, string(addedSender)); n != 1 {
		t.Error("the rate limit of a removed sender is not that of an unknown one")
	}
	must(t, store.RemoveSender(t.Context(), environmentSender)) // was not added on the page
	numbers(operator.SenderNumber{Number: environmentSender})
	add(nil, true)
	if got := senderNamed(t, store, addedSender); got.RestingSince != nil || *got.Interval != addedSender.DefaultInterval() || got.Environment != nil {
		t.Errorf("added again: got %+v, want Plivo's rate until a worker says more", got)
	}
}

// TestRestingSenderSendsNothing claims, releases and probes messages of a resting sender.
// They wait, say why, and are sent when it is put back.
func TestRestingSenderSendsNothing(t *testing.T) {
	t.Parallel()
	for name, interval := range map[string]time.Duration{"unlimited": 0, "limited": time.Microsecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			must(t, store.SetRateLimit(t.Context(), environmentSender, interval))
			alone, together, released := mustCreate(t, store, newRequest(workspace)), mustCreate(t, store, newRequest(workspace)), mustCreate(t, store, newRequest(workspace))
			for i, m := range []uuid.UUID{alone.ID, together.ID, released.ID} {
				execute(t, store, `UPDATE messages SET recipient = '`+string(ownRecipient(i))+`' WHERE id = '`+m.String()+`'`)
			}
			execute(t, store, `UPDATE messages SET backlog_state = 'released' WHERE id = '`+released.ID.String()+`'`)
			must(t, store.RestSender(t.Context(), environmentSender, true))
			must(t, store.SetRateLimit(t.Context(), environmentSender, interval)) // a worker starts

			must(t, store.ClaimAll(t.Context(), []uuid.UUID{alone.ID, together.ID}))
			for _, id := range []uuid.UUID{alone.ID, released.ID} {
				if _, claimed, err := store.Claim(t.Context(), id, "token-of-a-claim-"+id.String(), time.Minute); err != nil || claimed {
					t.Errorf("Claim() = %t, %v, want false", claimed, err)
				}
			}
			blocker, err := store.ClaimBlocker(t.Context(), released.ID)
			if err != nil || !blocker.Resting || !blocker.Released {
				t.Errorf("got blocker %+v, %v, want a resting sender", blocker, err)
			}
			must(t, store.AddToBacklog(t.Context(), alone.ID))
			must(t, store.AddToBacklog(t.Context(), released.ID))
			if tasks, err := store.Release(t.Context(), time.Second); err != nil || len(tasks) > 0 {
				t.Errorf("Release() = %v, %v, want none", tasks, err)
			}
			execute(t, store, `INSERT INTO pauses (cause, probe_at) VALUES ('plivo_credit', now())`)
			if tasks, err := store.Probe(t.Context()); err != nil || len(tasks) > 0 {
				t.Errorf("Probe() = %v, %v, want none", tasks, err)
			}
			execute(t, store, `DELETE FROM pauses`)
			h, err := store.Message(t.Context(), workspace, alone.ID)
			if err != nil || !h.SenderResting {
				t.Errorf("got resting %t, %v, want the message to say that its sender rests", h.SenderResting, err)
			}
			position, _, err := store.QueuePosition(t.Context(), workspace, alone.ID)
			if err != nil || !position.Resting {
				t.Errorf("got position %+v, %v, want a resting sender", position, err)
			}
			if got := senderNamed(t, store, environmentSender); got.RestingSince == nil || got.Waiting != 2 {
				t.Errorf("got %+v, want a resting sender with two waiting messages", got)
			}

			must(t, store.RestSender(t.Context(), environmentSender, false))
			tasks, err := store.Release(t.Context(), time.Second)
			if err != nil || len(tasks) == 0 {
				t.Fatalf("after it was put back: Release() = %v, %v, want tasks", tasks, err)
			}
			if _, claimed, err := store.Claim(t.Context(), tasks[0].MessageID, "token-of-the-claim-after-the-rest", time.Minute); err != nil || !claimed {
				t.Errorf("after it was put back: Claim() = %t, %v, want true", claimed, err)
			}
		})
	}
}

// TestSenderFacts stores what Plivo says about a sender, a problem, and counts of messages.
func TestSenderFacts(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	number := operator.Number{Found: true, Type: "local", MMS: true, TenDLC: "COMPLETED", Campaign: "C1", TollFree: "x", Application: true, MessageURL: "https://example.com/in"}
	must(t, store.SaveNumber(t.Context(), environmentSender, number))
	got := senderNamed(t, store, environmentSender).AtPlivo
	if diff := cmp.Diff(operator.NumberState{Number: number, CheckedAt: got.CheckedAt}, got); diff != "" || got.CheckedAt == nil {
		t.Errorf("number (-want +got):\n%s", diff)
	}
	must(t, store.SaveNumberProblem(t.Context(), environmentSender, "Plivo could not be reached."))
	got = senderNamed(t, store, environmentSender).AtPlivo
	if diff := cmp.Diff(operator.NumberState{Number: number, CheckedAt: got.CheckedAt, Problem: "Plivo could not be reached."}, got); diff != "" {
		t.Errorf("with a problem (-want +got):\n%s", diff)
	}
	for _, status := range []string{"delivered", "delivered", "sent", "failed", "undelivered", "canceled"} {
		m := mustCreate(t, store, newRequest(workspace))
		execute(t, store, `UPDATE messages SET status = '`+status+`', final_at = now(), next_attempt_at = NULL, task_check_at = NULL, plivo_uuid = CASE WHEN '`+status+`' <> 'canceled' THEN id::text END WHERE id = '`+m.ID.String()+`'`)
	}
	must(t, store.CountSenderWeek(t.Context()))
	s := senderNamed(t, store, environmentSender)
	if s.CountedAt == nil || s.WeekDelivered != 2 || s.WeekSent != 1 || s.WeekFailed != 2 {
		t.Errorf("got %+v, want 2 delivered, 1 sent and 2 failed", s)
	}
}

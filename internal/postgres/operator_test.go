package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
)

func TestProcesses(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	settings := []operator.Setting{{Name: "A", Value: "1", Set: true}}
	worker := operator.Process{ID: uuid.New(), Kind: operator.Worker, Host: "box-1", Version: "1", Settings: settings}
	stopped := operator.Process{ID: uuid.New(), Kind: operator.Worker, Host: "box-2", Version: "1", Settings: settings}
	api := operator.Process{ID: uuid.New(), Kind: operator.API, Host: "box-3", Version: "2", Settings: settings}
	old := uuid.New() // of a version that does not describe itself
	must(t, store.BeatWorker(t.Context(), stopped))
	execute(t, store, `UPDATE worker_processes SET beat_at = now() - interval '1 minute'`)
	must(t, store.BeatWorker(t.Context(), worker))
	must(t, store.BeatWorker(t.Context(), worker))
	must(t, store.BeatAPI(t.Context(), old, false))
	execute(t, store, `UPDATE api_processes SET started_at = now() - interval '1 hour'`)
	must(t, store.BeatAPI(t.Context(), api.ID, false))
	must(t, store.DescribeAPI(t.Context(), api))

	got, err := store.Processes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	worker.Alive, api.Alive = true, true
	want := []operator.Process{worker, stopped, api, {ID: old, Kind: operator.API, Settings: []operator.Setting{}, Alive: true}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(operator.Process{}, "StartedAt", "BeatAt")); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	execute(t, store, `UPDATE worker_processes SET beat_at = now() - interval '25 hours'`)
	must(t, store.DeleteExpired(t.Context()))
	if n := count(t, store, `SELECT count(*) FROM worker_processes`); n != 0 {
		t.Errorf("got %d workers after a day, want none", n)
	}
	if version, err := store.SchemaVersion(t.Context()); err != nil || version < 12 {
		t.Errorf("SchemaVersion() = %d, %v, want 12 or more", version, err)
	}
}

func TestQueueSamples(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	tasks := 3
	sample := operator.Sample{Queued: 7, Waiting: 4, Preparing: 1, Sending: 2, InDoubt: 3, Held: 1, Tasks: &tasks}
	must(t, store.SaveQueueSample(t.Context(), sample))
	execute(t, store, `UPDATE queue_samples SET sampled_at = date_trunc('hour', now()) - interval '2 hours'`)
	execute(t, store, `INSERT INTO queue_samples SELECT sampled_at + interval '1 minute', 9, 0, 0, 0, 0, 0, NULL FROM queue_samples`)
	execute(t, store, `INSERT INTO queue_samples VALUES (now() - interval '8 days', 0, 0, 0, 0, 0, 0, NULL)`)
	for period, want := range map[time.Duration][]operator.Sample{
		time.Hour:          {},
		3 * time.Hour:      {sample, {Queued: 9}},
		6 * 24 * time.Hour: {{Queued: 9, Waiting: 4, Preparing: 1, Sending: 2, InDoubt: 3, Held: 1, Tasks: &tasks}}, // the highest values
	} {
		got, err := store.QueueSamples(t.Context(), period)
		if err != nil {
			t.Fatal(err)
		}
		if period == 3*time.Hour && len(got) == 1 { // both are in the same part
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(operator.Sample{}, "At"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("samples of %s (-want +got):\n%s", period, diff)
		}
	}
	must(t, store.SaveQueueSample(t.Context(), sample))
	must(t, store.SaveQueueSample(t.Context(), operator.Sample{}))
	if n := count(t, store, `SELECT count(*) FROM queue_samples WHERE sampled_at > now() - interval '1 hour' AND queued = 7`); n < 1 {
		t.Error("a second sample of a minute replaced the first")
	}
	must(t, store.DeleteExpired(t.Context()))
	if n := count(t, store, `SELECT count(*) FROM queue_samples WHERE sampled_at < now() - interval '7 days'`); n != 0 {
		t.Errorf("got %d samples of more than 7 days, want none", n)
	}
}

func TestAccountState(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	state := func() operator.AccountState {
		t.Helper()
		got, err := store.AccountState(t.Context(), "MA1")
		must(t, err)
		return got
	}
	if got := state(); got != (operator.AccountState{}) {
		t.Errorf("at first: got %+v, want the zero value", got)
	}
	must(t, store.NoteCallback(t.Context(), "MA1"))
	if got := state(); got.CallbackAt == nil || got.CheckedAt != nil {
		t.Errorf("after a callback: got %+v, want its time alone", got)
	}
	account := operator.Account{Type: "standard", BillingMode: "prepaid", AutoRecharge: true, Credits: "12.345"}
	must(t, store.SaveAccountProblem(t.Context(), "MA1", "Plivo could not be reached."))
	if got := state(); got.Problem == "" || got.ReachedAt != nil || got.CheckedAt == nil {
		t.Errorf("after a problem: got %+v, want it", got)
	}
	must(t, store.SaveAccount(t.Context(), "MA1", account))
	if got := state(); got.Account != account || got.Problem != "" || got.ReachedAt == nil || got.CallbackAt == nil {
		t.Errorf("after an answer: got %+v, want %+v", got, account)
	}
	must(t, store.SaveAccountProblem(t.Context(), "MA1", "Plivo could not be reached."))
	if got := state(); got.Account != account || got.Problem == "" {
		t.Errorf("after another problem: got %+v, want the earlier answer and the problem", got)
	}
}

// TestEndedPausesAreKept ends a pause by hand.
func TestEndedPausesAreKept(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	execute(t, store, `INSERT INTO pauses (cause, detail, probe_at) VALUES ('plivo_credit', 'no money', now()), ('plivo_credentials', '', now())`)
	if _, err := store.Resume(t.Context(), mms.ReasonCredit); err != nil {
		t.Fatal(err)
	}
	got, err := store.EndedPauses(t.Context(), 10)
	want := []operator.EndedPause{{Pause: mms.Pause{Cause: mms.ReasonCredit, Detail: "no money"}}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(operator.EndedPause{}, "Since", "EndedAt")); err != nil || diff != "" {
		t.Errorf("error %v; ended pauses (-want +got):\n%s", err, diff)
	}
	execute(t, store, `UPDATE ended_pauses SET ended_at = now() - interval '91 days'`)
	must(t, store.DeleteExpired(t.Context()))
	if n := count(t, store, `SELECT count(*) FROM ended_pauses`); n != 0 {
		t.Errorf("got %d pauses after 90 days, want none", n)
	}
}

func TestVerifications(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	due := func(when string, want bool) {
		t.Helper()
		if got, err := store.VerificationDue(t.Context()); err != nil || got != want {
			t.Errorf("%s: VerificationDue() = %t, %v, want %t", when, got, err, want)
		}
	}
	due("at first", true)
	byHand, err := store.BeginVerification(t.Context(), operator.ByCLI)
	must(t, err)
	must(t, store.FailVerification(t.Context(), byHand, "It did not finish."))
	due("after one by hand", true)
	byJob, err := store.BeginVerification(t.Context(), operator.ByJob)
	must(t, err)
	due("after that of the job", false)
	findings := []audit.Finding{{Invariant: "I1", What: "messages", Count: 4}, {Invariant: "I4", What: "missing", Count: 2, Broken: true}}
	must(t, store.FinishVerification(t.Context(), byJob, findings))
	got, err := store.Verifications(t.Context(), 10)
	want := []operator.Verification{
		{ID: byJob, Source: operator.ByJob, Findings: findings, Broken: 1},
		{ID: byHand, Source: operator.ByCLI, Problem: "It did not finish."},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(operator.Verification{}, "StartedAt", "FinishedAt")); err != nil || diff != "" {
		t.Errorf("error %v; verifications (-want +got):\n%s", err, diff)
	}
	if got[0].FinishedAt == nil || got[1].FinishedAt == nil {
		t.Error("a finished verification has no time at which it finished")
	}
	execute(t, store, `UPDATE verifications SET started_at = now() - interval '25 hours'`)
	due("a day later", true)
}

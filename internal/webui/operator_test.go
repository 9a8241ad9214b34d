package webui_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
	"github.com/postcard-mms/postcard/internal/webui"
)

// fakeOperator has fixed data, and records changes of senders.
type fakeOperator struct {
	health        operator.Health
	period        time.Duration // of the last call of Health
	senders       []operator.Sender
	differences   map[string][]operator.Difference
	workers       []operator.Process
	verifications []operator.Verification
	changes       []string
	err           error
}

func (f *fakeOperator) Health(_ context.Context, period time.Duration) (operator.Health, error) {
	f.period = period
	return f.health, f.err
}
func (f *fakeOperator) Senders(context.Context) ([]operator.Sender, error) { return f.senders, f.err }
func (f *fakeOperator) InboundURL() string                                 { return "https://example.com/callbacks/plivo/inbound" }

func (f *fakeOperator) change(what, number string, violations invalid.Fields) (mms.PhoneNumber, error) {
	if err := violations.Err(); err != nil {
		return "", err
	}
	f.changes = append(f.changes, what+" "+number)
	return mms.PhoneNumber(number), f.err
}

func (f *fakeOperator) AddSender(_ context.Context, number string, _ *float64, violations invalid.Fields) (mms.PhoneNumber, error) {
	return f.change("add", number, violations)
}

func (f *fakeOperator) SetRate(_ context.Context, number string, rate *float64, violations invalid.Fields) (mms.PhoneNumber, error) {
	if rate == nil {
		return f.change("no rate", number, violations)
	}
	return f.change("rate", number, violations)
}

func (f *fakeOperator) Rest(_ context.Context, number string, rest bool) (mms.PhoneNumber, error) {
	if !rest {
		return f.change("put back", number, nil)
	}
	return f.change("rest", number, nil)
}

func (f *fakeOperator) Remove(_ context.Context, number string) (mms.PhoneNumber, error) {
	return f.change("remove", number, nil)
}

func (f *fakeOperator) Settings() []operator.Setting {
	return []operator.Setting{{Name: "DAILY_CAP", Value: "200000"}, {Name: "REDIS_URL", Value: "[hidden]", Set: true}}
}

func (f *fakeOperator) Differences(context.Context) (map[string][]operator.Difference, error) {
	return f.differences, f.err
}
func (f *fakeOperator) Workers(context.Context) ([]operator.Process, error) { return f.workers, f.err }
func (f *fakeOperator) Verifications(context.Context) ([]operator.Verification, error) {
	return f.verifications, f.err
}

// newOperatorPages returns a browser of an admin.
func newOperatorPages(t *testing.T) (*fakeOperator, *browser) {
	t.Helper()
	f := &fakeOperator{}
	_, b := newBackend(t, false, func(o *webui.Options) { o.Operator = f })
	b.login(adminEmail)
	return f, b
}

var operatorPages = []string{"/admin/health", "/admin/senders", "/admin/settings", "/admin/verification"}

func TestOperatorPagesAreForAdmins(t *testing.T) {
	t.Parallel()
	f := &fakeOperator{}
	_, b := newBackend(t, false, func(o *webui.Options) { o.Operator = f })
	for _, path := range operatorPages {
		if got := b.get(path); got.status != http.StatusSeeOther {
			t.Errorf("%s, visitor: got %d, want a redirect to the login page", path, got.status)
		}
	}
	b.login(userEmail)
	for _, path := range operatorPages {
		b.want(path, b.get(path), http.StatusNotFound)
	}
	for _, action := range []string{"", "/rate", "/rest", "/put-back", "/remove"} {
		b.want("action "+action, b.post("/admin/senders"+action, "number", "+14155550100"), http.StatusNotFound)
	}
	if len(f.changes) > 0 {
		t.Errorf("a user made the changes %q", f.changes)
	}
}

func TestOperatorPagesFail(t *testing.T) {
	t.Parallel()
	f, b := newOperatorPages(t)
	f.err = errors.New("broken")
	for _, path := range operatorPages {
		b.want(path, b.get(path), http.StatusInternalServerError)
	}
	f.err = mms.ErrUnavailable
	for _, path := range operatorPages {
		b.want(path, b.get(path), http.StatusServiceUnavailable)
	}
}

func TestHealthPage(t *testing.T) {
	t.Parallel()
	f, b := newOperatorPages(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	earlier := now.Add(-90 * time.Second)
	f.health = operator.Health{Now: now, Postgres: "ok", Redis: "down", Queue: "unknown"}
	b.want("empty", b.get("/admin/health"), http.StatusOK, "No worker is alive", "Not yet. A worker asks every 5 minutes.", "No samples of this period yet", "Sending is not paused.")
	tasks := 7
	f.health = operator.Health{
		Now: now, Postgres: "ok", Redis: "ok", Queue: "paused: messages-high",
		Processes: []operator.Process{{Kind: operator.Worker, Host: "box-1", Version: "0.1.0", Alive: true, BeatAt: earlier, StartedAt: earlier}},
		Current:   operator.Sample{Queued: 5, Waiting: 3, InDoubt: 2, Held: 1, Tasks: &tasks},
		Samples:   []operator.Sample{{At: earlier, Queued: 41}},
		Account: operator.AccountState{
			Account:   operator.Account{Type: "developer", BillingMode: "prepaid", Credits: "27.31"},
			CheckedAt: &now, ReachedAt: &earlier, Problem: "Plivo could not be reached.", CallbackAt: &earlier,
		},
		EndedPauses:   []operator.EndedPause{{Pause: mms.Pause{Cause: mms.ReasonCredit, Detail: "no money", Since: earlier}, EndedAt: now}},
		SchemaVersion: 12,
	}
	b.want("full", b.get("/admin/health?period=7d"), http.StatusOK, "paused: messages-high", "box-1", "0.1.0", "1m30s ago", "27.31 US dollars", "A trial account",
		"Plivo could not be reached.", "2, 1 held for a decision", "The most queued at a time: 41", `<polyline class="queued"`, "no money", "schema: 12")
	if f.period != 7*24*time.Hour {
		t.Errorf("got period %s, want 7 days", f.period)
	}
}

func TestSendersPage(t *testing.T) {
	t.Parallel()
	f, b := newOperatorPages(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	four, ten, rate := mms.IntervalForRate(15), mms.IntervalForRate(6), 6.0
	f.senders = []operator.Sender{
		{Number: "+14155550100", InEnvironment: true, Environment: &four, Interval: &ten, Rate: &rate, Waiting: 3, Wait: 30 * time.Second, CountedAt: &now, WeekDelivered: 11, WeekSent: 5, WeekFailed: 2,
			AtPlivo: operator.NumberState{CheckedAt: &now, Number: operator.Number{Found: true, Type: "local", MMS: true, TenDLC: "COMPLETED", Application: true, MessageURL: "https://other.example/in"}}},
		{Number: "+14155550101", OnPage: true, RestingSince: &now, Waiting: mms.MaxCounted, AtPlivo: operator.NumberState{CheckedAt: &now}},
	}
	b.want("senders", b.get("/admin/senders"), http.StatusOK,
		"6 messages a minute", "15 messages a minute", "3 messages waiting, about 30s.", "11 delivered, 5 sent without a confirmation, 2 failed", "COMPLETED",
		"Replies to this number are lost: its message URL is not ours.", "https://other.example/in",
		"rests", "5000 messages or more waiting until you put it back.", "not known until a worker starts", "does not have this number", "Put back", "Remove</button>",
		"Messages that have this sender already stay and wait")

	b.want("invalid rate", b.post("/admin/senders/rate", "number", "+14155550100", "rate", "fast"), http.StatusUnprocessableEntity, "Messages per minute must be a number", `value="fast"`)
	b.want("invalid rate of a new one", b.post("/admin/senders", "number", "+14155550109", "rate", "fast"), http.StatusUnprocessableEntity, "Messages per minute must be a number", `value="`+escaped("+14155550109")+`"`)
	for _, step := range [][]string{
		{"", "number", "+14155550109", "rate", "15"}, {"/rate", "number", "+14155550100", "rate", "3"}, {"/rate", "number", "+14155550100", "rate", ""},
		{"/rest", "number", "+14155550100"}, {"/put-back", "number", "+14155550101"}, {"/remove", "number", "+14155550101"},
	} {
		if got := b.post("/admin/senders"+step[0], step[1:]...); got.location != "/admin/senders" {
			t.Errorf("%q: got %d to %q, want /admin/senders", step, got.status, got.location)
		}
	}
	b.want("notice", b.get("/admin/senders"), http.StatusOK, escaped("Removed the sender +1 415-555-0101."))
	want := []string{"add +14155550109", "rate +14155550100", "no rate +14155550100", "rest +14155550100", "put back +14155550101", "remove +14155550101"}
	if diff := cmp.Diff(want, f.changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	f.err = operator.ErrNoSender
	b.want("unknown sender", b.post("/admin/senders/rest", "number", "+14155550100"), http.StatusNotFound)
	f.err = operator.ErrSenderOfEnvironment
	b.want("sender of the environment", b.post("/admin/senders/remove", "number", "+14155550100"), http.StatusConflict, "PLIVO_SENDER_NUMBER")
}

func TestOperatorSettingsPage(t *testing.T) {
	t.Parallel()
	f, b := newOperatorPages(t)
	b.want("no workers", b.get("/admin/settings"), http.StatusOK, "DAILY_CAP", "200000", "[hidden]", "Default", "No worker has sent a heartbeat")
	f.workers = []operator.Process{{Host: "box-1", Version: "0.1.0", Settings: []operator.Setting{{Name: "SEND_TIMEOUT", Value: "30s"}}}}
	f.differences = map[string][]operator.Difference{"DAILY_CAP": {{Process: operator.Process{Kind: operator.API, Host: "box-2"}, Value: "5"}}}
	b.want("with a worker", b.get("/admin/settings"), http.StatusOK, "box-1", "SEND_TIMEOUT", "api box-2 has 5")
}

func TestVerificationPage(t *testing.T) {
	t.Parallel()
	f, b := newOperatorPages(t)
	b.want("none", b.get("/admin/verification"), http.StatusOK, "No result yet.")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.verifications = []operator.Verification{{ID: 1, Source: operator.ByJob, StartedAt: now, FinishedAt: &now, Findings: []audit.Finding{{Invariant: "I1", What: "messages", Count: 31}}}}
	b.want("good", b.get("/admin/verification"), http.StatusOK, "All invariants hold.", "I1: messages", "31", "a worker")
	f.verifications[0].Findings[0].Broken, f.verifications[0].Broken = true, 1
	b.want("broken", b.get("/admin/verification"), http.StatusOK, "Checks that failed: 1.", "Failed")
}

// TestRestingSendersAreNotOffered shows the senders of the moment in the form.
func TestRestingSendersAreNotOffered(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, false, func(o *webui.Options) { o.SenderList = fixedSenders{} })
	b.login(userEmail)
	got := b.get("/messages/new")
	b.want("form", got, http.StatusOK, escaped("+14155550102"), escaped("+14155550103"))
	if strings.Contains(got.body, escaped("+14155550101")) {
		t.Error("the form offers a sender that rests")
	}
}

// fixedSenders has one sender that rests.
type fixedSenders struct{}

func (fixedSenders) All() []mms.PhoneNumber {
	return []mms.PhoneNumber{"+14155550101", "+14155550102", "+14155550103"}
}
func (fixedSenders) Active() []mms.PhoneNumber {
	return []mms.PhoneNumber{"+14155550102", "+14155550103"}
}

package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

const (
	silentOthers = 60             // messages that Plivo accepts after a message in doubt
	unlisted     = 10 * time.Hour // a visibility lag, scaled, that no test waits for
	doubtful     = "+14165551900" // the recipient of the message in doubt
	doubtfulToo  = "+14165551901"
	silenceVars  = "DOUBT_SILENCE=90s" // with DOUBT_WAIT=1h, so that only silence resolves a doubt
)

// inDoubt creates a message whose request meets the scenario, and waits until it is in
// doubt.
func (r *rig) inDoubt(recipient string, scenario plivosim.Scenario) mms.Message {
	r.t.Helper()
	if err := r.sim.SetFault(plivosim.Fault{Scenario: scenario, Recipient: recipient, Count: 1}); err != nil {
		r.t.Fatal(err)
	}
	m := r.createTo(recipient)
	testkit.EventuallyWithin(r.t, drainTimeout, "the message is in doubt", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE id = $1 AND status = 'in_doubt'`, m.ID) == 1
	})
	return m
}

// awaitReports waits until at least n attempts are reported.
func (r *rig) awaitReports(n int) {
	r.t.Helper()
	testkit.EventuallyWithin(r.t, drainTimeout, "the messages are reported", func() bool {
		return r.count(`SELECT count(*) FROM attempts WHERE first_report_at IS NOT NULL`) >= n
	})
}

// timePasses moves everything that DOUBT_SILENCE measures 100 s into the past, except the
// heartbeats, which continue.
func (r *rig) timePasses() {
	r.t.Helper()
	for _, statement := range []string{
		`UPDATE api_processes SET broken_at = broken_at - interval '100 s'`,
		`UPDATE attempts SET started_at = started_at - interval '100 s', finished_at = finished_at - interval '100 s', first_report_at = first_report_at - interval '100 s'`,
	} {
		if _, err := r.store.DB().Exec(statement); err != nil {
			r.t.Fatal(err)
		}
	}
}

// evidence returns how many silences are evidence now, by the statement that the worker
// executes.
func (r *rig) evidence() int {
	r.t.Helper()
	policy := mms.SilencePolicy{After: mms.MinSilence, MaxAttempts: 8, ListAfter: time.Hour}
	silences, err := r.store.Silences(r.t.Context(), policy, 10)
	if err != nil {
		r.t.Fatal(err)
	}
	n := 0
	for _, s := range silences {
		if policy.Evidence(s) {
			n++
		}
	}
	return n
}

// TestSilenceIsEvidence answers 500 for one message that Plivo does not have, and for one
// that it has and does not report. Both are sent again; the late report of the second
// shows the duplicate, and switches the rule off.
func TestSilenceIsEvidence(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{VisibilityLag: unlisted})
	r.api() // receives no callbacks, but has to be alive, too
	worker := r.worker("", silenceVars, "DOUBT_WAIT=1h")
	refused, enqueued := r.inDoubt(doubtful, plivosim.ServerError), r.inDoubt(doubtfulToo, plivosim.AcceptThen500Silently)
	others := r.create(silentOthers)
	r.awaitReports(silentOthers)
	if n := r.evidence(); n != 0 {
		t.Fatalf("got %d silences that are evidence at once, want 0", n)
	}
	r.timePasses()
	r.awaitFinal()
	for _, m := range append(others, refused, enqueued) {
		r.wantStatus(m, mms.Delivered)
	}
	for _, m := range []mms.Message{refused, enqueued} {
		if h := r.wantStatus(m, mms.Delivered); !hasEvent(h, mms.EventNoReport) || len(h.AttemptList) != 2 {
			t.Errorf("got %d attempts and events %s, want 2 and one that names the silence", len(h.AttemptList), eventLog(h))
		}
	}
	r.verify(silentOthers + 3)

	r.reportFirst(doubtfulToo)
	if h := r.wantStatus(enqueued, mms.Delivered); !hasEvent(h, mms.EventDuplicate) {
		t.Errorf("the events do not say that the message was sent twice: %s", eventLog(h))
	}
	worker.awaitLog("DOUBT_SILENCE was wrong")
	if _, body, err := get(t.Context(), worker.metrics+"/metrics"); err != nil ||
		!strings.Contains(body, "postcard_doubt_silence_refuted_total 1") || !strings.Contains(body, "postcard_doubt_silence_off 1") {
		t.Errorf("the metrics do not report that the rule was wrong (error %v)", err)
	}
	r.verify(silentOthers + 3)
	third := r.inDoubt("+14165551902", plivosim.ServerError)
	r.create(silentOthers)
	r.awaitReports(2*silentOthers + 3)
	r.timePasses()
	if n := r.evidence(); n != 0 {
		t.Errorf("got %d silences that are evidence while the rule is off, want 0", n)
	}
	r.wantStatus(third, mms.InDoubt)
}

// reportFirst sends the delivery report of the first message that Plivo accepted for the
// recipient, long after it was due.
func (r *rig) reportFirst(recipient string) {
	r.t.Helper()
	for _, entry := range r.sim.Ledger() {
		if entry.To != strings.TrimPrefix(recipient, "+") {
			continue
		}
		form := url.Values{"MessageUUID": {entry.UUID}, "Status": {"delivered"}, "To": {entry.To}, "From": {entry.From}}
		request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, entry.CallbackURL, strings.NewReader(form.Encode()))
		if err != nil {
			r.t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("X-Plivo-Signature-V3-Nonce", "1")
		request.Header.Set("X-Plivo-Signature-V3", plivosim.SignV3(authToken, http.MethodPost, entry.CallbackURL, "1", form))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			r.t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			r.t.Fatalf("the late report was answered %s, want 200", response.Status)
		}
		return
	}
	r.t.Fatalf("Plivo has no message to %s", recipient)
}

// TestSilenceIsNoEvidence breaks the channel of the callbacks in every way: the message
// stays in doubt.
func TestSilenceIsNoEvidence(t *testing.T) {
	t.Parallel()
	once := func(r *rig, fault http.HandlerFunc) {
		handler := http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
			r.callbackFault.Store(nil)
			fault(w, request)
		})
		r.callbackFault.Store(&handler)
	}
	var killed, stopped *process
	for name, tt := range map[string]struct {
		before, during func(*rig)
		reported       int
	}{
		"one callback cut off": {nil, func(r *rig) {
			once(r, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}, silentOthers},
		"one callback refused": {nil, func(r *rig) {
			once(r, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		}, silentOthers},
		"the callbacks of one message missing": {nil, func(r *rig) {
			if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.CallbacksLost, Count: 1}); err != nil {
				r.t.Fatal(err)
			}
		}, silentOthers - 1},
		"one of two apis killed": {func(r *rig) {
			killed, _ = r.api()
			r.awaitProcesses(2)
		}, func(r *rig) {
			killed.signal(syscall.SIGKILL)
			<-killed.exited
			if _, err := r.store.DB().Exec(`UPDATE api_processes SET beat_at = beat_at - interval '50 s' WHERE id <> $1`, r.process); err != nil {
				r.t.Fatal(err)
			}
		}, silentOthers},
		"one of two apis stopped": {func(r *rig) {
			stopped, _ = r.api()
			r.awaitProcesses(2)
		}, func(r *rig) {
			stopped.signal(syscall.SIGTERM)
			<-stopped.exited
		}, silentOthers},
		"one of two apis deployed": {func(r *rig) {
			r.api()
			r.awaitProcesses(2)
		}, func(r *rig) {
			r.api() // the new process of a rolling deployment
			r.awaitProcesses(3)
		}, silentOthers},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plivosim.Config{VisibilityLag: unlisted})
			if tt.before != nil {
				tt.before(r)
			}
			r.worker("", silenceVars, "DOUBT_WAIT=1h")
			m := r.inDoubt(doubtful, plivosim.ServerError)
			tt.during(r)
			r.create(silentOthers)
			r.awaitReports(tt.reported)
			r.timePasses()
			if n := r.evidence(); n != 0 {
				t.Errorf("got %d silences that are evidence, want 0", n)
			}
			if h := r.wantStatus(m, mms.InDoubt); hasEvent(h, mms.EventNoReport) {
				t.Errorf("got events %s, want the message left in doubt", eventLog(h))
			}
			r.verify(silentOthers)
		})
	}
}

// awaitProcesses waits until n api processes have had a heartbeat, the rig's included.
func (r *rig) awaitProcesses(n int) {
	r.t.Helper()
	testkit.Eventually(r.t, "the api has a heartbeat", func() bool { return r.count(`SELECT count(*) FROM api_processes`) == n })
}

// TestUnknownOutcomesAreLimited answers 500 to every request for a message.
func TestUnknownOutcomesAreLimited(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.ServerError}); err != nil {
		t.Fatal(err)
	}
	m := r.createTo(doubtful)
	r.worker("", "MAX_ATTEMPTS=2")
	r.awaitFinal()
	if h := r.wantStatus(m, mms.Failed); h.Reason != mms.ReasonUnresolved || len(h.AttemptList) != 2 || !strings.Contains(h.Explain(), "unknown") {
		t.Errorf("got reason %s after %d attempts, explained as %q, want an unknown outcome after 2", h.Reason, len(h.AttemptList), h.Explain())
	}
	r.verify(0)
}

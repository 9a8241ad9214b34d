package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestPlivoScenarios sends one message into each scenario of the simulator and
// checks its final status and the number of messages at Plivo.
func TestPlivoScenarios(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	type result struct {
		status  mms.Status
		atPlivo int
	}
	once := result{mms.Delivered, 1}
	results := map[plivosim.Scenario]result{
		plivosim.StaysSent:           {mms.Sent, 1},
		plivosim.StaysQueued:         {mms.Submitted, 1},
		plivosim.Undelivered:         {mms.Undelivered, 1},
		plivosim.FailedSpam:          {mms.Failed, 1},
		plivosim.FailedMediaTooLarge: {mms.Failed, 1},
		plivosim.FailedOptedOut:      {mms.Failed, 1},
		plivosim.FailedGeoBarred:     {mms.Failed, 1},
		plivosim.FailedExpired:       {mms.Failed, 1},

		plivosim.RefusedDestination: {mms.Failed, 0},
		plivosim.RefusedForbidden:   {mms.Failed, 0},
		plivosim.RefusedEmptyBody:   {mms.Failed, 0},
		plivosim.RateLimited:        {mms.Failed, 0}, // all attempts are rejected
		plivosim.RateLimitedNoHint:  {mms.Failed, 0},
	}
	// With a permanent fault of these the message alternates between in doubt and
	// sending until it expires, so the fault applies once.
	temporary := map[plivosim.Scenario]bool{
		plivosim.ServerError: true, plivosim.ServerErrorEmptyBody: true, plivosim.Unavailable: true, plivosim.TemporaryFailure: true,
		plivosim.DropBeforeAccept: true, plivosim.StallBeforeHeaders: true, plivosim.StallAfterHeaders: true, plivosim.HugeError: true,
		plivosim.Redirect302: true, plivosim.EmptyNotAccepted: true, plivosim.EmptyObjectNotAccepted: true,
		plivosim.CutJSONNotAccepted: true, plivosim.NoContentNotAccepted: true, plivosim.RateLimitedEmptyBody: true,
	}
	// Account errors pause all sending; TestAccountErrorPausesSending covers them.
	account := map[plivosim.Scenario]bool{
		plivosim.RefusedUnauthorized: true, plivosim.RefusedNotFound: true, plivosim.RefusedCredit: true,
		plivosim.CreditRunsOut: true, plivosim.Redirect301: true, plivosim.Redirect307: true,
	}
	type sent struct {
		scenario plivosim.Scenario
		message  mms.Message
		want     result
	}
	var all []sent
	atPlivo := 0
	for i, scenario := range plivosim.Scenarios() {
		if account[scenario.Name] {
			continue
		}
		want, ok := results[scenario.Name]
		if !ok {
			want = once
		}
		recipient := fmt.Sprintf("+1604555%04d", 2000+i)
		fault := plivosim.Fault{Scenario: scenario.Name, Recipient: recipient}
		if temporary[scenario.Name] {
			fault.Count = 1
		}
		if err := r.sim.SetFault(fault); err != nil {
			t.Fatal(err)
		}
		all = append(all, sent{scenario.Name, r.createTo(recipient), want})
		atPlivo += want.atPlivo
	}
	r.worker("", "MAX_ATTEMPTS=2", "REPORT_WAIT=2s")
	for _, s := range all {
		testkit.EventuallyWithin(t, drainTimeout, fmt.Sprintf("the message of %s is %s", s.scenario, s.want.status), func() bool {
			return r.count(`SELECT count(*) FROM messages WHERE id = $1 AND status = $2`, s.message.ID, string(s.want.status)) == 1
		})
	}
	r.verify(atPlivo)
}

// TestAccountErrorPausesSending has Plivo reject the account: one message discovers
// it, the others wait, and a probe resumes sending.
func TestAccountErrorPausesSending(t *testing.T) {
	t.Parallel()
	for _, scenario := range []plivosim.Scenario{plivosim.RefusedUnauthorized, plivosim.RefusedCredit, plivosim.RefusedNotFound} {
		t.Run(string(scenario), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plivosim.Config{})
			if err := r.sim.SetFault(plivosim.Fault{Scenario: scenario}); err != nil {
				t.Fatal(err)
			}
			first := r.createTo("+14165551900")
			worker := r.worker("")
			worker.awaitLog("sending is paused")
			messages := append(r.create(30), first)
			testkit.Eventually(t, "all messages are waiting", func() bool {
				return r.count(`SELECT count(*) FROM messages WHERE backlog_state = 'waiting'`) == len(messages)
			})
			if n := len(r.sim.Requests()); n > 2 {
				t.Errorf("got %d requests to Plivo during the pause, want one attempt and at most one probe", n)
			}
			if _, body, err := get(t.Context(), worker.metrics+"/readyz"); err != nil || !strings.Contains(body, "paused") {
				t.Errorf("got /readyz %q (error %v), want it to report the pause", body, err)
			}
			if _, body, err := get(t.Context(), worker.metrics+"/metrics"); err != nil || !strings.Contains(body, "postcard_sending_paused{") || !strings.Contains(body, "postcard_messages_waiting 31") {
				t.Errorf("the metrics do not report the pause (error %v)", err)
			}
			if n := r.count(`SELECT count(*) FROM messages WHERE status = 'failed'`); n != 0 {
				t.Errorf("got %d failed messages, want 0", n)
			}
			r.sim.ClearFaults()
			r.wantAllDelivered(messages)
			worker.awaitLog("sending has resumed")
		})
	}
}

// TestInDoubtMessageIsResolved loses Plivo's response to an accepted message, with
// every kind of evidence and with none.
func TestInDoubtMessageIsResolved(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		scenario plivosim.Scenario
		config   plivosim.Config
		vars     []string
		event    mms.EventKind // that resolves it
		atPlivo  int
	}{
		"delivery report":              {plivosim.AcceptThenDrop, plivosim.Config{}, nil, mms.EventSubmitted, 1},
		"message list only":            {plivosim.AcceptThenDropSilently, plivosim.Config{}, nil, mms.EventEvidenceFound, 1},
		"delayed message list":         {plivosim.AcceptThenDropSilently, plivosim.Config{VisibilityLag: 350 * time.Second}, []string{"DOUBT_WAIT=20s"}, mms.EventEvidenceFound, 1}, // 7 s, scaled
		"message list without filters": {plivosim.AcceptThenDropSilently, plivosim.Config{IgnoreNumberFilters: true}, nil, mms.EventEvidenceFound, 1},
		// A duplicate that cannot be avoided: Plivo does not list the message within
		// DOUBT_WAIT. The events record that.
		"no evidence": {plivosim.AcceptThenDropSilently, plivosim.Config{VisibilityLag: time.Hour}, nil, mms.EventNoEvidence, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tt.config)
			if err := r.sim.SetFault(plivosim.Fault{Scenario: tt.scenario, Count: 1}); err != nil {
				t.Fatal(err)
			}
			m := r.createTo("+14165551000")
			r.worker("", tt.vars...)
			r.awaitFinal()
			h := r.wantStatus(m, mms.Delivered)
			if !hasEvent(h, tt.event) {
				t.Errorf("event %s is missing in: %s", tt.event, eventLog(h))
			}
			r.verify(tt.atPlivo)
		})
	}
}

func hasEvent(h mms.History, kind mms.EventKind) bool {
	for _, e := range h.Events {
		if e.Kind == kind {
			return true
		}
	}
	return false
}

// TestHoldPolicyWaitsForDecision finds no evidence under DOUBT_POLICY=hold.
func TestHoldPolicyWaitsForDecision(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.DropBeforeAccept, Count: 1}); err != nil {
		t.Fatal(err)
	}
	m := r.createTo("+14165551000")
	r.worker("", "DOUBT_POLICY=hold")
	testkit.EventuallyWithin(t, drainTimeout, "the message is held", func() bool { return r.count(`SELECT count(*) FROM messages WHERE held`) == 1 })
	if n := len(r.sim.Ledger()); n != 0 {
		t.Fatalf("got %d messages at Plivo, want 0", n)
	}
	if err := r.store.Decide(t.Context(), r.workspace, m.ID, mms.DecideRetry); err != nil {
		t.Fatal(err)
	}
	r.wantAllDelivered([]mms.Message{m})
}

// TestAmbiguousEvidenceIsHeld loses the response to a message while Plivo has an
// identical one that another program sent through the same account.
func TestAmbiguousEvidenceIsHeld(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	sendDirectly(t, r, "+14165551000")
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.AcceptThenDropSilently, Count: 1}); err != nil {
		t.Fatal(err)
	}
	m := r.createTo("+14165551000")
	r.worker("")
	testkit.EventuallyWithin(t, drainTimeout, "the message is held", func() bool { return r.count(`SELECT count(*) FROM messages WHERE held`) == 1 })
	h := r.wantStatus(m, mms.InDoubt)
	if h.Reason != mms.ReasonAmbiguous {
		t.Errorf("got reason %q, want %q", h.Reason, mms.ReasonAmbiguous)
	}
	if n := len(r.sim.Ledger()); n != 2 {
		t.Errorf("got %d messages at Plivo, want the other program's and ours", n)
	}
}

// TestRateLimitSpansWorkers has four workers send from one number.
func TestRateLimitSpansWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	for range 4 {
		r.worker("", "SENDER_RATE=300").awaitLog("worker started") // one per 0.2 s
	}
	r.wantAllDelivered(r.create(25))
}

func TestExpiredMessageFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	m := r.createTo("+14165551000")
	if _, err := r.store.DB().Exec(`UPDATE messages SET expires_at = now()`); err != nil {
		t.Fatal(err)
	}
	r.worker("")
	r.awaitFinal()
	h := r.wantStatus(m, mms.Failed)
	if h.Reason != mms.ReasonExpired {
		t.Errorf("got reason %q, want %q", h.Reason, mms.ReasonExpired)
	}
	r.verify(0)
}

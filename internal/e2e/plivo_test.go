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

// TestEveryWayThatPlivoAnswers sends one message into each scenario of the
// simulator. What counts is where it ends, and that Plivo never has two unless
// nothing could have shown the first.
func TestEveryWayThatPlivoAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	type end struct {
		status  mms.Status
		atPlivo int
	}
	once := end{mms.Delivered, 1}
	ends := map[plivosim.Scenario]end{
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
		plivosim.RateLimited:        {mms.Failed, 0}, // always: the attempts are used up
		plivosim.RateLimitedNoHint:  {mms.Failed, 0},
	}
	// These fail for ever, so the message goes round between doubt and sending
	// until it expires; they are tried with a fault that ends instead.
	passing := map[plivosim.Scenario]bool{
		plivosim.ServerError: true, plivosim.ServerErrorEmptyBody: true, plivosim.Unavailable: true, plivosim.TemporaryFailure: true,
		plivosim.DropBeforeAccept: true, plivosim.StallBeforeHeaders: true, plivosim.StallAfterHeaders: true, plivosim.HugeError: true,
		plivosim.Redirect302: true, plivosim.EmptyNotAccepted: true, plivosim.EmptyObjectNotAccepted: true,
		plivosim.CutJSONNotAccepted: true, plivosim.NoContentNotAccepted: true, plivosim.RateLimitedEmptyBody: true,
	}
	// The account's trouble stops all sending and has tests of its own.
	account := map[plivosim.Scenario]bool{
		plivosim.RefusedUnauthorized: true, plivosim.RefusedNotFound: true, plivosim.RefusedCredit: true,
		plivosim.CreditRunsOut: true, plivosim.Redirect301: true, plivosim.Redirect307: true,
	}
	type sent struct {
		scenario plivosim.Scenario
		message  mms.Message
		want     end
	}
	var all []sent
	atPlivo := 0
	for i, scenario := range plivosim.Scenarios() {
		if account[scenario.Name] {
			continue
		}
		want, ok := ends[scenario.Name]
		if !ok {
			want = once
		}
		recipient := fmt.Sprintf("+1604555%04d", 2000+i)
		fault := plivosim.Fault{Scenario: scenario.Name, Recipient: recipient}
		if passing[scenario.Name] {
			fault.Count = 1
		}
		if err := r.sim.SetFault(fault); err != nil {
			t.Fatal(err)
		}
		all = append(all, sent{scenario.Name, r.acceptTo(recipient), want})
		atPlivo += want.atPlivo
	}
	r.worker("", "MAX_ATTEMPTS=2", "REPORT_WAIT=2s")
	for _, s := range all {
		testkit.EventuallyWithin(t, drainPatience, fmt.Sprintf("the message of %s is %s", s.scenario, s.want.status), func() bool {
			return r.count(`SELECT count(*) FROM messages WHERE id = $1 AND status = $2`, s.message.ID, string(s.want.status)) == 1
		})
	}
	r.verify(atPlivo)
}

// TestAccountTroublePausesAllAndEndsByItself lets Plivo refuse the credentials:
// one message finds out, the others wait, and a probe finds the end.
func TestAccountTroublePausesAllAndEndsByItself(t *testing.T) {
	t.Parallel()
	for _, scenario := range []plivosim.Scenario{plivosim.RefusedUnauthorized, plivosim.RefusedCredit, plivosim.RefusedNotFound} {
		t.Run(string(scenario), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plivosim.Config{})
			if err := r.sim.SetFault(plivosim.Fault{Scenario: scenario}); err != nil {
				t.Fatal(err)
			}
			first := r.acceptTo("+14165551900")
			worker := r.worker("")
			worker.awaitLog("sending is paused")
			messages := append(r.accept(30), first)
			testkit.Eventually(t, "all messages stand in line", func() bool {
				return r.count(`SELECT count(*) FROM messages WHERE backlog_state = 'waiting'`) == len(messages)
			})
			if n := len(r.sim.Requests()); n > 2 {
				t.Errorf("Plivo was asked %d times during the trouble, want 1 and perhaps a probe", n)
			}
			if _, body, err := get(t.Context(), worker.metrics+"/readyz"); err != nil || !strings.Contains(body, "paused") {
				t.Errorf("/readyz says %q, %v, and nothing of the pause", body, err)
			}
			if _, body, err := get(t.Context(), worker.metrics+"/metrics"); err != nil || !strings.Contains(body, "postcard_sending_paused{") || !strings.Contains(body, "postcard_messages_waiting 31") {
				t.Errorf("the metrics say nothing of the pause, %v", err)
			}
			if n := r.count(`SELECT count(*) FROM messages WHERE status = 'failed'`); n != 0 {
				t.Errorf("%d messages failed for the account's trouble", n)
			}
			r.sim.ClearFaults()
			r.drained(messages)
			worker.awaitLog("sending has resumed")
		})
	}
}

// TestDoubtIsSettledByEvidence loses the answer to an accepted message, in the
// ways in which evidence can come or not.
func TestDoubtIsSettledByEvidence(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		scenario plivosim.Scenario
		config   plivosim.Config
		vars     []string
		event    mms.EventKind // that settles it
		atPlivo  int
	}{
		"a report comes":                        {plivosim.AcceptThenDrop, plivosim.Config{}, nil, mms.EventSubmitted, 1},
		"no report, but Plivo lists it":         {plivosim.AcceptThenDropSilently, plivosim.Config{}, nil, mms.EventEvidenceFound, 1},
		"no report, and the list lags":          {plivosim.AcceptThenDropSilently, plivosim.Config{VisibilityLag: 350 * time.Second}, []string{"DOUBT_WAIT=20s"}, mms.EventEvidenceFound, 1}, // 7 s, scaled
		"no report, and the list does not sort": {plivosim.AcceptThenDropSilently, plivosim.Config{IgnoreNumberFilters: true}, nil, mms.EventEvidenceFound, 1},
		// The duplicate that no protocol could avoid: Plivo hides the message
		// for longer than the whole wait. The events say so.
		"nothing anywhere": {plivosim.AcceptThenDropSilently, plivosim.Config{VisibilityLag: time.Hour}, nil, mms.EventNoEvidence, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tt.config)
			if err := r.sim.SetFault(plivosim.Fault{Scenario: tt.scenario, Count: 1}); err != nil {
				t.Fatal(err)
			}
			m := r.acceptTo("+14165551000")
			r.worker("", tt.vars...)
			r.awaitFinal()
			h := r.wantStatus(m, mms.Delivered)
			if !hasEvent(h, tt.event) {
				t.Errorf("the events do not say %s: %s", tt.event, story(h))
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

// TestACautiousInstallationHoldsAndAPersonDecides has nothing found and the
// policy hold.
func TestACautiousInstallationHoldsAndAPersonDecides(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.DropBeforeAccept, Count: 1}); err != nil {
		t.Fatal(err)
	}
	m := r.acceptTo("+14165551000")
	r.worker("", "DOUBT_POLICY=hold")
	testkit.EventuallyWithin(t, drainPatience, "the message is held", func() bool { return r.count(`SELECT count(*) FROM messages WHERE held`) == 1 })
	if n := len(r.sim.Ledger()); n != 0 {
		t.Fatalf("Plivo has %d messages, want none", n)
	}
	if err := r.store.Decide(t.Context(), r.owner, m.ID, mms.DecideResend); err != nil {
		t.Fatal(err)
	}
	r.drained([]mms.Message{m})
}

// TestTwoMessagesThatCouldBeEachOtherAreHeld lets somebody else send the same
// through the same account while an answer is lost.
func TestTwoMessagesThatCouldBeEachOtherAreHeld(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	sendByHand(t, r, "+14165551000")
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.AcceptThenDropSilently, Count: 1}); err != nil {
		t.Fatal(err)
	}
	m := r.acceptTo("+14165551000")
	r.worker("")
	testkit.EventuallyWithin(t, drainPatience, "the message is held", func() bool { return r.count(`SELECT count(*) FROM messages WHERE held`) == 1 })
	h := r.wantStatus(m, mms.InDoubt)
	if h.Reason != mms.ReasonAmbiguous {
		t.Errorf("held for %q, want %q", h.Reason, mms.ReasonAmbiguous)
	}
	if n := len(r.sim.Ledger()); n != 2 {
		t.Errorf("Plivo has %d messages, want the stranger's and ours", n)
	}
}

// TestThePaceIsKeptOverAllWorkers has four workers send from one number.
func TestThePaceIsKeptOverAllWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	for range 4 {
		r.worker("", "SENDER_RATE=300").awaitLog("worker started") // one in 0.2 s
	}
	r.drained(r.accept(25))
}

func TestWhatCannotBeSentInTimeFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	m := r.acceptTo("+14165551000")
	if _, err := r.store.DB().Exec(`UPDATE messages SET expires_at = now()`); err != nil {
		t.Fatal(err)
	}
	r.worker("")
	r.awaitFinal()
	h := r.wantStatus(m, mms.Failed)
	if h.Reason != mms.ReasonExpired {
		t.Errorf("failed for %q, want %q", h.Reason, mms.ReasonExpired)
	}
	r.verify(0)
}

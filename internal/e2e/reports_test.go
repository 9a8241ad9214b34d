package e2e

import (
	"net/http"
	"testing"

	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
)

// TestReportsThatAreLostOrMixedUp has every way in which delivery reports fail.
// Whatever of them arrives, each message ends as it did at Plivo.
func TestReportsThatAreLostOrMixedUp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		faults []plivosim.Fault
		vars   []string
	}{
		"all are lost":   {[]plivosim.Fault{{Scenario: plivosim.CallbacksLost}}, []string{"REPORT_WAIT=1s"}},
		"no public URL":  {nil, []string{"PUBLIC_URL="}},
		"doubled":        {[]plivosim.Fault{{Scenario: plivosim.CallbacksDuplicated}}, nil},
		"out of order":   {[]plivosim.Fault{{Scenario: plivosim.CallbacksOutOfOrder}}, nil},
		"signed with V2": {[]plivosim.Fault{{Scenario: plivosim.SignatureV2Only}}, nil},
		"forged":         {[]plivosim.Fault{{Scenario: plivosim.SignatureWrongV3RightV2}}, []string{"REPORT_WAIT=1s"}},
		"all of it": {[]plivosim.Fault{
			{Scenario: plivosim.CallbacksLost, Probability: 0.2}, {Scenario: plivosim.CallbacksDuplicated, Probability: 0.2},
			{Scenario: plivosim.CallbacksOutOfOrder, Probability: 0.2}, {Scenario: plivosim.CallbackBeforeResponse, Probability: 0.2},
			{Scenario: plivosim.SignatureV2Only, Probability: 0.2}, {Scenario: plivosim.AcceptThenDrop, Probability: 0.2},
		}, []string{"REPORT_WAIT=1s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plivosim.Config{})
			for _, f := range tt.faults {
				if err := r.sim.SetFault(f); err != nil {
					t.Fatal(err)
				}
			}
			messages := r.accept(30)
			r.worker("", tt.vars...)
			r.awaitFinal()
			for _, m := range messages {
				r.wantStatus(m, mms.Delivered)
			}
			r.verify(len(messages))
		})
	}
}

// TestEveryEndOfAMessageIsToldByAsking has messages that end badly, and no
// reports.
func TestEveryEndOfAMessageIsToldByAsking(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	ends := map[string]mms.Status{}
	for _, s := range plivosim.Scenarios() {
		recipient := "+1415555" + "01" + s.Suffix
		switch s.Name {
		case plivosim.Undelivered:
			ends[recipient] = mms.Undelivered
		case plivosim.FailedSpam, plivosim.FailedOptedOut, plivosim.FailedExpired:
			ends[recipient] = mms.Failed
		}
	}
	messages := map[mms.Status][]mms.Message{}
	for recipient, want := range ends {
		messages[want] = append(messages[want], r.acceptTo(recipient))
	}
	r.worker("", "PUBLIC_URL=")
	r.awaitFinal()
	for want, list := range messages {
		for _, m := range list {
			if h := r.wantStatus(m, want); h.PlivoCode == "" {
				t.Errorf("a message that is %s has no code", want)
			}
		}
	}
	r.verify(len(ends))
}

// TestWhoeverSaysStopGetsNothing has a recipient opt out by a text, and in again.
func TestWhoeverSaysStopGetsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	r.worker("")
	const phone = "+14165551000"
	text := func(words string) {
		t.Helper()
		status, err := r.sim.Receive(t.Context(), plivosim.Text{From: phone, To: sender, Text: words, URL: r.webhook.URL + callback.InboundPath})
		if err != nil || status != http.StatusOK {
			t.Fatalf("texting %s: %d, %v", words, status, err)
		}
	}
	first := r.acceptTo(phone)
	r.awaitFinal()
	text("Stop")
	second := r.acceptTo(phone)
	r.awaitFinal()
	text("START")
	third := r.acceptTo(phone)
	r.awaitFinal()
	r.wantStatus(first, mms.Delivered)
	if h := r.wantStatus(second, mms.Failed); h.Reason != mms.ReasonOptedOut || len(h.AttemptList) != 0 {
		t.Errorf("it failed for %q after %d attempts", h.Reason, len(h.AttemptList))
	}
	r.wantStatus(third, mms.Delivered)
	r.verify(2)
}

// TestAnOptOutThatOnlyPlivoKnowsIsLearnt sends to somebody who has opted out at
// Plivo: the first message fails there, the second is not sent at all.
func TestAnOptOutThatOnlyPlivoKnowsIsLearnt(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	r.worker("")
	if _, err := r.sim.Receive(t.Context(), plivosim.Text{From: "+14165551000", To: sender, Text: "STOP", URL: r.webhook.URL + "/nobody"}); err != nil {
		t.Fatal(err)
	}
	first := r.acceptTo("+14165551000")
	r.awaitFinal()
	second := r.acceptTo("+14165551000")
	r.awaitFinal()
	if h := r.wantStatus(first, mms.Failed); h.PlivoCode != mms.OptedOutCode {
		t.Errorf("the code is %q", h.PlivoCode)
	}
	if h := r.wantStatus(second, mms.Failed); h.Reason != mms.ReasonOptedOut {
		t.Errorf("the reason is %q", h.Reason)
	}
	r.verify(1)
}

package e2e

import (
	"net/http"
	"testing"

	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
)

// TestUnreliableReports has lost, duplicated, reordered and forged delivery reports.
// Every message still gets the final status that it has at Plivo.
func TestUnreliableReports(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		faults []plivosim.Fault
		vars   []string
	}{
		"lost":           {[]plivosim.Fault{{Scenario: plivosim.CallbacksLost}}, []string{"REPORT_WAIT=1s"}},
		"no public URL":  {nil, []string{"PUBLIC_URL="}},
		"duplicated":     {[]plivosim.Fault{{Scenario: plivosim.CallbacksDuplicated}}, nil},
		"out of order":   {[]plivosim.Fault{{Scenario: plivosim.CallbacksOutOfOrder}}, nil},
		"signed with V2": {[]plivosim.Fault{{Scenario: plivosim.SignatureV2Only}}, nil},
		"forged":         {[]plivosim.Fault{{Scenario: plivosim.SignatureWrongV3RightV2}}, []string{"REPORT_WAIT=1s"}},
		"all combined": {[]plivosim.Fault{
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
			messages := r.create(30)
			r.worker("", tt.vars...)
			r.awaitFinal()
			for _, m := range messages {
				r.wantStatus(m, mms.Delivered)
			}
			r.verify(len(messages))
		})
	}
}

// TestPollingFindsFailures has messages that fail at Plivo, and no reports.
func TestPollingFindsFailures(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	statuses := map[string]mms.Status{}
	for _, s := range plivosim.Scenarios() {
		recipient := "+1415555" + "01" + s.Suffix
		switch s.Name {
		case plivosim.Undelivered:
			statuses[recipient] = mms.Undelivered
		case plivosim.FailedSpam, plivosim.FailedOptedOut, plivosim.FailedExpired:
			statuses[recipient] = mms.Failed
		}
	}
	messages := map[mms.Status][]mms.Message{}
	for recipient, want := range statuses {
		messages[want] = append(messages[want], r.createTo(recipient))
	}
	r.worker("", "PUBLIC_URL=")
	r.awaitFinal()
	for want, list := range messages {
		for _, m := range list {
			if h := r.wantStatus(m, want); h.PlivoCode == "" {
				t.Errorf("a message that is %s has no Plivo code", want)
			}
		}
	}
	r.verify(len(statuses))
}

// TestOptOutByText has a recipient opt out by text message, and in again.
func TestOptOutByText(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	r.worker("")
	const phone = "+14165551000"
	text := func(content string) {
		t.Helper()
		status, err := r.sim.Receive(t.Context(), plivosim.Text{From: phone, To: sender, Text: content, URL: r.callback.URL + callback.InboundPath})
		if err != nil || status != http.StatusOK {
			t.Fatalf("text %s: got %d (error %v), want 200", content, status, err)
		}
	}
	first := r.createTo(phone)
	r.awaitFinal()
	text("Stop")
	second := r.createTo(phone)
	r.awaitFinal()
	text("START")
	third := r.createTo(phone)
	r.awaitFinal()
	r.wantStatus(first, mms.Delivered)
	if h := r.wantStatus(second, mms.Failed); h.Reason != mms.ReasonOptedOut || len(h.AttemptList) != 0 {
		t.Errorf("got reason %q after %d attempts, want opted out and 0", h.Reason, len(h.AttemptList))
	}
	r.wantStatus(third, mms.Delivered)
	r.verify(2)
}

// TestOptOutKnownToPlivo sends to a recipient who has opted out at Plivo: the first
// message fails there, the second is not submitted.
func TestOptOutKnownToPlivo(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	r.worker("")
	if _, err := r.sim.Receive(t.Context(), plivosim.Text{From: "+14165551000", To: sender, Text: "STOP", URL: r.callback.URL + "/nobody"}); err != nil {
		t.Fatal(err)
	}
	first := r.createTo("+14165551000")
	r.awaitFinal()
	second := r.createTo("+14165551000")
	r.awaitFinal()
	if h := r.wantStatus(first, mms.Failed); h.PlivoCode != mms.OptedOutCode {
		t.Errorf("got code %q, want the opt-out code", h.PlivoCode)
	}
	if h := r.wantStatus(second, mms.Failed); h.Reason != mms.ReasonOptedOut {
		t.Errorf("got reason %q, want opted out", h.Reason)
	}
	r.verify(1)
}

package e2e

import (
	"testing"

	"postcard/internal/mms"
	"postcard/internal/plivosim"
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

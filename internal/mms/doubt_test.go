package mms

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	one, two := Listed{PlivoUUID: "u-1"}, Listed{PlivoUUID: "u-2"}
	policy := DoubtPolicy{Wait: 3 * time.Minute}
	tests := map[string]struct {
		policy  DoubtPolicy
		age     time.Duration
		crowded bool
		found   []Listed
		want    Resolution
	}{
		"one match":                        {policy, time.Second, false, []Listed{one}, Resolution{Kind: Adopt, Found: one}},
		"one match after the wait":         {policy, time.Hour, false, []Listed{one}, Resolution{Kind: Adopt, Found: one}},
		"several matches":                  {policy, time.Second, false, []Listed{one, two}, Resolution{Kind: HoldAmbiguous}},
		"one match that may be another's":  {policy, time.Second, true, []Listed{one}, Resolution{Kind: HoldAmbiguous}},
		"nothing yet, at once":             {policy, 0, false, nil, Resolution{Kind: CheckAgain, Wait: 5 * time.Second}},
		"nothing yet, after a while":       {policy, time.Minute, false, nil, Resolution{Kind: CheckAgain, Wait: time.Minute}},
		"the last look is after the wait":  {policy, 170 * time.Second, false, nil, Resolution{Kind: CheckAgain, Wait: 10 * time.Second}},
		"nothing after the wait":           {policy, 3 * time.Minute, false, nil, Resolution{Kind: Resend}},
		"nothing after the wait, crowded":  {policy, 3 * time.Minute, true, nil, Resolution{Kind: Resend}},
		"nothing after the wait, cautious": {DoubtPolicy{Wait: time.Minute, Hold: true}, time.Minute, false, nil, Resolution{Kind: HoldByPolicy}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := tt.policy.Resolve(Doubt{Age: tt.age, PairAmbiguous: tt.crowded}, tt.found)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Resolve() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDoubtMatches(t *testing.T) {
	t.Parallel()
	begun := time.Date(2026, 1, 15, 10, 20, 30, 0, time.UTC)
	d := Doubt{Sender: "+14155550100", Recipient: "+14155550123", StartedAt: begun, FinishedAt: begun.Add(10 * time.Second), Age: 3 * time.Minute}
	good := Listed{From: "14155550100", To: "14155550123", At: begun.Add(time.Second)}
	tests := map[string]struct {
		change func(*Listed)
		want   bool
	}{
		"the same":             {func(*Listed) {}, true},
		"with plus signs":      {func(l *Listed) { l.From, l.To = "+14155550100", "+14155550123" }, true},
		"another zone":         {func(l *Listed) { l.At = l.At.In(time.FixedZone("", 19800)) }, true},
		"clocks a little off":  {func(l *Listed) { l.At = begun.Add(-50 * time.Second) }, true},
		"too early":            {func(l *Listed) { l.At = begun.Add(-61 * time.Second) }, false},
		"worked off late":      {func(l *Listed) { l.At = begun.Add(3 * time.Minute) }, true},
		"in the future":        {func(l *Listed) { l.At = begun.Add(251 * time.Second) }, false},
		"from another sender":  {func(l *Listed) { l.From = "14155550101" }, false},
		"to another recipient": {func(l *Listed) { l.To = "14155550124" }, false},
		"a masked recipient":   {func(l *Listed) { l.To = "14155550XXX" }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := good
			tt.change(&l)
			if got := d.Matches(l); got != tt.want {
				t.Errorf("Matches(%+v) = %v, want %v", l, got, tt.want)
			}
		})
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	if got := PhoneNumber("+14155550100").DefaultInterval(); got < 4*time.Second || got > 4100*time.Millisecond {
		t.Errorf("pace of a long code = %v, want a little over 4 s", got)
	}
	if got := PhoneNumber("+18005550100").DefaultInterval(); got < 500*time.Millisecond || got > 510*time.Millisecond {
		t.Errorf("pace of a toll-free number = %v, want a little over 0.5 s", got)
	}
	if got := IntervalForRate(0); got != 0 {
		t.Errorf("pace without a limit = %v, want 0", got)
	}
}

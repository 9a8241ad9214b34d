package mms

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	first, second := Listed{PlivoUUID: "u-1"}, Listed{PlivoUUID: "u-2"}
	policy := DoubtPolicy{Wait: 3 * time.Minute}
	tests := map[string]struct {
		policy    DoubtPolicy
		age       time.Duration
		ambiguous bool
		found     []Listed
		want      Resolution
	}{
		"one match":                               {policy, time.Second, false, []Listed{first}, Resolution{Kind: Adopt, Found: first}},
		"one match after the wait":                {policy, time.Hour, false, []Listed{first}, Resolution{Kind: Adopt, Found: first}},
		"several matches":                         {policy, time.Second, false, []Listed{first, second}, Resolution{Kind: HoldAmbiguous}},
		"one match, ambiguous pair":               {policy, time.Second, true, []Listed{first}, Resolution{Kind: HoldAmbiguous}},
		"no match, first check":                   {policy, 0, false, nil, Resolution{Kind: CheckAgain, Wait: 5 * time.Second}},
		"no match, later check":                   {policy, time.Minute, false, nil, Resolution{Kind: CheckAgain, Wait: time.Minute}},
		"no match, last check":                    {policy, 170 * time.Second, false, nil, Resolution{Kind: CheckAgain, Wait: 10 * time.Second}},
		"no match after the wait":                 {policy, 3 * time.Minute, false, nil, Resolution{Kind: Retry}},
		"no match after the wait, ambiguous pair": {policy, 3 * time.Minute, true, nil, Resolution{Kind: Retry}},
		"no match after the wait, hold":           {DoubtPolicy{Wait: time.Minute, Hold: true}, time.Minute, false, nil, Resolution{Kind: HoldByPolicy}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := tt.policy.Resolve(Doubt{Age: tt.age, PairAmbiguous: tt.ambiguous}, tt.found)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Resolve() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDoubtMatches(t *testing.T) {
	t.Parallel()
	started := time.Date(2026, 1, 15, 10, 20, 30, 0, time.UTC)
	d := Doubt{Sender: "+14155550100", Recipient: "+14155550123", StartedAt: started, FinishedAt: started.Add(10 * time.Second), Age: 3 * time.Minute}
	listed := Listed{From: "14155550100", To: "14155550123", At: started.Add(time.Second)}
	tests := map[string]struct {
		change func(*Listed)
		want   bool
	}{
		"same numbers and time": {func(*Listed) {}, true},
		"with plus signs":       {func(l *Listed) { l.From, l.To = "+14155550100", "+14155550123" }, true},
		"other time zone":       {func(l *Listed) { l.At = l.At.In(time.FixedZone("", 19800)) }, true},
		"clock skew":            {func(l *Listed) { l.At = started.Add(-50 * time.Second) }, true},
		"too early":             {func(l *Listed) { l.At = started.Add(-61 * time.Second) }, false},
		"processed late":        {func(l *Listed) { l.At = started.Add(3 * time.Minute) }, true},
		"in the future":         {func(l *Listed) { l.At = started.Add(251 * time.Second) }, false},
		"other sender":          {func(l *Listed) { l.From = "14155550101" }, false},
		"other recipient":       {func(l *Listed) { l.To = "14155550124" }, false},
		"masked recipient":      {func(l *Listed) { l.To = "14155550XXX" }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listed
			tt.change(&l)
			if got := d.Matches(l); got != tt.want {
				t.Errorf("Matches(%+v) = %v, want %v", l, got, tt.want)
			}
		})
	}
}

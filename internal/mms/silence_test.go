package mms

import (
	"strings"
	"testing"
	"time"
)

func TestEvidenceOfSilence(t *testing.T) {
	t.Parallel()
	policy := SilencePolicy{After: 90 * time.Second}
	enough := Silence{Lasted: 90 * time.Second, Accepted: 1000, Reported: 995, Slowest: 30 * time.Second}
	for name, tt := range map[string]struct {
		policy SilencePolicy
		change func(*Silence)
		want   bool
	}{
		"all conditions": {policy, func(*Silence) {}, true},
		"rule off":       {SilencePolicy{}, func(*Silence) {}, false},
		"too short":      {policy, func(s *Silence) { s.Lasted--; s.Slowest = 0 }, false},
		"slow reports":   {policy, func(s *Silence) { s.Slowest++ }, false},
		"unreported":     {policy, func(s *Silence) { s.Reported-- }, false},
		"50 reported":    {policy, func(s *Silence) { s.Accepted, s.Reported = 50, 50 }, true},
		"49 reported":    {policy, func(s *Silence) { s.Accepted, s.Reported = 49, 49 }, false},
		"49 of 50":       {policy, func(s *Silence) { s.Accepted, s.Reported = 50, 49 }, false},
		"nothing sent":   {policy, func(s *Silence) { s.Accepted, s.Reported = 0, 0 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := enough
			tt.change(&s)
			if got := tt.policy.Evidence(s); got != tt.want {
				t.Errorf("%+v: got %t, want %t", s, got, tt.want)
			}
		})
	}
}

func TestSilenceNamesItsEvidence(t *testing.T) {
	t.Parallel()
	s := Silence{
		HTTPStatus: 500, FinishedAt: time.Date(2026, 11, 27, 9, 30, 5, 0, time.UTC), Lasted: 94_200 * time.Millisecond,
		Accepted: 1204, Reported: 1203, Slowest: 2_050 * time.Millisecond,
	}
	const want = "Plivo answered 500 at 09:30:05 UTC and sent no report for 95 s, while it reported 1203 of 1204 other messages, the slowest after 2.1 s."
	if got := s.Description(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAdviceOnSilence(t *testing.T) {
	t.Parallel()
	good := ReportTimes{Accepted: 2000, Reported: 1995, P99: 1_200 * time.Millisecond, Slowest: 3 * time.Second, Processes: 2, Unbroken: time.Hour}
	for want, change := range map[string]func(*ReportTimes){
		"DOUBT_SILENCE=1m30s could be used":         func(*ReportTimes) {},
		"DOUBT_SILENCE=2m10s could be used":         func(r *ReportTimes) { r.Slowest = 41 * time.Second },
		"three times as long as the slowest report": func(r *ReportTimes) { r.Slowest = 4 * time.Minute },
		"less than 99.5 % were reported":            func(r *ReportTimes) { r.Reported = 1989 },
		"fewer than 50 messages":                    func(r *ReportTimes) { r.Accepted, r.Reported = 49, 49 },
		"no api process is running":                 func(r *ReportTimes) { r.Processes = 0 },
		"off for another 2h0m0s":                    func(r *ReportTimes) { r.OffFor = 2 * time.Hour },
	} {
		r := good
		change(&r)
		if got := r.Advice(); !strings.Contains(got, want) {
			t.Errorf("%+v: got %q, want it to contain %q", r, got, want)
		}
	}
	const measured = "Plivo reported 1995 of 2000 accepted messages in the last 24 hours: 99 % of them within 1.2 s, the slowest after 3 s. "
	if got := good.Advice(); !strings.HasPrefix(got, measured) {
		t.Errorf("got %q, want it to begin with %q", got, measured)
	}
	if got := (ReportTimes{}).Advice(); !strings.HasPrefix(got, "Plivo reported 0 of 0 accepted messages in the last 24 hours. DOUBT_SILENCE cannot be used") {
		t.Errorf("nothing sent: got %q", got)
	}
}

package mms

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	one := []string{"u-1"}
	broken := errors.New("unexpected EOF")
	tests := map[string]struct {
		answer  Answer
		outcome Outcome
		reason  Reason
	}{
		"accepted":                   {Answer{Written: true, Status: 202, UUIDs: one}, Accepted, ""},
		"accepted with 200":          {Answer{Written: true, Status: 200, UUIDs: one}, Accepted, ""},
		"no UUID":                    {Answer{Written: true, Status: 202}, Unknown, ReasonBrokenAnswer},
		"two UUIDs":                  {Answer{Written: true, Status: 202, UUIDs: []string{"a", "b"}}, Unknown, ReasonBrokenAnswer},
		"an empty UUID":              {Answer{Written: true, Status: 202, UUIDs: []string{""}}, Unknown, ReasonBrokenAnswer},
		"a UUID that is none":        {Answer{Written: true, Status: 202, UUIDs: []string{"a\nb"}}, Unknown, ReasonBrokenAnswer},
		"cut after the UUID":         {Answer{Written: true, Status: 202, UUIDs: one, Err: broken}, Unknown, ReasonBrokenAnswer},
		"not written":                {Answer{Err: broken}, RefusedForNow, ReasonUnreachable},
		"written, no answer":         {Answer{Written: true, Err: broken}, Unknown, ReasonNoAnswer},
		"moved":                      {Answer{Written: true, Status: 301}, AccountTrouble, ReasonAddress},
		"found elsewhere":            {Answer{Written: true, Status: 302}, Unknown, ReasonServerError},
		"see other":                  {Answer{Written: true, Status: 303}, Unknown, ReasonServerError},
		"bad request":                {Answer{Written: true, Status: 400, Text: "no"}, Refused, ReasonRefused},
		"no credit":                  {Answer{Written: true, Status: 400, Text: "Insufficient credit"}, AccountTrouble, ReasonCredit},
		"no credit, as seen in 2016": {Answer{Written: true, Status: 400, Text: "InsufficientCredit"}, AccountTrouble, ReasonCredit},
		"unauthorized":               {Answer{Written: true, Status: 401}, AccountTrouble, ReasonCredentials},
		"payment required":           {Answer{Written: true, Status: 402}, AccountTrouble, ReasonCredit},
		"forbidden":                  {Answer{Written: true, Status: 403}, Refused, ReasonForbidden},
		"not found":                  {Answer{Written: true, Status: 404}, AccountTrouble, ReasonAddress},
		"request timeout":            {Answer{Written: true, Status: 408}, Unknown, ReasonNoAnswer},
		"unprocessable":              {Answer{Written: true, Status: 422}, Refused, ReasonRefused},
		"too many":                   {Answer{Written: true, Status: 429}, RefusedForNow, ReasonRateLimited},
		"server error":               {Answer{Written: true, Status: 500}, Unknown, ReasonServerError},
		"a status of its own":        {Answer{Written: true, Status: 777}, Unknown, ReasonServerError},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := Judge(tt.answer)
			if v.Outcome != tt.outcome || v.Reason != tt.reason || v.HTTPStatus != tt.answer.Status {
				t.Errorf("Judge(%+v) = %+v, want %s for %q", tt.answer, v, tt.outcome, tt.reason)
			}
			if (v.PlivoUUID != "") != (v.Outcome == Accepted) {
				t.Errorf("UUID %q with outcome %s", v.PlivoUUID, v.Outcome)
			}
		})
	}
}

// TestJudgeNeverRisksADuplicate plays random answers: only what certainly is
// not at Plivo may be called refused.
func TestJudgeNeverRisksADuplicate(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		a := Answer{Written: random.IntN(4) > 0}
		if random.IntN(5) > 0 {
			a.Written, a.Status = true, 200+random.IntN(400)
		}
		for range random.IntN(3) {
			a.UUIDs = append(a.UUIDs, []string{"", "u"}[random.IntN(2)])
		}
		if random.IntN(2) == 0 {
			a.Err = errors.New("x")
		}
		v := Judge(a)
		clear := a.Status/100 == 4 || !a.Written || a.Status == 301 || a.Status == 307 || a.Status == 308
		if !clear && v.Outcome != Unknown && v.Outcome != Accepted {
			t.Fatalf("Judge(%+v) = %s without a clear refusal", a, v.Outcome)
		}
		if v.Outcome == Accepted && (a.Status/100 != 2 || len(a.UUIDs) != 1 || a.Err != nil) {
			t.Fatalf("Judge(%+v) = accepted", a)
		}
	}
}

func TestDetailIsBoundedAndStorable(t *testing.T) {
	t.Parallel()
	v := Judge(Answer{Written: true, Status: 400, Text: "\x00\xff" + strings.Repeat("é", MaxDetail), APIID: strings.Repeat("a", 200)})
	if len(v.Detail) > MaxDetail || strings.Contains(v.Detail, "\x00") || !utf8.ValidString(v.Detail) || len(v.APIID) > 100 {
		t.Errorf("detail of %d bytes, API id of %d", len(v.Detail), len(v.APIID))
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	policy := RetryPolicy{MaxAttempts: 3, Jitter: func() float64 { return 0 }}
	later := Verdict{Outcome: RefusedForNow, Reason: ReasonRateLimited}
	patient := later
	patient.RetryAfter = time.Minute
	absurd := later
	absurd.RetryAfter = 24 * time.Hour
	tests := map[string]struct {
		verdict  Verdict
		refusals int
		troubles int
		want     Step
	}{
		"accepted":             {Verdict{Outcome: Accepted}, 0, 0, Step{Status: Submitted}},
		"refused":              {Verdict{Outcome: Refused, Reason: ReasonForbidden}, 0, 0, Step{Status: Failed, Reason: ReasonForbidden}},
		"unknown":              {Verdict{Outcome: Unknown, Reason: ReasonNoAnswer}, 99, 0, Step{Status: InDoubt, Reason: ReasonNoAnswer}},
		"account trouble":      {Verdict{Outcome: AccountTrouble, Reason: ReasonCredit}, 99, 0, Step{Status: Queued, Paused: true, Reason: ReasonCredit}},
		"trouble of its own":   {Verdict{Outcome: AccountTrouble, Reason: ReasonAddress}, 0, 2, Step{Status: Failed, Reason: ReasonAlwaysTrouble}},
		"unreachable for long": {Verdict{Outcome: RefusedForNow, Reason: ReasonUnreachable}, 99, 0, Step{Status: Queued, Wait: time.Minute, Reason: ReasonUnreachable}},
		"first refusal":        {later, 0, 0, Step{Status: Queued, Wait: 2 * time.Second, Reason: ReasonRateLimited}},
		"second refusal":       {later, 1, 0, Step{Status: Queued, Wait: 4 * time.Second, Reason: ReasonRateLimited}},
		"third refusal":        {later, 2, 0, Step{Status: Failed, Reason: ReasonAttemptsUsedUp}},
		"a Retry-After":        {patient, 0, 0, Step{Status: Queued, Wait: time.Minute, Reason: ReasonRateLimited}},
		"no such long waits":   {absurd, 0, 0, Step{Status: Queued, Wait: 30 * time.Minute, Reason: ReasonRateLimited}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := policy.Next(tt.verdict, Claim{AttemptRef: AttemptRef{Number: tt.refusals + 1}, Refusals: tt.refusals, OwnTroubles: tt.troubles}); got != tt.want {
				t.Errorf("Next() = %+v, want %+v", got, tt.want)
			}
		})
	}
	endless := RetryPolicy{MaxAttempts: 1000, Jitter: func() float64 { return 0.999 }}
	var waits []time.Duration
	for n := range 100 {
		waits = append(waits, endless.Next(later, Claim{AttemptRef: AttemptRef{Number: n + 1}, Refusals: n}).Wait)
	}
	if !slices.IsSorted(waits) || waits[99] > 15*time.Minute || waits[0] > 3*time.Second {
		t.Errorf("waits grow from %v to %v", waits[0], waits[99])
	}
}

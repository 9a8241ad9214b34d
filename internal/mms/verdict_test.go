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
		"no UUID":                    {Answer{Written: true, Status: 202}, Unknown, ReasonMalformedResponse},
		"two UUIDs":                  {Answer{Written: true, Status: 202, UUIDs: []string{"a", "b"}}, Unknown, ReasonMalformedResponse},
		"an empty UUID":              {Answer{Written: true, Status: 202, UUIDs: []string{""}}, Unknown, ReasonMalformedResponse},
		"a UUID that is none":        {Answer{Written: true, Status: 202, UUIDs: []string{"a\nb"}}, Unknown, ReasonMalformedResponse},
		"cut after the UUID":         {Answer{Written: true, Status: 202, UUIDs: one, Err: broken}, Unknown, ReasonMalformedResponse},
		"not written":                {Answer{Err: broken}, TransientFailure, ReasonUnreachable},
		"written, no answer":         {Answer{Written: true, Err: broken}, Unknown, ReasonNoResponse},
		"moved":                      {Answer{Written: true, Status: 301}, AccountError, ReasonEndpoint},
		"found elsewhere":            {Answer{Written: true, Status: 302}, Unknown, ReasonServerError},
		"see other":                  {Answer{Written: true, Status: 303}, Unknown, ReasonServerError},
		"bad request":                {Answer{Written: true, Status: 400, Text: "no"}, PermanentFailure, ReasonRejected},
		"no credit":                  {Answer{Written: true, Status: 400, Text: "Insufficient credit"}, AccountError, ReasonCredit},
		"no credit, as seen in 2016": {Answer{Written: true, Status: 400, Text: "InsufficientCredit"}, AccountError, ReasonCredit},
		"unauthorized":               {Answer{Written: true, Status: 401}, AccountError, ReasonCredentials},
		"payment required":           {Answer{Written: true, Status: 402}, AccountError, ReasonCredit},
		"forbidden":                  {Answer{Written: true, Status: 403}, PermanentFailure, ReasonForbidden},
		"not found":                  {Answer{Written: true, Status: 404}, AccountError, ReasonEndpoint},
		"request timeout":            {Answer{Written: true, Status: 408}, Unknown, ReasonNoResponse},
		"unprocessable":              {Answer{Written: true, Status: 422}, PermanentFailure, ReasonRejected},
		"too many":                   {Answer{Written: true, Status: 429}, TransientFailure, ReasonRateLimited},
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
	later := Verdict{Outcome: TransientFailure, Reason: ReasonRateLimited}
	patient := later
	patient.RetryAfter = time.Minute
	absurd := later
	absurd.RetryAfter = 24 * time.Hour
	tests := map[string]struct {
		verdict  Verdict
		refusals int
		troubles int
		want     Transition
	}{
		"accepted":             {Verdict{Outcome: Accepted}, 0, 0, Transition{Status: Submitted}},
		"refused":              {Verdict{Outcome: PermanentFailure, Reason: ReasonForbidden}, 0, 0, Transition{Status: Failed, Reason: ReasonForbidden}},
		"unknown":              {Verdict{Outcome: Unknown, Reason: ReasonNoResponse}, 99, 0, Transition{Status: InDoubt, Reason: ReasonNoResponse}},
		"account trouble":      {Verdict{Outcome: AccountError, Reason: ReasonCredit}, 99, 0, Transition{Status: Queued, Paused: true, Reason: ReasonCredit}},
		"trouble of its own":   {Verdict{Outcome: AccountError, Reason: ReasonEndpoint}, 0, 2, Transition{Status: Failed, Reason: ReasonPersistentAccountError}},
		"unreachable for long": {Verdict{Outcome: TransientFailure, Reason: ReasonUnreachable}, 99, 0, Transition{Status: Queued, Wait: time.Minute, Reason: ReasonUnreachable}},
		"first refusal":        {later, 0, 0, Transition{Status: Queued, Wait: 2 * time.Second, Reason: ReasonRateLimited}},
		"second refusal":       {later, 1, 0, Transition{Status: Queued, Wait: 4 * time.Second, Reason: ReasonRateLimited}},
		"third refusal":        {later, 2, 0, Transition{Status: Failed, Reason: ReasonAttemptsExhausted}},
		"a Retry-After":        {patient, 0, 0, Transition{Status: Queued, Wait: time.Minute, Reason: ReasonRateLimited}},
		"no such long waits":   {absurd, 0, 0, Transition{Status: Queued, Wait: 30 * time.Minute, Reason: ReasonRateLimited}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := policy.Next(tt.verdict, Claim{AttemptRef: AttemptRef{Ordinal: tt.refusals + 1}, TransientFailures: tt.refusals, OwnAccountErrors: tt.troubles}); got != tt.want {
				t.Errorf("Next() = %+v, want %+v", got, tt.want)
			}
		})
	}
	endless := RetryPolicy{MaxAttempts: 1000, Jitter: func() float64 { return 0.999 }}
	var waits []time.Duration
	for n := range 100 {
		waits = append(waits, endless.Next(later, Claim{AttemptRef: AttemptRef{Ordinal: n + 1}, TransientFailures: n}).Wait)
	}
	if !slices.IsSorted(waits) || waits[99] > 15*time.Minute || waits[0] > 3*time.Second {
		t.Errorf("waits grow from %v to %v", waits[0], waits[99])
	}
}

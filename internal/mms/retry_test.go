package mms

import (
	"slices"
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	t.Parallel()
	policy := RetryPolicy{MaxAttempts: 3, Jitter: func() float64 { return 0 }}
	rateLimited := Verdict{Outcome: TransientFailure, Reason: ReasonRateLimited}
	withRetryAfter := rateLimited
	withRetryAfter.RetryAfter = time.Minute
	absurdRetryAfter := rateLimited
	absurdRetryAfter.RetryAfter = 24 * time.Hour
	tests := map[string]struct {
		verdict           Verdict
		transientFailures int
		ownAccountErrors  int
		unknownOutcomes   int
		want              Transition
	}{
		"accepted":                   {Verdict{Outcome: Accepted}, 0, 0, 0, Transition{Status: Submitted}},
		"permanent failure":          {Verdict{Outcome: PermanentFailure, Reason: ReasonForbidden}, 0, 0, 0, Transition{Status: Failed, Reason: ReasonForbidden}},
		"unknown":                    {Verdict{Outcome: Unknown, Reason: ReasonNoResponse}, 99, 0, 0, Transition{Status: InDoubt, Reason: ReasonNoResponse}},
		"account error":              {Verdict{Outcome: AccountError, Reason: ReasonCredit}, 99, 0, 0, Transition{Status: Queued, PausesSending: true, Reason: ReasonCredit}},
		"repeated account error":     {Verdict{Outcome: AccountError, Reason: ReasonEndpoint}, 0, 2, 0, Transition{Status: Failed, Reason: ReasonPersistentAccountError}},
		"unreachable for long":       {Verdict{Outcome: TransientFailure, Reason: ReasonUnreachable}, 99, 0, 0, Transition{Status: Queued, Wait: time.Minute, Reason: ReasonUnreachable}},
		"first transient failure":    {rateLimited, 0, 0, 0, Transition{Status: Queued, Wait: 2 * time.Second, Reason: ReasonRateLimited}},
		"second":                     {rateLimited, 1, 0, 0, Transition{Status: Queued, Wait: 4 * time.Second, Reason: ReasonRateLimited}},
		"third":                      {rateLimited, 2, 0, 0, Transition{Status: Failed, Reason: ReasonAttemptsExhausted}},
		"third, one of them unknown": {rateLimited, 1, 0, 1, Transition{Status: Failed, Reason: ReasonUnresolved}},
		"unknown, no attempt left":   {Verdict{Outcome: Unknown, Reason: ReasonServerError}, 0, 0, 2, Transition{Status: InDoubt, Reason: ReasonServerError}},
		"unreachable after doubts":   {Verdict{Outcome: TransientFailure, Reason: ReasonUnreachable}, 0, 0, 99, Transition{Status: Queued, Wait: 2 * time.Second, Reason: ReasonUnreachable}},
		"Retry-After":                {withRetryAfter, 0, 0, 0, Transition{Status: Queued, Wait: time.Minute, Reason: ReasonRateLimited}},
		"absurd Retry-After":         {absurdRetryAfter, 0, 0, 0, Transition{Status: Queued, Wait: 30 * time.Minute, Reason: ReasonRateLimited}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claim := Claim{AttemptRef: AttemptRef{Ordinal: tt.transientFailures + 1}, TransientFailures: tt.transientFailures, OwnAccountErrors: tt.ownAccountErrors, UnknownOutcomes: tt.unknownOutcomes}
			if got := policy.Next(tt.verdict, claim); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestBackoffGrowsToALimit(t *testing.T) {
	t.Parallel()
	policy := RetryPolicy{MaxAttempts: 1000, Jitter: func() float64 { return 0.999 }}
	var waits []time.Duration
	for n := range 100 {
		claim := Claim{AttemptRef: AttemptRef{Ordinal: n + 1}, TransientFailures: n}
		waits = append(waits, policy.Next(Verdict{Outcome: TransientFailure, Reason: ReasonRateLimited}, claim).Wait)
	}
	if !slices.IsSorted(waits) || waits[0] > 3*time.Second || waits[99] > 15*time.Minute {
		t.Errorf("got waits %v, want them to grow from at most 3 s to at most 15 min", waits)
	}
}

package mms

import "time"

// Transition is what becomes of a message after an attempt.
type Transition struct {
	Status Status        // Submitted, Queued, Failed or InDoubt
	Wait   time.Duration // until the next attempt, when Queued
	Paused bool          // all sending pauses for the reason, and the message waits in line
	Reason Reason
}

// RetryPolicy says how often and how soon a refused message is tried again.
type RetryPolicy struct {
	MaxAttempts int            // refusals for now after which the message fails; at least 1
	Jitter      func() float64 // in [0,1); spreads retries of messages refused together
}

// Waiting times between attempts.
const (
	initialBackoff        = 2 * time.Second
	maxBackoff            = 10 * time.Minute
	accountWait           = time.Minute      // between looks whether the account can send again
	maxRetryAfter         = 30 * time.Minute // a Retry-After beyond this is not believed
	maxUnreachableBackoff = time.Minute      // between tries to reach Plivo at all
)

// maxOwnAccountErrors is how often a message may meet account trouble that others
// do not have.
const maxOwnAccountErrors = 2

// Next decides on the step after the claim's attempt ended with verdict v. Only
// Plivo's own refusals are counted: while Plivo cannot be reached, and while the
// account has trouble, the message waits until it expires. Trouble that comes
// back to one message while others pass is that message's own.
func (p RetryPolicy) Next(v Verdict, claim Claim) Transition {
	switch v.Outcome {
	case Accepted:
		return Transition{Status: Submitted}
	case PermanentFailure:
		return Transition{Status: Failed, Reason: v.Reason}
	case AccountError:
		if claim.OwnAccountErrors >= maxOwnAccountErrors {
			return Transition{Status: Failed, Reason: ReasonPersistentAccountError}
		}
		return Transition{Status: Queued, Paused: true, Reason: v.Reason}
	case TransientFailure:
		if v.Reason != ReasonUnreachable && claim.TransientFailures+1 >= p.MaxAttempts {
			return Transition{Status: Failed, Reason: ReasonAttemptsExhausted}
		}
		return Transition{Status: Queued, Wait: p.backoff(v, claim.Ordinal-1), Reason: v.Reason}
	default:
		return Transition{Status: InDoubt, Reason: v.Reason}
	}
}

// backoff doubles from firstWait with each attempt before, up to longestWait, and is
// never shorter than what Plivo asked for.
func (p RetryPolicy) backoff(v Verdict, before int) time.Duration {
	wait := maxBackoff
	if before < 16 {
		wait = min(initialBackoff<<max(before, 0), maxBackoff)
	}
	if v.Reason == ReasonUnreachable {
		wait = min(wait, maxUnreachableBackoff)
	}
	return max(p.addJitter(wait), min(v.RetryAfter, maxRetryAfter))
}

// addJitter lengthens a wait by up to half.
func (p RetryPolicy) addJitter(wait time.Duration) time.Duration {
	return wait + time.Duration(p.Jitter()*float64(wait)/2)
}

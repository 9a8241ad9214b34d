package mms

import "time"

// Step is what becomes of a message after an attempt.
type Step struct {
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
	firstWait         = 2 * time.Second
	longestWait       = 10 * time.Minute
	accountWait       = time.Minute      // between looks whether the account can send again
	longestRetryAfter = 30 * time.Minute // a Retry-After beyond this is not believed
	longestUnreached  = time.Minute      // between tries to reach Plivo at all
)

// ownTroublesAllowed is how often a message may meet account trouble that others
// do not have.
const ownTroublesAllowed = 2

// Next decides on the step after the claim's attempt ended with verdict v. Only
// Plivo's own refusals are counted: while Plivo cannot be reached, and while the
// account has trouble, the message waits until it expires. Trouble that comes
// back to one message while others pass is that message's own.
func (p RetryPolicy) Next(v Verdict, claim Claim) Step {
	switch v.Outcome {
	case Accepted:
		return Step{Status: Submitted}
	case Refused:
		return Step{Status: Failed, Reason: v.Reason}
	case AccountTrouble:
		if claim.OwnTroubles >= ownTroublesAllowed {
			return Step{Status: Failed, Reason: ReasonAlwaysTrouble}
		}
		return Step{Status: Queued, Paused: true, Reason: v.Reason}
	case RefusedForNow:
		if v.Reason != ReasonUnreachable && claim.Refusals+1 >= p.MaxAttempts {
			return Step{Status: Failed, Reason: ReasonAttemptsUsedUp}
		}
		return Step{Status: Queued, Wait: p.wait(v, claim.Number-1), Reason: v.Reason}
	default:
		return Step{Status: InDoubt, Reason: v.Reason}
	}
}

// wait doubles from firstWait with each attempt before, up to longestWait, and is
// never shorter than what Plivo asked for.
func (p RetryPolicy) wait(v Verdict, before int) time.Duration {
	wait := longestWait
	if before < 16 {
		wait = min(firstWait<<max(before, 0), longestWait)
	}
	if v.Reason == ReasonUnreachable {
		wait = min(wait, longestUnreached)
	}
	return max(p.spread(wait), min(v.RetryAfter, longestRetryAfter))
}

// spread lengthens a wait by up to half.
func (p RetryPolicy) spread(wait time.Duration) time.Duration {
	return wait + time.Duration(p.Jitter()*float64(wait)/2)
}

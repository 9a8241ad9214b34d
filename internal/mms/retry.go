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
)

// Next decides on the step after an attempt with verdict v, when the message
// was refused for now refusals times before. Account trouble is not counted:
// the message waits in line until the account works again.
func (p RetryPolicy) Next(v Verdict, refusals int) Step {
	switch v.Outcome {
	case Accepted:
		return Step{Status: Submitted}
	case Refused:
		return Step{Status: Failed, Reason: v.Reason}
	case AccountTrouble:
		return Step{Status: Queued, Paused: true, Reason: v.Reason}
	case RefusedForNow:
		if refusals+1 >= p.MaxAttempts {
			return Step{Status: Failed, Reason: ReasonAttemptsUsedUp}
		}
		return Step{Status: Queued, Wait: p.wait(v, refusals), Reason: v.Reason}
	default:
		return Step{Status: InDoubt, Reason: v.Reason}
	}
}

// wait doubles from firstWait to longestWait, and is never shorter than what
// Plivo asked for.
func (p RetryPolicy) wait(v Verdict, refusals int) time.Duration {
	wait := longestWait
	if refusals < 16 {
		wait = min(firstWait<<refusals, longestWait)
	}
	return max(p.spread(wait), min(v.RetryAfter, longestRetryAfter))
}

// spread lengthens a wait by up to half.
func (p RetryPolicy) spread(wait time.Duration) time.Duration {
	return wait + time.Duration(p.Jitter()*float64(wait)/2)
}

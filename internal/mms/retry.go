package mms

import "time"

// Transition is what happens to a message after an attempt.
type Transition struct {
	Status        Status        // Submitted, Queued, Failed or InDoubt
	Wait          time.Duration // until the next attempt; for Queued
	PausesSending bool          // all sending pauses for Reason, and the message joins the backlog
	Reason        Reason
}

// RetryPolicy decides how often and how soon a message is tried again.
type RetryPolicy struct {
	MaxAttempts int            // transient failures and unknown outcomes after which a message fails, at least 1; connection errors do not count
	Jitter      func() float64 // in [0,1); spreads out messages that failed together
}

const (
	initialBackoff        = 2 * time.Second
	maxBackoff            = 10 * time.Minute
	maxUnreachableBackoff = time.Minute      // while Plivo cannot be reached
	maxRetryAfter         = 30 * time.Minute // a longer Retry-After is cut to this
)

// maxOwnAccountErrors is how many account errors that other messages do not get
// a message may have before the next one makes it fail.
const maxOwnAccountErrors = 2

// Next returns the transition after the claimed attempt ended with verdict v.
//
// Plivo's own rejections and attempts whose outcome stayed unknown count towards
// MaxAttempts: while Plivo cannot be reached or the account has an error, the
// message waits until it expires. A message whose last attempt ends unknown is in
// doubt like any other, but the store does not queue it again when no evidence is
// found. An account error that keeps coming back to one message while others are
// accepted is that message's own, and makes it fail.
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
		return Transition{Status: Queued, PausesSending: true, Reason: v.Reason}
	case TransientFailure:
		if v.Reason != ReasonUnreachable && claim.TransientFailures+claim.UnknownOutcomes+1 >= p.MaxAttempts {
			return Transition{Status: Failed, Reason: exhausted(claim)}
		}
		return Transition{Status: Queued, Wait: p.backoff(v, claim.Ordinal-1), Reason: v.Reason}
	default:
		return Transition{Status: InDoubt, Reason: v.Reason}
	}
}

// exhausted returns why a message without another attempt fails. After an unknown
// outcome nobody can say that it was not sent.
func exhausted(claim Claim) Reason {
	if claim.UnknownOutcomes > 0 {
		return ReasonUnresolved
	}
	return ReasonAttemptsExhausted
}

// backoff doubles from initialBackoff with each earlier attempt, up to maxBackoff.
// It is never shorter than Plivo's Retry-After.
func (p RetryPolicy) backoff(v Verdict, earlierAttempts int) time.Duration {
	wait := maxBackoff
	if earlierAttempts < 16 { // the shift must not overflow
		wait = min(initialBackoff<<max(earlierAttempts, 0), maxBackoff)
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

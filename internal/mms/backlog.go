package mms

import "time"

// ClaimBlocker says why a queued message could not be claimed. If no field is set,
// sending is paused, other messages of the sender wait before it, or the reason has
// gone: the message joins the backlog.
type ClaimBlocker struct {
	Gone            bool          // it is no longer queued
	DueIn           time.Duration // time until it is due; 0 if it is
	Expired         bool          // ExpiresAt has passed
	Suppressed      bool          // the recipient has opted out
	NotPrepared     bool          // its media are not ready: it waits for the media preparer, or has to
	BatchNotRunning bool          // its batch is paused or canceled
	Released        bool          // it has left the backlog for the next arrival time of its sender
	RateLimited     time.Duration // time until its sender may send; 0 if it may
	Resting         bool          // its sender rests
	PairInFlight    bool          // another message between the same two numbers is being sent or in doubt
}

// MaxCounted bounds how many messages ahead of one in the backlog are counted,
// since the backlog may hold a hundred thousand.
const MaxCounted = 5_000

// QueuePosition is a message's position in its sender's backlog.
type QueuePosition struct {
	Ahead   int           // messages ahead of it; at most MaxCounted
	Wait    time.Duration // estimate; a lower bound if Ahead is MaxCounted, anything is paused or the sender rests
	Paused  bool          // all sending is paused
	Resting bool          // its sender rests
	Batch   BatchState    // of its batch; BatchRunning if it has none
}

// Pause is a pause of all sending. The zero value means that sending is not paused.
type Pause struct {
	Cause  Reason
	Detail string // Plivo's error text
	Since  time.Time
}

// Active reports whether sending is paused.
func (p Pause) Active() bool { return p.Cause != "" }

// OpenCounts count the messages that are not final and not known to be sent.
type OpenCounts struct {
	Messages  map[Status]int // by status: queued, sending, in doubt, and submitted unless closed without a report
	Waiting   int            // queued messages that wait for a rate limit or the end of a pause
	Preparing int            // queued messages whose media are being checked or handed to Plivo
	Held      int            // messages in doubt that wait for a person's decision
}

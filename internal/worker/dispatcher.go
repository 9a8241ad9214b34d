// Package worker sends messages: it claims a message, submits it to Plivo once,
// records the outcome, and returns what the queue should do with the task. It
// never repeats a call whose outcome is unknown, and it knows neither asynq nor
// HTTP nor SQL.
package worker

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/failpoint"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Store keeps messages and attempts. Claim reports false when the message
// cannot be claimed now; ClaimBlocker says why. The Record methods report false
// (RecordSubmitted: mms.AlreadyKnown) when the attempt's outcome was recorded
// before, by a delivery report for example. Park reports false when the
// message's batch is running. Prepare makes the message wait until its media are ready.
type Store interface {
	Claim(ctx context.Context, id uuid.UUID, token string, lease time.Duration) (mms.Claim, bool, error)
	ClaimBlocker(ctx context.Context, id uuid.UUID) (mms.ClaimBlocker, error)
	AddToBacklog(ctx context.Context, id uuid.UUID) error
	FailSuppressed(ctx context.Context, id uuid.UUID) error
	Park(ctx context.Context, id uuid.UUID) (bool, error)
	Prepare(ctx context.Context, id uuid.UUID) error
	ForgetPlivoMedia(ctx context.Context, id uuid.UUID) error
	RecordSubmitted(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.SubmitResult, error)
	RecordTransientFailure(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, t mms.Transition) (bool, error)
	RecordAccountError(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error)
	RecordPermanentFailure(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, reason mms.Reason) (bool, error)
	RecordInDoubt(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error)
}

// Plivo submits a message to Plivo with a single request.
type Plivo interface {
	Send(ctx context.Context, s mms.Submission) mms.Answer
}

// Dispatcher sends one message per call of Process. It is safe for concurrent
// use.
type Dispatcher struct {
	// Slots limits how many messages are between their claim and Plivo's
	// answer; its capacity is the limit. Recording an outcome needs no slot.
	Slots chan struct{}

	Store       Store
	Plivo       Plivo
	Policy      mms.RetryPolicy
	CallbackURL func(token string) string // returns "" when Plivo cannot reach the api
	SendTimeout time.Duration             // for one call to Plivo
	Heartbeats  *Heartbeats
	OnAttempt   func(v mms.Verdict, took time.Duration)
	OnDuplicate func() // called for each message that turns out to have been sent twice
	Logger      *slog.Logger
}

const (
	// recordTimeout limits how long an outcome is kept in memory while the
	// database is unavailable. Then the lease expires, if it has not yet, and
	// the message becomes in doubt.
	recordTimeout = 2 * time.Minute

	// storeRetryDelay postpones a task while the database is unavailable.
	storeRetryDelay = 2 * time.Second

	// pairRetryDelay postpones a task while another message between the same two
	// numbers is being sent or in doubt.
	pairRetryDelay = 2 * time.Second

	// parkRetryDelay postpones a task whose batch was resumed while its message
	// was being parked.
	parkRetryDelay = time.Second

	// maxRateLimitWait is the longest that a released message waits in the
	// worker for its sender's rate limit. Beyond it the message returns to the
	// backlog.
	maxRateLimitWait = time.Second
)

// Process makes one attempt to send the message if it is due, and returns what
// the queue should do with its task. After the claim Process ignores the
// cancellation of ctx: stopping during the call would leave the message in
// doubt.
func (d *Dispatcher) Process(ctx context.Context, id uuid.UUID) mms.TaskResult {
	failpoint.Hit(failpoint.WorkerDequeued)
	select {
	case d.Slots <- struct{}{}:
	case <-ctx.Done():
		return mms.TaskResult{Action: mms.TaskPostpone}
	}
	releaseSlot := sync.OnceFunc(func() { <-d.Slots })
	defer releaseSlot()
	token := rand.Text()
	lease := d.Heartbeats.begin(token)
	defer lease.end()
	claim, claimed, err := d.Store.Claim(ctx, id, token, attemptLeaseDuration)
	if err != nil {
		return d.postpone(ctx, id, err)
	}
	if !claimed {
		releaseSlot()
		return d.handleBlocked(ctx, id)
	}
	failpoint.Hit(failpoint.WorkerClaimed)
	ctx = context.WithoutCancel(ctx)
	verdict := d.send(ctx, claim, lease)
	releaseSlot()
	failpoint.Hit(failpoint.WorkerAnswered)
	transition := d.Policy.Next(verdict, claim)
	d.log(ctx, claim, verdict, transition)
	d.record(ctx, claim.AttemptRef, verdict, transition)
	failpoint.Hit(failpoint.WorkerRecorded)
	return taskResult(transition)
}

// handleBlocked decides what happens to a message that could not be claimed:
// its task may be stale or early, or the message has to wait.
func (d *Dispatcher) handleBlocked(ctx context.Context, id uuid.UUID) mms.TaskResult {
	blocker, err := d.Store.ClaimBlocker(ctx, id)
	switch {
	case err != nil:
		return d.postpone(ctx, id, err)
	case blocker.Gone:
		return mms.TaskResult{Action: mms.TaskDone}
	case blocker.Suppressed:
		if err := d.Store.FailSuppressed(ctx, id); err != nil {
			return d.postpone(ctx, id, err)
		}
		return mms.TaskResult{Action: mms.TaskFail, Reason: mms.ReasonOptedOut}
	case blocker.Expired: // the expirer fails the message
		return mms.TaskResult{Action: mms.TaskDone}
	case blocker.NotPrepared: // the media preparer gives it another task, or parks it
		if err := d.Store.Prepare(ctx, id); err != nil {
			return d.postpone(ctx, id, err)
		}
		return mms.TaskResult{Action: mms.TaskDone}
	case blocker.BatchNotRunning:
		return d.park(ctx, id)
	case blocker.DueIn > 0:
		return mms.TaskResult{Action: mms.TaskPostpone, Wait: blocker.DueIn}
	case blocker.PairInFlight:
		return mms.TaskResult{Action: mms.TaskPostpone, Wait: pairRetryDelay}
	case blocker.Released && !blocker.Resting && blocker.RateLimited < maxRateLimitWait:
		return d.awaitRateLimit(ctx, id, max(blocker.RateLimited, time.Millisecond))
	}
	if err := d.Store.AddToBacklog(ctx, id); err != nil {
		return d.postpone(ctx, id, err)
	}
	return mms.TaskResult{Action: mms.TaskDone}
}

// park parks a message whose batch is paused, or cancels it if the batch is
// canceled. If the batch has been resumed in the meantime, the task runs again.
func (d *Dispatcher) park(ctx context.Context, id uuid.UUID) mms.TaskResult {
	parked, err := d.Store.Park(ctx, id)
	switch {
	case err != nil:
		return d.postpone(ctx, id, err)
	case !parked:
		return mms.TaskResult{Action: mms.TaskPostpone, Wait: parkRetryDelay}
	}
	return mms.TaskResult{Action: mms.TaskDone}
}

// awaitRateLimit waits until the rate limit admits the message, and processes it
// again.
func (d *Dispatcher) awaitRateLimit(ctx context.Context, id uuid.UUID, wait time.Duration) mms.TaskResult {
	select {
	case <-time.After(wait):
		return d.Process(ctx, id)
	case <-ctx.Done():
		return mms.TaskResult{Action: mms.TaskPostpone}
	}
}

// postpone logs an error of the store and postpones the task.
func (d *Dispatcher) postpone(ctx context.Context, id uuid.UUID, err error) mms.TaskResult {
	d.Logger.ErrorContext(ctx, "message postponed", slog.Any("message_id", id), slog.Any("error", err))
	return mms.TaskResult{Action: mms.TaskPostpone, Wait: storeRetryDelay}
}

func (d *Dispatcher) send(ctx context.Context, claim mms.Claim, lease *lease) mms.Verdict {
	ctx, cancel := context.WithTimeout(ctx, d.SendTimeout)
	defer cancel()
	start := time.Now()
	answer := d.Plivo.Send(ctx, mms.Submission{
		Sender: claim.Sender, Recipient: claim.Recipient,
		Text: claim.Text, MediaURLs: claim.MediaURLs, MediaIDs: claim.MediaIDs,
		CallbackURL: d.CallbackURL(lease.token),
		MayWrite:    lease.valid,
	})
	verdict := mms.Judge(answer)
	d.OnAttempt(verdict, time.Since(start))
	return verdict
}

// record retries until the database has the outcome, for at most recordTimeout.
func (d *Dispatcher) record(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, t mms.Transition) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, storeRetryDelay) {
		recorded, err := d.recordOnce(ctx, ref, v, t)
		if err == nil {
			if !recorded {
				d.Logger.InfoContext(ctx, "attempt was already resolved", ref.LogAttr())
			}
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			// Log the UUID: this is its only copy.
			d.Logger.ErrorContext(ctx, "could not record an attempt's outcome; the message will be in doubt",
				ref.LogAttr(), slog.String("outcome", string(v.Outcome)), slog.String("plivo_uuid", v.PlivoUUID), slog.Any("error", err))
			return
		}
	}
}

func (d *Dispatcher) recordOnce(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, t mms.Transition) (bool, error) {
	switch t.Status {
	case mms.Submitted:
		result, err := d.Store.RecordSubmitted(ctx, ref, v, mms.EventSubmitted)
		if result == mms.Duplicate {
			d.OnDuplicate()
		}
		return result != mms.AlreadyKnown, err
	case mms.Queued:
		if t.PausesSending {
			return d.Store.RecordAccountError(ctx, ref, v)
		}
		if t.Reason == mms.ReasonPlivoMediaUnknown {
			if err := d.Store.ForgetPlivoMedia(ctx, ref.MessageID); err != nil {
				return false, err
			}
		}
		return d.Store.RecordTransientFailure(ctx, ref, v, t)
	case mms.Failed:
		return d.Store.RecordPermanentFailure(ctx, ref, v, t.Reason)
	default:
		return d.Store.RecordInDoubt(ctx, ref, v)
	}
}

func taskResult(t mms.Transition) mms.TaskResult {
	switch {
	case t.Status == mms.Submitted || t.PausesSending:
		return mms.TaskResult{Action: mms.TaskDone}
	case t.Status == mms.Queued:
		return mms.TaskResult{Action: mms.TaskRetry, Wait: t.Wait, Reason: t.Reason}
	default:
		return mms.TaskResult{Action: mms.TaskFail, Reason: t.Reason}
	}
}

// log logs how an attempt ended: as an error when an operator has to act, as a
// warning when the outcome is unknown.
func (d *Dispatcher) log(ctx context.Context, claim mms.Claim, v mms.Verdict, t mms.Transition) {
	level, text := slog.LevelInfo, "attempt finished"
	switch v.Outcome {
	case mms.AccountError:
		level, text = slog.LevelError, "the Plivo account cannot send; messages stay queued until an operator fixes it"
	case mms.Unknown:
		level = slog.LevelWarn
	}
	d.Logger.Log(ctx, level, text, claim.LogAttr(),
		slog.String("outcome", string(v.Outcome)), slog.String("reason", string(v.Reason)),
		slog.Int("http_status", v.HTTPStatus), slog.String("status", string(t.Status)), slog.Any("recipient", claim.Recipient))
}

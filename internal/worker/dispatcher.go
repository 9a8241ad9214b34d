// Package worker sends messages: it claims one, hands it to Plivo, records
// what came of it and decides what is next. Beside that its caretakers see to
// messages that have lost their task or their worker. It speaks neither asynq
// nor HTTP nor SQL.
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

// Store keeps messages and attempts. Of Requeue, Pause, Fail and Doubt, false
// means that the attempt was settled by somebody else meanwhile.
type Store interface {
	Claim(ctx context.Context, id uuid.UUID, token string, lease time.Duration) (mms.Claim, bool, error)
	ClaimBlocker(ctx context.Context, id uuid.UUID) (mms.ClaimBlocker, error)
	AddToBacklog(ctx context.Context, id uuid.UUID) error
	FailSuppressed(ctx context.Context, id uuid.UUID) error
	Park(ctx context.Context, id uuid.UUID) (bool, error)
	RecordSubmitted(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.SubmitResult, error)
	RecordTransientFailure(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, step mms.Transition) (bool, error)
	RecordAccountError(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error)
	RecordPermanentFailure(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, reason mms.Reason) (bool, error)
	RecordInDoubt(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error)
}

// Plivo hands a message to Plivo, once.
type Plivo interface {
	Send(ctx context.Context, s mms.Submission) mms.Answer
}

// Dispatcher works on one message at a time per call.
type Dispatcher struct {
	// Places bounds how many messages are on their way to Plivo: from the claim to the
	// answer. While an outcome is being recorded, another message may go.
	Slots chan struct{}

	Store       Store
	Plivo       Plivo
	Policy      mms.RetryPolicy
	CallbackURL func(token string) string // "" where Plivo cannot reach us
	SendTimeout time.Duration             // for one call to Plivo
	Heartbeats  *Heartbeats
	OnAttempt   func(v mms.Verdict, took time.Duration)
	OnDuplicate func() // called for each message that is found to have been sent twice
	Logger      *slog.Logger
}

const (
	// recordTimeout bounds how long an outcome is held in memory while the
	// database is away. After that the lease has lapsed and the message is in
	// doubt, which is the truth.
	recordTimeout = 2 * time.Minute

	// storeRetryDelay is how long a task is put off when the database is away.
	storeRetryDelay = 2 * time.Second

	// pairRetryDelay is how long a task is put off while another message between the
	// same two numbers is under way or in doubt.
	pairRetryDelay = 2 * time.Second

	// maxRateLimitWait is the longest that a message released from the line waits here
	// for its gate to open.
	maxRateLimitWait = time.Second
)

// Process looks at one message and, if it is due, makes one attempt. Once the
// message is claimed it goes on to the end even when ctx is canceled: breaking
// off in the middle of a call would leave the message in doubt.
func (s *Dispatcher) Process(ctx context.Context, id uuid.UUID) mms.TaskResult {
	failpoint.Hit(failpoint.WorkerDequeued)
	select {
	case s.Slots <- struct{}{}:
	case <-ctx.Done():
		return mms.TaskResult{Action: mms.TaskPostpone}
	}
	leave := sync.OnceFunc(func() { <-s.Slots })
	defer leave()
	token := rand.Text() + rand.Text()
	lease := s.Heartbeats.begin(token)
	defer lease.end()
	claim, claimed, err := s.Store.Claim(ctx, id, token, leaseDuration)
	if err != nil {
		return s.postpone(ctx, id, err)
	}
	if !claimed {
		leave()
		return s.handleBlocked(ctx, id)
	}
	failpoint.Hit(failpoint.WorkerClaimed)
	ctx = context.WithoutCancel(ctx)
	verdict := s.send(ctx, claim, lease)
	leave()
	failpoint.Hit(failpoint.WorkerAnswered)
	step := s.Policy.Next(verdict, claim)
	s.log(ctx, claim, verdict, step)
	s.record(ctx, claim.AttemptRef, verdict, step)
	failpoint.Hit(failpoint.WorkerRecorded)
	return taskResult(step)
}

// handleBlocked tells apart why a message could not be claimed: the task is stale
// or double, it came too early, or the message has to wait for others.
func (s *Dispatcher) handleBlocked(ctx context.Context, id uuid.UUID) mms.TaskResult {
	o, err := s.Store.ClaimBlocker(ctx, id)
	switch {
	case err != nil:
		return s.postpone(ctx, id, err)
	case o.Gone:
		return mms.TaskResult{Action: mms.TaskDone}
	case o.Suppressed:
		if err := s.Store.FailSuppressed(ctx, id); err != nil {
			return s.postpone(ctx, id, err)
		}
		return mms.TaskResult{Action: mms.TaskFail, Reason: mms.ReasonOptedOut}
	case o.Expired: // the expirer fails it
		return mms.TaskResult{Action: mms.TaskDone}
	case o.Parked:
		return s.park(ctx, id)
	case o.DueIn > 0:
		return mms.TaskResult{Action: mms.TaskPostpone, Wait: o.DueIn}
	case o.PairInFlight:
		return mms.TaskResult{Action: mms.TaskPostpone, Wait: pairRetryDelay}
	case o.Released && o.RateLimited < maxRateLimitWait:
		return s.awaitRateLimit(ctx, id, max(o.RateLimited, time.Millisecond))
	}
	if err := s.Store.AddToBacklog(ctx, id); err != nil {
		return s.postpone(ctx, id, err)
	}
	return mms.TaskResult{Action: mms.TaskDone}
}

// park lets go of a message whose batch does not run. Where the batch went on
// at that moment, the task comes back.
func (s *Dispatcher) park(ctx context.Context, id uuid.UUID) mms.TaskResult {
	done, err := s.Store.Park(ctx, id)
	switch {
	case err != nil:
		return s.postpone(ctx, id, err)
	case !done:
		return mms.TaskResult{Action: mms.TaskPostpone, Wait: time.Second}
	}
	return mms.TaskResult{Action: mms.TaskDone}
}

// awaitRateLimit waits for the moment it takes until the gate opens, and tries again.
func (s *Dispatcher) awaitRateLimit(ctx context.Context, id uuid.UUID, wait time.Duration) mms.TaskResult {
	select {
	case <-time.After(wait):
		return s.Process(ctx, id)
	case <-ctx.Done():
		return mms.TaskResult{Action: mms.TaskPostpone}
	}
}

func (s *Dispatcher) postpone(ctx context.Context, id uuid.UUID, err error) mms.TaskResult {
	s.Logger.ErrorContext(ctx, "message put off", slog.Any("message_id", id), slog.Any("error", err))
	return mms.TaskResult{Action: mms.TaskPostpone, Wait: storeRetryDelay}
}

func (s *Dispatcher) send(ctx context.Context, claim mms.Claim, lease *lease) mms.Verdict {
	ctx, cancel := context.WithTimeout(ctx, s.SendTimeout)
	defer cancel()
	begun := time.Now()
	answer := s.Plivo.Send(ctx, mms.Submission{
		Sender: claim.Sender, Recipient: claim.Recipient,
		Text: claim.Text, MediaURLs: claim.MediaURLs,
		CallbackURL: s.CallbackURL(lease.token),
		MayWrite:    lease.holds,
	})
	verdict := mms.Judge(answer)
	s.OnAttempt(verdict, time.Since(begun))
	return verdict
}

// record holds on to the outcome until the database has it.
func (s *Dispatcher) record(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, step mms.Transition) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, storeRetryDelay) {
		recorded, err := s.transition(ctx, ref, v, step)
		if err == nil {
			if !recorded {
				s.Logger.InfoContext(ctx, "attempt was settled already", ref.LogAttr())
			}
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			// The UUID is evidence that exists nowhere else by now.
			s.Logger.ErrorContext(ctx, "outcome of an attempt not recorded; the message will be in doubt",
				ref.LogAttr(), slog.String("outcome", string(v.Outcome)), slog.String("plivo_uuid", v.PlivoUUID), slog.Any("error", err))
			return
		}
	}
}

func (s *Dispatcher) transition(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, step mms.Transition) (bool, error) {
	switch step.Status {
	case mms.Submitted:
		got, err := s.Store.RecordSubmitted(ctx, ref, v, mms.EventSubmitted)
		if got == mms.Duplicate {
			s.OnDuplicate()
		}
		return got != mms.AlreadyKnown, err
	case mms.Queued:
		if step.Paused {
			return s.Store.RecordAccountError(ctx, ref, v)
		}
		return s.Store.RecordTransientFailure(ctx, ref, v, step)
	case mms.Failed:
		return s.Store.RecordPermanentFailure(ctx, ref, v, step.Reason)
	default:
		return s.Store.RecordInDoubt(ctx, ref, v)
	}
}

func taskResult(step mms.Transition) mms.TaskResult {
	switch {
	case step.Status == mms.Submitted || step.Paused:
		return mms.TaskResult{Action: mms.TaskDone}
	case step.Status == mms.Queued:
		return mms.TaskResult{Action: mms.TaskRetry, Wait: step.Wait, Reason: step.Reason}
	default:
		return mms.TaskResult{Action: mms.TaskFail, Reason: step.Reason}
	}
}

// log says what came of an attempt, louder the more somebody has to do.
func (s *Dispatcher) log(ctx context.Context, claim mms.Claim, v mms.Verdict, step mms.Transition) {
	level, message := slog.LevelInfo, "attempt finished"
	switch v.Outcome {
	case mms.AccountError:
		level, message = slog.LevelError, "the Plivo account cannot send: messages stay queued until an operator mends it"
	case mms.Unknown:
		level = slog.LevelWarn
	}
	s.Logger.Log(ctx, level, message, claim.LogAttr(),
		slog.String("outcome", string(v.Outcome)), slog.String("reason", string(v.Reason)),
		slog.Int("http_status", v.HTTPStatus), slog.String("status", string(step.Status)), slog.Any("recipient", claim.Recipient))
}

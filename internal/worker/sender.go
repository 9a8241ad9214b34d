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

	"postcard/internal/failpoint"
	"postcard/internal/mms"
)

// Store keeps messages and attempts. Of Requeue, Pause, Fail and Doubt, false
// means that the attempt was settled by somebody else meanwhile.
type Store interface {
	Claim(ctx context.Context, id uuid.UUID, token string, lease time.Duration) (mms.Claim, bool, error)
	Obstacle(ctx context.Context, id uuid.UUID) (mms.Obstacle, error)
	StandInLine(ctx context.Context, id uuid.UUID) error
	Expire(ctx context.Context, limit int) (int, error)
	FailSuppressed(ctx context.Context, id uuid.UUID) error
	SetAside(ctx context.Context, id uuid.UUID) (bool, error)
	Accepted(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.Acceptance, error)
	Requeue(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, step mms.Step) (bool, error)
	Pause(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error)
	Fail(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, reason mms.Reason) (bool, error)
	Doubt(ctx context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error)
}

// Plivo hands a message to Plivo, once.
type Plivo interface {
	Send(ctx context.Context, s mms.Submission) mms.Verdict
}

// Sender works on one message at a time per call.
type Sender struct {
	// Places bounds how many messages are on their way to Plivo: from the claim to the
	// answer. While an outcome is being recorded, another message may go.
	Places chan struct{}

	Store       Store
	Plivo       Plivo
	Policy      mms.RetryPolicy
	CallbackURL func(token string) string // "" where Plivo cannot reach us
	SendTimeout time.Duration             // for one call to Plivo
	Leases      *Leases
	Observe     func(v mms.Verdict, took time.Duration)
	Duplicates  func() // called for each message that is found to have been sent twice
	Logger      *slog.Logger
}

const (
	// recordPatience bounds how long an outcome is held in memory while the
	// database is away. After that the lease has lapsed and the message is in
	// doubt, which is the truth.
	recordPatience = 2 * time.Minute

	// storeWait is how long a task is put off when the database is away.
	storeWait = 2 * time.Second

	// pairWait is how long a task is put off while another message between the
	// same two numbers is under way or in doubt.
	pairWait = 2 * time.Second

	// gateWait is the longest that a message released from the line waits here
	// for its gate to open.
	gateWait = time.Second
)

// Process looks at one message and, if it is due, makes one attempt. Once the
// message is claimed it goes on to the end even when ctx is canceled: breaking
// off in the middle of a call would leave the message in doubt.
func (s *Sender) Process(ctx context.Context, id uuid.UUID) mms.Disposal {
	failpoint.Hit(failpoint.WorkerDequeued)
	select {
	case s.Places <- struct{}{}:
	case <-ctx.Done():
		return mms.Disposal{Kind: mms.TaskPutOff}
	}
	leave := sync.OnceFunc(func() { <-s.Places })
	defer leave()
	token := rand.Text() + rand.Text()
	lease := s.Leases.begin(token)
	defer lease.end()
	claim, claimed, err := s.Store.Claim(ctx, id, token, leaseLength)
	if err != nil {
		return s.putOff(ctx, id, err)
	}
	if !claimed {
		leave()
		return s.unclaimed(ctx, id)
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
	return disposal(step)
}

// unclaimed tells apart why a message could not be claimed: the task is stale
// or double, it came too early, or the message has to wait for others.
func (s *Sender) unclaimed(ctx context.Context, id uuid.UUID) mms.Disposal {
	o, err := s.Store.Obstacle(ctx, id)
	switch {
	case err != nil:
		return s.putOff(ctx, id, err)
	case o.Gone:
		return mms.Disposal{Kind: mms.TaskDone}
	case o.Suppressed:
		if err := s.Store.FailSuppressed(ctx, id); err != nil {
			return s.putOff(ctx, id, err)
		}
		return mms.Disposal{Kind: mms.TaskDead, Reason: mms.ReasonOptedOut}
	case o.Expired:
		if _, err := s.Store.Expire(ctx, batch); err != nil {
			return s.putOff(ctx, id, err)
		}
		return mms.Disposal{Kind: mms.TaskDead, Reason: mms.ReasonExpired}
	case o.SetAside:
		return s.setAside(ctx, id)
	case o.NotDue > 0:
		return mms.Disposal{Kind: mms.TaskPutOff, Wait: o.NotDue}
	case o.PairBusy:
		return mms.Disposal{Kind: mms.TaskPutOff, Wait: pairWait}
	case o.Released && o.Gate < gateWait:
		return s.awaitGate(ctx, id, max(o.Gate, time.Millisecond))
	}
	if err := s.Store.StandInLine(ctx, id); err != nil {
		return s.putOff(ctx, id, err)
	}
	return mms.Disposal{Kind: mms.TaskDone}
}

// setAside lets go of a message whose batch does not run. Where the batch went on
// at that moment, the task comes back.
func (s *Sender) setAside(ctx context.Context, id uuid.UUID) mms.Disposal {
	done, err := s.Store.SetAside(ctx, id)
	switch {
	case err != nil:
		return s.putOff(ctx, id, err)
	case !done:
		return mms.Disposal{Kind: mms.TaskPutOff, Wait: time.Second}
	}
	return mms.Disposal{Kind: mms.TaskDone}
}

// awaitGate waits for the moment it takes until the gate opens, and tries again.
func (s *Sender) awaitGate(ctx context.Context, id uuid.UUID, wait time.Duration) mms.Disposal {
	select {
	case <-time.After(wait):
		return s.Process(ctx, id)
	case <-ctx.Done():
		return mms.Disposal{Kind: mms.TaskPutOff}
	}
}

func (s *Sender) putOff(ctx context.Context, id uuid.UUID, err error) mms.Disposal {
	s.Logger.ErrorContext(ctx, "message put off", slog.Any("message_id", id), slog.Any("error", err))
	return mms.Disposal{Kind: mms.TaskPutOff, Wait: storeWait}
}

func (s *Sender) send(ctx context.Context, claim mms.Claim, lease *lease) mms.Verdict {
	ctx, cancel := context.WithTimeout(ctx, s.SendTimeout)
	defer cancel()
	begun := time.Now()
	verdict := s.Plivo.Send(ctx, mms.Submission{
		Sender: claim.Sender, Recipient: claim.Recipient,
		Text: claim.Text, MediaURLs: claim.MediaURLs,
		CallbackURL: s.CallbackURL(lease.token),
		MayWrite:    lease.holds,
	})
	s.Observe(verdict, time.Since(begun))
	return verdict
}

// record holds on to the outcome until the database has it.
func (s *Sender) record(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, step mms.Step) {
	ctx, cancel := context.WithTimeout(ctx, recordPatience)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, storeWait) {
		recorded, err := s.transition(ctx, ref, v, step)
		if err == nil {
			if !recorded {
				s.Logger.InfoContext(ctx, "attempt was settled already", attemptAttrs(ref))
			}
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			// The UUID is evidence that exists nowhere else by now.
			s.Logger.ErrorContext(ctx, "outcome of an attempt not recorded; the message will be in doubt",
				attemptAttrs(ref), slog.String("outcome", string(v.Outcome)), slog.String("plivo_uuid", v.PlivoUUID), slog.Any("error", err))
			return
		}
	}
}

func (s *Sender) transition(ctx context.Context, ref mms.AttemptRef, v mms.Verdict, step mms.Step) (bool, error) {
	switch step.Status {
	case mms.Submitted:
		got, err := s.Store.Accepted(ctx, ref, v, mms.EventSubmitted)
		if got == mms.Duplicate {
			s.Duplicates()
		}
		return got != mms.NothingNew, err
	case mms.Queued:
		if step.Paused {
			return s.Store.Pause(ctx, ref, v)
		}
		return s.Store.Requeue(ctx, ref, v, step)
	case mms.Failed:
		return s.Store.Fail(ctx, ref, v, step.Reason)
	default:
		return s.Store.Doubt(ctx, ref, v)
	}
}

func disposal(step mms.Step) mms.Disposal {
	switch {
	case step.Status == mms.Submitted || step.Paused:
		return mms.Disposal{Kind: mms.TaskDone}
	case step.Status == mms.Queued:
		return mms.Disposal{Kind: mms.TaskRetry, Wait: step.Wait, Reason: step.Reason}
	default:
		return mms.Disposal{Kind: mms.TaskDead, Reason: step.Reason}
	}
}

// log says what came of an attempt, louder the more somebody has to do.
func (s *Sender) log(ctx context.Context, claim mms.Claim, v mms.Verdict, step mms.Step) {
	level, message := slog.LevelInfo, "attempt finished"
	switch v.Outcome {
	case mms.AccountTrouble:
		level, message = slog.LevelError, "the Plivo account cannot send: messages stay queued until an operator mends it"
	case mms.Unknown:
		level = slog.LevelWarn
	}
	s.Logger.Log(ctx, level, message, attemptAttrs(claim.AttemptRef),
		slog.String("outcome", string(v.Outcome)), slog.String("reason", string(v.Reason)),
		slog.Int("http_status", v.HTTPStatus), slog.String("status", string(step.Status)), slog.Any("recipient", claim.Recipient))
}

// attemptAttrs come out as message_id and attempt, side by side with the rest.
func attemptAttrs(ref mms.AttemptRef) slog.Attr {
	return slog.Group("", slog.Any("message_id", ref.MessageID), slog.Int("attempt", ref.Number))
}

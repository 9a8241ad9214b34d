package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

var (
	messageID      = uuid.UUID{15: 7}
	attempt        = mms.AttemptRef{MessageID: messageID, Ordinal: 3}
	errStoreDown   = errors.New("the database is down")
	submittedCalls = []string{"claim", "submitted 3 u"}
)

// fakeStore is a Store and a HeartbeatStore with one message. It records its
// calls as text.
type fakeStore struct {
	claimErr          error
	blocked           int              // claims that fail before one succeeds
	blocker           mms.ClaimBlocker // of the claims that fail
	transientFailures int              // of the message, before this attempt
	recordErrors      int              // calls of Record methods that fail before one succeeds
	resolved          bool             // the attempt's outcome was recorded before
	duplicate         bool             // another attempt's message is at Plivo already
	renewErr          error
	prepareErr        error
	forgetErrors      int  // calls of ForgetPlivoMedia that fail before one succeeds
	resumed           bool // the batch was resumed before the message is parked

	mu    sync.Mutex // guards blocked, recordErrors and calls
	calls []string
}

func (s *fakeStore) addCall(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

// decrement reports whether *n was positive, and decrements it.
func (s *fakeStore) decrement(n *int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n--
	return *n >= 0
}

func (s *fakeStore) Claim(_ context.Context, id uuid.UUID, _ string, lease time.Duration) (mms.Claim, bool, error) {
	if id != messageID || lease != attemptLeaseDuration {
		return mms.Claim{}, false, fmt.Errorf("Claim(%v, %v): unexpected arguments", id, lease)
	}
	if s.claimErr != nil {
		return mms.Claim{}, false, s.claimErr
	}
	if s.decrement(&s.blocked) {
		return mms.Claim{}, false, nil
	}
	s.addCall("claim")
	return mms.Claim{
		AttemptRef: attempt, Sender: "+14155550100", Recipient: "+14155550123",
		Text: "Hi", MediaURLs: []string{"https://example.com/a.jpg"}, MediaIDs: []string{"m-1"}, TransientFailures: s.transientFailures,
	}, true, nil
}

func (s *fakeStore) ClaimBlocker(context.Context, uuid.UUID) (mms.ClaimBlocker, error) {
	return s.blocker, nil
}

func (s *fakeStore) AddToBacklog(context.Context, uuid.UUID) error {
	s.addCall("add to backlog")
	return nil
}

func (s *fakeStore) FailSuppressed(context.Context, uuid.UUID) error {
	s.addCall("fail suppressed")
	return nil
}

func (s *fakeStore) Park(context.Context, uuid.UUID) (bool, error) {
	s.addCall("park")
	return !s.resumed, nil
}

func (s *fakeStore) Prepare(context.Context, uuid.UUID) error {
	s.addCall("prepare")
	return s.prepareErr
}

func (s *fakeStore) ForgetPlivoMedia(context.Context, uuid.UUID) error {
	if s.decrement(&s.forgetErrors) {
		return errStoreDown
	}
	s.addCall("forget Plivo media")
	return nil
}

func (s *fakeStore) record(format string, args ...any) (bool, error) {
	if s.decrement(&s.recordErrors) {
		return false, errStoreDown
	}
	s.addCall(format, args...)
	return !s.resolved, nil
}

func (s *fakeStore) RecordSubmitted(_ context.Context, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.SubmitResult, error) {
	if s.duplicate {
		return mms.Duplicate, nil
	}
	recorded, err := s.record("%s %d %s", kind, ref.Ordinal, v.PlivoUUID)
	if recorded {
		return mms.Adopted, err
	}
	return mms.AlreadyKnown, err
}

func (s *fakeStore) RecordTransientFailure(_ context.Context, ref mms.AttemptRef, _ mms.Verdict, t mms.Transition) (bool, error) {
	return s.record("transient failure %d %s, wait %s", ref.Ordinal, t.Reason, t.Wait)
}

func (s *fakeStore) RecordAccountError(_ context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.record("account error %d %s", ref.Ordinal, v.Reason)
}

func (s *fakeStore) RecordPermanentFailure(_ context.Context, ref mms.AttemptRef, _ mms.Verdict, reason mms.Reason) (bool, error) {
	return s.record("permanent failure %d %s", ref.Ordinal, reason)
}

func (s *fakeStore) RecordInDoubt(_ context.Context, ref mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.record("in doubt %d %s", ref.Ordinal, v.Reason)
}

func (s *fakeStore) RenewLeases(_ context.Context, tokens []string, length time.Duration) ([]string, error) {
	s.addCall("renew %d for %s", len(tokens), length)
	if s.renewErr != nil {
		return nil, s.renewErr
	}
	return tokens, nil
}

// fakePlivo is the Plivo of a test, as a function.
type fakePlivo func(ctx context.Context, s mms.Submission) mms.Answer

func (f fakePlivo) Send(ctx context.Context, s mms.Submission) mms.Answer { return f(ctx, s) }

func accepted(plivoUUID string) mms.Answer {
	return mms.Answer{Written: true, Status: 202, UUIDs: []string{plivoUUID}}
}

func answerWith(answer mms.Answer) fakePlivo {
	return func(context.Context, mms.Submission) mms.Answer { return answer }
}

// rejectCalls returns a Plivo that fails the test when it is called.
func rejectCalls(t *testing.T) fakePlivo {
	return func(context.Context, mms.Submission) mms.Answer {
		t.Error("Plivo was called")
		return mms.Answer{Written: true}
	}
}

// newDispatcher returns a dispatcher with one slot and three attempts.
func newDispatcher(store *fakeStore, plivo fakePlivo) *Dispatcher {
	return &Dispatcher{
		Slots:       make(chan struct{}, 1),
		Store:       store,
		Plivo:       plivo,
		Policy:      mms.RetryPolicy{MaxAttempts: 3, Jitter: func() float64 { return 0 }},
		CallbackURL: func(token string) string { return "https://postcard.example/" + token },
		SendTimeout: 30 * time.Second,
		Heartbeats:  NewHeartbeats(store),
		OnAttempt:   func(mms.Verdict, time.Duration) {},
		OnDuplicate: func() { store.addCall("duplicate") },
		Logger:      slog.New(slog.DiscardHandler),
	}
}

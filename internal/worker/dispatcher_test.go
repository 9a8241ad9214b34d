package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

var (
	message = uuid.UUID{15: 7}
	ref     = mms.AttemptRef{MessageID: message, Ordinal: 3}
	errDown = errors.New("the database is down")
)

// store plays the database: it notes what is asked of it in words.
type store struct {
	claims     []error // what the claims return, one after the other; nil: claimed
	unclaimed  int     // how many claims find an obstacle before that
	obstacle   mms.ClaimBlocker
	refusals   int
	failures   int  // how many records fail
	late       bool // the attempt was settled by somebody else
	renewFails bool
	duplicate  bool // the message turns out to be at Plivo already

	mu    sync.Mutex // of unclaimed, failures and calls
	calls []string
}

func (s *store) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

// takes reports whether one was left, and takes it.
func (s *store) takes(left *int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	*left--
	return *left >= 0
}

func (s *store) Claim(_ context.Context, id uuid.UUID, _ string, lease time.Duration) (mms.Claim, bool, error) {
	if id != message || lease != leaseDuration {
		return mms.Claim{}, false, fmt.Errorf("Claim(%v, %v)", id, lease)
	}
	if len(s.claims) > 0 {
		return mms.Claim{}, false, s.claims[0]
	}
	if s.takes(&s.unclaimed) {
		return mms.Claim{}, false, nil
	}
	s.note("claim")
	return mms.Claim{
		AttemptRef: ref, Sender: "+14155550100", Recipient: "+14155550123",
		Text: "Hi", MediaURLs: []string{"https://example.com/a.jpg"}, TransientFailures: s.refusals,
	}, true, nil
}

func (s *store) ClaimBlocker(context.Context, uuid.UUID) (mms.ClaimBlocker, error) {
	return s.obstacle, nil
}

func (s *store) AddToBacklog(context.Context, uuid.UUID) error {
	s.note("stand in line")
	return nil
}

func (s *store) FailSuppressed(context.Context, uuid.UUID) error {
	s.note("fail suppressed")
	return nil
}

func (s *store) Park(context.Context, uuid.UUID) (bool, error) {
	s.note("set aside")
	return !s.late, nil
}

func (s *store) record(format string, args ...any) (bool, error) {
	if s.takes(&s.failures) {
		return false, errDown
	}
	s.note(format, args...)
	return !s.late, nil
}

func (s *store) RecordSubmitted(_ context.Context, r mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.SubmitResult, error) {
	if s.duplicate {
		return mms.Duplicate, nil
	}
	recorded, err := s.record("%s %d %s", kind, r.Ordinal, v.PlivoUUID)
	if recorded {
		return mms.Adopted, err
	}
	return mms.AlreadyKnown, err
}

func (s *store) RecordTransientFailure(_ context.Context, r mms.AttemptRef, _ mms.Verdict, step mms.Transition) (bool, error) {
	return s.record("requeue %d %s %s", r.Ordinal, step.Reason, step.Wait)
}

func (s *store) RecordAccountError(_ context.Context, r mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.record("pause %d %s", r.Ordinal, v.Reason)
}

func (s *store) RecordPermanentFailure(_ context.Context, r mms.AttemptRef, _ mms.Verdict, reason mms.Reason) (bool, error) {
	return s.record("fail %d %s", r.Ordinal, reason)
}

func (s *store) RecordInDoubt(_ context.Context, r mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.record("doubt %d %s", r.Ordinal, v.Reason)
}

func (s *store) RenewLeases(_ context.Context, tokens []string, length time.Duration) ([]string, error) {
	s.note("renew %d for %s", len(tokens), length)
	if s.renewFails {
		return nil, errDown
	}
	return tokens, nil
}

// accepted is Plivo's answer to a message that it takes.
func accepted(uuid string) mms.Answer {
	return mms.Answer{Written: true, Status: 202, UUIDs: []string{uuid}}
}

// wire plays Plivo.
type wire func(ctx context.Context, s mms.Submission) mms.Answer

func (w wire) Send(ctx context.Context, s mms.Submission) mms.Answer { return w(ctx, s) }

func answers(a mms.Answer) wire {
	return func(context.Context, mms.Submission) mms.Answer { return a }
}

func newSender(s *store, w wire) *Dispatcher {
	return &Dispatcher{
		Slots: make(chan struct{}, 1),
		Store: s, Plivo: w, Policy: mms.RetryPolicy{MaxAttempts: 3, Jitter: func() float64 { return 0 }},
		CallbackURL: func(token string) string { return "https://postcard.example/" + token },
		SendTimeout: 30 * time.Second, Heartbeats: NewHeartbeats(s),
		OnAttempt: func(mms.Verdict, time.Duration) {}, OnDuplicate: func() { s.note("duplicate") }, Logger: slog.New(slog.DiscardHandler),
	}
}

func TestWhatBecomesOfAnAttempt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer   mms.Answer
		refusals int
		recorded string
		want     mms.TaskResult
	}{
		"accepted":        {accepted("u"), 0, "submitted 3 u", mms.TaskResult{}},
		"refused":         {mms.Answer{Status: 400}, 0, "fail 3 rejected_by_plivo", mms.TaskResult{Action: mms.TaskFail, Reason: mms.ReasonRejected}},
		"refused for now": {mms.Answer{Status: 429}, 1, "requeue 3 rate_limited 8s", mms.TaskResult{Action: mms.TaskRetry, Wait: 8 * time.Second, Reason: mms.ReasonRateLimited}},
		"once too often":  {mms.Answer{Status: 429}, 2, "fail 3 attempts_exhausted", mms.TaskResult{Action: mms.TaskFail, Reason: mms.ReasonAttemptsExhausted}},
		"account trouble": {mms.Answer{Status: 402}, 2, "pause 3 plivo_credit", mms.TaskResult{}},
		"unknown":         {mms.Answer{Written: true}, 0, "doubt 3 no_response", mms.TaskResult{Action: mms.TaskFail, Reason: mms.ReasonNoResponse}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &store{refusals: tt.refusals}
			got := newSender(s, answers(tt.answer)).Process(t.Context(), message)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("disposal (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"claim", tt.recorded}, s.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAMessageThatCannotBeClaimed(t *testing.T) {
	t.Parallel()
	done, putOff := mms.TaskResult{}, func(wait time.Duration) mms.TaskResult { return mms.TaskResult{Action: mms.TaskPostpone, Wait: wait} }
	tests := map[string]struct {
		obstacle mms.ClaimBlocker
		want     mms.TaskResult
		calls    []string
	}{
		"gone":                       {mms.ClaimBlocker{Gone: true}, done, nil},
		"opted out":                  {mms.ClaimBlocker{Suppressed: true}, mms.TaskResult{Action: mms.TaskFail, Reason: mms.ReasonOptedOut}, []string{"fail suppressed"}},
		"too late":                   {mms.ClaimBlocker{Expired: true, DueIn: time.Second}, done, nil},
		"too early":                  {mms.ClaimBlocker{DueIn: time.Minute}, putOff(time.Minute), nil},
		"pair busy":                  {mms.ClaimBlocker{PairInFlight: true}, putOff(pairRetryDelay), nil},
		"gate closed":                {mms.ClaimBlocker{RateLimited: time.Millisecond}, done, []string{"stand in line"}},
		"released and far too early": {mms.ClaimBlocker{Released: true, RateLimited: maxRateLimitWait}, done, []string{"stand in line"}},
		"paused, or others wait":     {mms.ClaimBlocker{}, done, []string{"stand in line"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &store{unclaimed: 1, obstacle: tt.obstacle}
			got := newSender(s, sendsNothing(t)).Process(t.Context(), message)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("disposal (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.calls, s.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

func sendsNothing(t *testing.T) wire {
	return func(context.Context, mms.Submission) mms.Answer {
		t.Error("Plivo was called")
		return mms.Answer{Written: true}
	}
}

// TestAClaimThatFailedIsNotSent has a database that may or may not have taken
// the claim: its answer was lost.
func TestAClaimThatFailedIsNotSent(t *testing.T) {
	t.Parallel()
	got := newSender(&store{claims: []error{errDown}}, sendsNothing(t)).Process(t.Context(), message)
	if want := (mms.TaskResult{Action: mms.TaskPostpone, Wait: storeRetryDelay}); got != want {
		t.Errorf("Process() = %+v, want %+v", got, want)
	}
}

func TestAReleasedMessageWaitsForItsGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{unclaimed: 2, obstacle: mms.ClaimBlocker{Released: true, RateLimited: 300 * time.Millisecond}}
		begun := time.Now()
		newSender(s, answers(accepted("u"))).Process(t.Context(), message)
		if diff := cmp.Diff([]string{"claim", "submitted 3 u"}, s.calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		if waited := time.Since(begun); waited != 600*time.Millisecond {
			t.Errorf("waited %v, want two times 300 ms", waited)
		}
	})
}

func TestAStoppingWorkerDoesNotWaitForAGate(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &store{unclaimed: 1, obstacle: mms.ClaimBlocker{Released: true, RateLimited: maxRateLimitWait - 1}}
	if got := newSender(s, sendsNothing(t)).Process(ctx, message); got.Action != mms.TaskPostpone {
		t.Errorf("Process() = %+v, want it put off", got)
	}
}

func TestAStoppingWorkerFinishesItsCall(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := &store{}
	sender := newSender(s, func(callCtx context.Context, _ mms.Submission) mms.Answer {
		cancel()
		if callCtx.Err() != nil {
			t.Error("the call was canceled with the worker")
		}
		if _, bounded := callCtx.Deadline(); !bounded {
			t.Error("the call has no deadline")
		}
		return accepted("u")
	})
	sender.Process(ctx, message)
	if diff := cmp.Diff([]string{"claim", "submitted 3 u"}, s.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestAnOutcomeIsHeldUntilTheDatabaseHasIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s := &store{failures: 10}
		newSender(s, func(context.Context, mms.Submission) mms.Answer {
			calls++
			return accepted("u")
		}).Process(t.Context(), message)
		if diff := cmp.Diff([]string{"claim", "submitted 3 u"}, s.calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		if calls != 1 {
			t.Errorf("Plivo was called %d times", calls)
		}
	})
}

func TestAnOutcomeThatCannotBeRecordedIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		sender := newSender(&store{failures: 1 << 30}, answers(accepted("evidence")))
		sender.Logger = slog.New(slog.NewTextHandler(&log, nil))
		begun := time.Now()
		sender.Process(t.Context(), message)
		if held := time.Since(begun); held != recordTimeout {
			t.Errorf("held for %v, want %v", held, recordTimeout)
		}
		if !strings.Contains(log.String(), "plivo_uuid=evidence") || strings.Contains(log.String(), "5550123") {
			t.Errorf("the log has to have the UUID and no phone number:\n%s", log.String())
		}
	})
}

func TestADuplicateIsCounted(t *testing.T) {
	t.Parallel()
	s := &store{duplicate: true}
	newSender(s, answers(accepted("u"))).Process(t.Context(), message)
	if diff := cmp.Diff([]string{"claim", "duplicate"}, s.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestALateOutcomeIsNoError(t *testing.T) {
	t.Parallel()
	s := &store{late: true}
	got := newSender(s, answers(accepted("u"))).Process(t.Context(), message)
	if got.Action != mms.TaskDone || len(s.calls) != 2 {
		t.Errorf("Process() = %+v after %v", got, s.calls)
	}
}

func TestASubmissionSaysAllThatPlivoNeeds(t *testing.T) {
	t.Parallel()
	var got mms.Submission
	newSender(&store{}, func(_ context.Context, s mms.Submission) mms.Answer {
		got = s
		return mms.Answer{Written: true}
	}).Process(t.Context(), message)
	if token := strings.TrimPrefix(got.CallbackURL, "https://postcard.example/"); len(token) < 32 {
		t.Errorf("the callback's token has %d characters", len(token))
	}
	got.CallbackURL, got.MayWrite = "", nil
	want := mms.Submission{Sender: "+14155550100", Recipient: "+14155550123", Text: "Hi", MediaURLs: []string{"https://example.com/a.jpg"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("submission (-want +got):\n%s", diff)
	}
}

// TestNothingIsWrittenAfterTheLease plays a worker that is stopped between its
// claim and its call.
func TestNothingIsWrittenAfterTheLease(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		stopped    time.Duration
		renewed    bool
		renewFails bool
		want       bool
	}{
		"at once":                       {0, false, false, true},
		"stopped for less than a lease": {leaseDuration - 1, false, false, true},
		"stopped for a lease":           {leaseDuration, false, false, false},
		"renewed in time":               {leaseDuration, true, false, true},
		"renewal refused":               {leaseDuration, true, true, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &store{renewFails: tt.renewFails}
				sender := newSender(s, nil)
				sender.Plivo = wire(func(ctx context.Context, submission mms.Submission) mms.Answer {
					time.Sleep(tt.stopped / 2)
					if tt.renewed {
						if err := sender.Heartbeats.Renew(ctx); (err != nil) != tt.renewFails {
							t.Errorf("Renew() = %v", err)
						}
					}
					time.Sleep(tt.stopped - tt.stopped/2)
					if got := submission.MayWrite(); got != tt.want {
						t.Errorf("MayWrite() = %v, want %v", got, tt.want)
					}
					return mms.Answer{Written: true}
				})
				sender.Process(t.Context(), message)
				if err := sender.Heartbeats.Renew(t.Context()); err != nil {
					t.Errorf("Renew() after the attempt asked for a lease: %v", err)
				}
			})
		})
	}
}

// TestPlacesAreForMessagesOnTheirWay has one place: two calls follow each other, and the
// second does not wait until the outcome of the first is recorded, nor until a gate opens
// for a third.
func TestPlacesAreForMessagesOnTheirWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const call = 10 * time.Second
		begun := time.Now()
		var calls []time.Duration
		s := &store{unclaimed: 1, obstacle: mms.ClaimBlocker{Released: true, RateLimited: 900 * time.Millisecond}, failures: 3}
		sender := newSender(s, func(context.Context, mms.Submission) mms.Answer {
			calls = append(calls, time.Since(begun))
			time.Sleep(call)
			return accepted("u")
		})
		var all sync.WaitGroup
		for range 3 { // the first finds its gate closed
			all.Go(func() { sender.Process(t.Context(), message) })
			synctest.Wait()
		}
		all.Wait()
		if diff := cmp.Diff([]time.Duration{0, call, 2 * call}, calls); diff != "" {
			t.Errorf("calls began (-want +got):\n%s", diff)
		}
		if len(sender.Slots) != 0 {
			t.Errorf("%d places are taken by nobody", len(sender.Slots))
		}
	})
	t.Run("who has none when the worker stops puts its task off", func(t *testing.T) {
		t.Parallel()
		sender := newSender(&store{}, answers(mms.Answer{}))
		sender.Slots <- struct{}{}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := sender.Process(ctx, message); got.Action != mms.TaskPostpone {
			t.Errorf("Process() = %+v", got)
		}
	})
}

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

	"postcard/internal/mms"
)

var (
	message = uuid.UUID{15: 7}
	ref     = mms.AttemptRef{MessageID: message, Number: 3}
	errDown = errors.New("the database is down")
)

// store plays the database: it notes what is asked of it in words.
type store struct {
	claims     []error // what the claims return, one after the other; nil: claimed
	unclaimed  int     // how many claims find an obstacle before that
	obstacle   mms.Obstacle
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
	if id != message || lease != leaseLength {
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
		Text: "Hi", MediaURLs: []string{"https://example.com/a.jpg"}, Refusals: s.refusals,
	}, true, nil
}

func (s *store) Obstacle(context.Context, uuid.UUID) (mms.Obstacle, error) { return s.obstacle, nil }

func (s *store) StandInLine(context.Context, uuid.UUID) error {
	s.note("stand in line")
	return nil
}

func (s *store) Expire(context.Context, int) (int, error) {
	s.note("expire")
	return 1, nil
}

func (s *store) FailSuppressed(context.Context, uuid.UUID) error {
	s.note("fail suppressed")
	return nil
}

func (s *store) SetAside(context.Context, uuid.UUID) (bool, error) {
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

func (s *store) Accepted(_ context.Context, r mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.Acceptance, error) {
	if s.duplicate {
		return mms.Duplicate, nil
	}
	recorded, err := s.record("%s %d %s", kind, r.Number, v.PlivoUUID)
	if recorded {
		return mms.Adopted, err
	}
	return mms.NothingNew, err
}

func (s *store) Requeue(_ context.Context, r mms.AttemptRef, _ mms.Verdict, step mms.Step) (bool, error) {
	return s.record("requeue %d %s %s", r.Number, step.Reason, step.Wait)
}

func (s *store) Pause(_ context.Context, r mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.record("pause %d %s", r.Number, v.Reason)
}

func (s *store) Fail(_ context.Context, r mms.AttemptRef, _ mms.Verdict, reason mms.Reason) (bool, error) {
	return s.record("fail %d %s", r.Number, reason)
}

func (s *store) Doubt(_ context.Context, r mms.AttemptRef, v mms.Verdict) (bool, error) {
	return s.record("doubt %d %s", r.Number, v.Reason)
}

func (s *store) RenewLeases(_ context.Context, tokens []string, length time.Duration) ([]string, error) {
	s.note("renew %d for %s", len(tokens), length)
	if s.renewFails {
		return nil, errDown
	}
	return tokens, nil
}

// wire plays Plivo.
type wire func(ctx context.Context, s mms.Submission) mms.Verdict

func (w wire) Send(ctx context.Context, s mms.Submission) mms.Verdict { return w(ctx, s) }

func answers(v mms.Verdict) wire {
	return func(context.Context, mms.Submission) mms.Verdict { return v }
}

func newSender(s *store, w wire) *Sender {
	return &Sender{
		Places: make(chan struct{}, 1),
		Store:  s, Plivo: w, Policy: mms.RetryPolicy{MaxAttempts: 3, Jitter: func() float64 { return 0 }},
		CallbackURL: func(token string) string { return "https://postcard.example/" + token },
		SendTimeout: 30 * time.Second, Leases: NewLeases(s),
		Observe: func(mms.Verdict, time.Duration) {}, Duplicates: func() { s.note("duplicate") }, Logger: slog.New(slog.DiscardHandler),
	}
}

func TestWhatBecomesOfAnAttempt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		verdict  mms.Verdict
		refusals int
		recorded string
		want     mms.Disposal
	}{
		"accepted":        {mms.Verdict{Outcome: mms.Accepted, PlivoUUID: "u"}, 0, "submitted 3 u", mms.Disposal{}},
		"refused":         {mms.Verdict{Outcome: mms.Refused, Reason: mms.ReasonRefused}, 0, "fail 3 refused_by_plivo", mms.Disposal{Kind: mms.TaskDead, Reason: mms.ReasonRefused}},
		"refused for now": {mms.Verdict{Outcome: mms.RefusedForNow, Reason: mms.ReasonRateLimited}, 1, "requeue 3 rate_limited 8s", mms.Disposal{Kind: mms.TaskRetry, Wait: 8 * time.Second, Reason: mms.ReasonRateLimited}},
		"once too often":  {mms.Verdict{Outcome: mms.RefusedForNow, Reason: mms.ReasonRateLimited}, 2, "fail 3 attempts_used_up", mms.Disposal{Kind: mms.TaskDead, Reason: mms.ReasonAttemptsUsedUp}},
		"account trouble": {mms.Verdict{Outcome: mms.AccountTrouble, Reason: mms.ReasonCredit}, 2, "pause 3 plivo_credit", mms.Disposal{}},
		"unknown":         {mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonNoAnswer}, 0, "doubt 3 no_answer", mms.Disposal{Kind: mms.TaskDead, Reason: mms.ReasonNoAnswer}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &store{refusals: tt.refusals}
			got := newSender(s, answers(tt.verdict)).Process(t.Context(), message)
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
	done, putOff := mms.Disposal{}, func(wait time.Duration) mms.Disposal { return mms.Disposal{Kind: mms.TaskPutOff, Wait: wait} }
	tests := map[string]struct {
		obstacle mms.Obstacle
		want     mms.Disposal
		calls    []string
	}{
		"gone":                       {mms.Obstacle{Gone: true}, done, nil},
		"opted out":                  {mms.Obstacle{Suppressed: true}, mms.Disposal{Kind: mms.TaskDead, Reason: mms.ReasonOptedOut}, []string{"fail suppressed"}},
		"too late":                   {mms.Obstacle{Expired: true, NotDue: time.Second}, mms.Disposal{Kind: mms.TaskDead, Reason: mms.ReasonExpired}, []string{"expire"}},
		"too early":                  {mms.Obstacle{NotDue: time.Minute}, putOff(time.Minute), nil},
		"pair busy":                  {mms.Obstacle{PairBusy: true}, putOff(pairWait), nil},
		"gate closed":                {mms.Obstacle{Gate: time.Millisecond}, done, []string{"stand in line"}},
		"released and far too early": {mms.Obstacle{Released: true, Gate: gateWait}, done, []string{"stand in line"}},
		"paused, or others wait":     {mms.Obstacle{}, done, []string{"stand in line"}},
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
	return func(context.Context, mms.Submission) mms.Verdict {
		t.Error("Plivo was called")
		return mms.Verdict{Outcome: mms.Unknown}
	}
}

// TestAClaimThatFailedIsNotSent has a database that may or may not have taken
// the claim: its answer was lost.
func TestAClaimThatFailedIsNotSent(t *testing.T) {
	t.Parallel()
	got := newSender(&store{claims: []error{errDown}}, sendsNothing(t)).Process(t.Context(), message)
	if want := (mms.Disposal{Kind: mms.TaskPutOff, Wait: storeWait}); got != want {
		t.Errorf("Process() = %+v, want %+v", got, want)
	}
}

func TestAReleasedMessageWaitsForItsGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{unclaimed: 2, obstacle: mms.Obstacle{Released: true, Gate: 300 * time.Millisecond}}
		begun := time.Now()
		newSender(s, answers(mms.Verdict{Outcome: mms.Accepted, PlivoUUID: "u"})).Process(t.Context(), message)
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
	s := &store{unclaimed: 1, obstacle: mms.Obstacle{Released: true, Gate: gateWait - 1}}
	if got := newSender(s, sendsNothing(t)).Process(ctx, message); got.Kind != mms.TaskPutOff {
		t.Errorf("Process() = %+v, want it put off", got)
	}
}

func TestAStoppingWorkerFinishesItsCall(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := &store{}
	sender := newSender(s, func(callCtx context.Context, _ mms.Submission) mms.Verdict {
		cancel()
		if callCtx.Err() != nil {
			t.Error("the call was canceled with the worker")
		}
		if _, bounded := callCtx.Deadline(); !bounded {
			t.Error("the call has no deadline")
		}
		return mms.Verdict{Outcome: mms.Accepted, PlivoUUID: "u"}
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
		newSender(s, func(context.Context, mms.Submission) mms.Verdict {
			calls++
			return mms.Verdict{Outcome: mms.Accepted, PlivoUUID: "u"}
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
		sender := newSender(&store{failures: 1 << 30}, answers(mms.Verdict{Outcome: mms.Accepted, PlivoUUID: "evidence"}))
		sender.Logger = slog.New(slog.NewTextHandler(&log, nil))
		begun := time.Now()
		sender.Process(t.Context(), message)
		if held := time.Since(begun); held != recordPatience {
			t.Errorf("held for %v, want %v", held, recordPatience)
		}
		if !strings.Contains(log.String(), "plivo_uuid=evidence") || strings.Contains(log.String(), "5550123") {
			t.Errorf("the log has to have the UUID and no phone number:\n%s", log.String())
		}
	})
}

func TestADuplicateIsCounted(t *testing.T) {
	t.Parallel()
	s := &store{duplicate: true}
	newSender(s, answers(mms.Verdict{Outcome: mms.Accepted, PlivoUUID: "u"})).Process(t.Context(), message)
	if diff := cmp.Diff([]string{"claim", "duplicate"}, s.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestALateOutcomeIsNoError(t *testing.T) {
	t.Parallel()
	s := &store{late: true}
	got := newSender(s, answers(mms.Verdict{Outcome: mms.Accepted, PlivoUUID: "u"})).Process(t.Context(), message)
	if got.Kind != mms.TaskDone || len(s.calls) != 2 {
		t.Errorf("Process() = %+v after %v", got, s.calls)
	}
}

func TestASubmissionSaysAllThatPlivoNeeds(t *testing.T) {
	t.Parallel()
	var got mms.Submission
	newSender(&store{}, func(_ context.Context, s mms.Submission) mms.Verdict {
		got = s
		return mms.Verdict{Outcome: mms.Unknown}
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
		"stopped for less than a lease": {leaseLength - 1, false, false, true},
		"stopped for a lease":           {leaseLength, false, false, false},
		"renewed in time":               {leaseLength, true, false, true},
		"renewal refused":               {leaseLength, true, true, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &store{renewFails: tt.renewFails}
				sender := newSender(s, nil)
				sender.Plivo = wire(func(ctx context.Context, submission mms.Submission) mms.Verdict {
					time.Sleep(tt.stopped / 2)
					if tt.renewed {
						if err := sender.Leases.Renew(ctx); (err != nil) != tt.renewFails {
							t.Errorf("Renew() = %v", err)
						}
					}
					time.Sleep(tt.stopped - tt.stopped/2)
					if got := submission.MayWrite(); got != tt.want {
						t.Errorf("MayWrite() = %v, want %v", got, tt.want)
					}
					return mms.Verdict{Outcome: mms.Unknown}
				})
				sender.Process(t.Context(), message)
				if err := sender.Leases.Renew(t.Context()); err != nil {
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
		s := &store{unclaimed: 1, obstacle: mms.Obstacle{Released: true, Gate: 900 * time.Millisecond}, failures: 3}
		sender := newSender(s, func(context.Context, mms.Submission) mms.Verdict {
			calls = append(calls, time.Since(begun))
			time.Sleep(call)
			return mms.Verdict{Outcome: mms.Accepted, PlivoUUID: "u"}
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
		if len(sender.Places) != 0 {
			t.Errorf("%d places are taken by nobody", len(sender.Places))
		}
	})
	t.Run("who has none when the worker stops puts its task off", func(t *testing.T) {
		t.Parallel()
		sender := newSender(&store{}, answers(mms.Verdict{}))
		sender.Places <- struct{}{}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := sender.Process(ctx, message); got.Kind != mms.TaskPutOff {
			t.Errorf("Process() = %+v", got)
		}
	})
}

package worker

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/mms"
)

func checkCalls(t *testing.T, store *fakeStore, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, store.calls); diff != "" {
		t.Errorf("store calls (-want +got):\n%s", diff)
	}
}

func TestOutcomeDecidesRecordAndTaskResult(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer            mms.Answer
		transientFailures int
		record            string
		want              mms.TaskResult
	}{
		"accepted":               {accepted("u"), 0, "submitted 3 u", mms.TaskResult{}},
		"permanent failure":      {mms.Answer{Status: 400}, 0, "permanent failure 3 rejected_by_plivo", mms.TaskResult{Action: mms.TaskFail, Reason: mms.ReasonRejected}},
		"transient failure":      {mms.Answer{Status: 429}, 1, "transient failure 3 rate_limited, wait 8s", mms.TaskResult{Action: mms.TaskRetry, Wait: 8 * time.Second, Reason: mms.ReasonRateLimited}},
		"last transient failure": {mms.Answer{Status: 429}, 2, "permanent failure 3 attempts_exhausted", mms.TaskResult{Action: mms.TaskFail, Reason: mms.ReasonAttemptsExhausted}},
		"account error":          {mms.Answer{Status: 402}, 2, "account error 3 plivo_credit", mms.TaskResult{}},
		"unknown":                {mms.Answer{Written: true}, 0, "in doubt 3 no_response", mms.TaskResult{Action: mms.TaskFail, Reason: mms.ReasonNoResponse}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &fakeStore{transientFailures: tt.transientFailures}
			got := newDispatcher(store, answerWith(tt.answer)).Process(t.Context(), messageID)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Process() (-want +got):\n%s", diff)
			}
			checkCalls(t, store, []string{"claim", tt.record})
		})
	}
}

func TestClaimBlockerDecidesTaskResult(t *testing.T) {
	t.Parallel()
	done, postpone := mms.TaskResult{}, func(wait time.Duration) mms.TaskResult {
		return mms.TaskResult{Action: mms.TaskPostpone, Wait: wait}
	}
	tests := map[string]struct {
		blocker mms.ClaimBlocker
		resumed bool
		want    mms.TaskResult
		calls   []string
	}{
		"message no longer queued":     {blocker: mms.ClaimBlocker{Gone: true}, want: done},
		"recipient opted out":          {blocker: mms.ClaimBlocker{Suppressed: true}, want: mms.TaskResult{Action: mms.TaskFail, Reason: mms.ReasonOptedOut}, calls: []string{"fail suppressed"}},
		"message expired":              {blocker: mms.ClaimBlocker{Expired: true, DueIn: time.Second}, want: done},
		"batch paused":                 {blocker: mms.ClaimBlocker{BatchNotRunning: true}, want: done, calls: []string{"park"}},
		"batch resumed while parking":  {blocker: mms.ClaimBlocker{BatchNotRunning: true}, resumed: true, want: postpone(parkRetryDelay), calls: []string{"park"}},
		"pictures not ready":           {blocker: mms.ClaimBlocker{NotPrepared: true, DueIn: time.Minute}, want: done, calls: []string{"prepare"}},
		"pictures in a paused batch":   {blocker: mms.ClaimBlocker{NotPrepared: true, BatchNotRunning: true}, want: done, calls: []string{"prepare"}},
		"attempt not due":              {blocker: mms.ClaimBlocker{DueIn: time.Minute}, want: postpone(time.Minute)},
		"pair in flight":               {blocker: mms.ClaimBlocker{PairInFlight: true}, want: postpone(pairRetryDelay)},
		"rate limited":                 {blocker: mms.ClaimBlocker{RateLimited: time.Millisecond}, want: done, calls: []string{"add to backlog"}},
		"released too early":           {blocker: mms.ClaimBlocker{Released: true, RateLimited: maxRateLimitWait}, want: done, calls: []string{"add to backlog"}},
		"sender rests":                 {blocker: mms.ClaimBlocker{Resting: true, Released: true}, want: done, calls: []string{"add to backlog"}},
		"sending paused, or a backlog": {blocker: mms.ClaimBlocker{}, want: done, calls: []string{"add to backlog"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &fakeStore{blocked: 1, blocker: tt.blocker, resumed: tt.resumed}
			got := newDispatcher(store, rejectCalls(t)).Process(t.Context(), messageID)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Process() (-want +got):\n%s", diff)
			}
			checkCalls(t, store, tt.calls)
		})
	}
}

func TestTaskOfUnpreparedMessageIsKeptWhenTheDatabaseIsDown(t *testing.T) {
	t.Parallel()
	store := &fakeStore{blocked: 1, blocker: mms.ClaimBlocker{NotPrepared: true}, prepareErr: errStoreDown}
	got := newDispatcher(store, rejectCalls(t)).Process(t.Context(), messageID)
	if want := (mms.TaskResult{Action: mms.TaskPostpone, Wait: storeRetryDelay}); got != want {
		t.Errorf("Process() = %+v, want %+v", got, want)
	}
}

// The ids are forgotten before the failure is recorded: the next claim must not use them.
func TestUnknownMediaIsUploadedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{forgetErrors: 2}
		unknown := mms.Answer{Written: true, Status: 400, Text: "media_id m-1 not found", MediaIDs: true}
		got := newDispatcher(store, answerWith(unknown)).Process(t.Context(), messageID)
		if want := (mms.TaskResult{Action: mms.TaskRetry, Wait: 8 * time.Second, Reason: mms.ReasonPlivoMediaUnknown}); got != want {
			t.Errorf("Process() = %+v, want %+v", got, want)
		}
		checkCalls(t, store, []string{"claim", "forget Plivo media", "transient failure 3 plivo_media_unknown, wait 8s"})
	})
}

// After an error the claim may have been committed, because the answer of the
// database was lost.
func TestMessageIsNotSentAfterClaimError(t *testing.T) {
	t.Parallel()
	got := newDispatcher(&fakeStore{claimErr: errStoreDown}, rejectCalls(t)).Process(t.Context(), messageID)
	if want := (mms.TaskResult{Action: mms.TaskPostpone, Wait: storeRetryDelay}); got != want {
		t.Errorf("Process() = %+v, want %+v", got, want)
	}
}

func TestReleasedMessageWaitsForRateLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{blocked: 2, blocker: mms.ClaimBlocker{Released: true, RateLimited: 300 * time.Millisecond}}
		start := time.Now()
		newDispatcher(store, answerWith(accepted("u"))).Process(t.Context(), messageID)
		checkCalls(t, store, submittedCalls)
		if waited := time.Since(start); waited != 600*time.Millisecond {
			t.Errorf("waited %v, want 600ms for two blocked claims", waited)
		}
	})
}

func TestStoppingWorkerDoesNotWaitForRateLimit(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	store := &fakeStore{blocked: 1, blocker: mms.ClaimBlocker{Released: true, RateLimited: maxRateLimitWait - 1}}
	got := newDispatcher(store, rejectCalls(t)).Process(ctx, messageID)
	if got.Action != mms.TaskPostpone {
		t.Errorf("Process() = %+v, want TaskPostpone", got)
	}
}

func TestStoppingWorkerFinishesItsCall(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	store := &fakeStore{}
	dispatcher := newDispatcher(store, func(callCtx context.Context, _ mms.Submission) mms.Answer {
		cancel()
		if callCtx.Err() != nil {
			t.Error("the call was canceled with the worker")
		}
		if _, ok := callCtx.Deadline(); !ok {
			t.Error("the call has no deadline")
		}
		return accepted("u")
	})
	dispatcher.Process(ctx, messageID)
	checkCalls(t, store, submittedCalls)
}

func TestRecordingIsRetriedUntilTheStoreRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		store := &fakeStore{recordErrors: 10}
		newDispatcher(store, func(context.Context, mms.Submission) mms.Answer {
			calls++
			return accepted("u")
		}).Process(t.Context(), messageID)
		checkCalls(t, store, submittedCalls)
		if calls != 1 {
			t.Errorf("got %d calls to Plivo, want 1", calls)
		}
	})
}

func TestUnrecordedOutcomeIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		dispatcher := newDispatcher(&fakeStore{recordErrors: 1 << 30}, answerWith(accepted("evidence")))
		dispatcher.Logger = slog.New(slog.NewTextHandler(&log, nil))
		start := time.Now()
		dispatcher.Process(t.Context(), messageID)
		if took := time.Since(start); took != recordTimeout {
			t.Errorf("gave up after %v, want %v", took, recordTimeout)
		}
		if !strings.Contains(log.String(), "plivo_uuid=evidence") || strings.Contains(log.String(), "5550123") {
			t.Errorf("got log\n%s\nwant the Plivo UUID and no phone number", log.String())
		}
	})
}

func TestDuplicateIsCounted(t *testing.T) {
	t.Parallel()
	store := &fakeStore{duplicate: true}
	newDispatcher(store, answerWith(accepted("u"))).Process(t.Context(), messageID)
	checkCalls(t, store, []string{"claim", "duplicate"})
}

func TestAlreadyResolvedAttemptIsNoError(t *testing.T) {
	t.Parallel()
	store := &fakeStore{resolved: true}
	got := newDispatcher(store, answerWith(accepted("u"))).Process(t.Context(), messageID)
	if got.Action != mms.TaskDone {
		t.Errorf("Process() = %+v, want TaskDone", got)
	}
	checkCalls(t, store, submittedCalls)
}

func TestSubmissionIsComplete(t *testing.T) {
	t.Parallel()
	var got mms.Submission
	newDispatcher(&fakeStore{}, func(_ context.Context, s mms.Submission) mms.Answer {
		got = s
		return mms.Answer{Written: true}
	}).Process(t.Context(), messageID)
	if token := strings.TrimPrefix(got.CallbackURL, "https://postcard.example/"); len(token) < 26 {
		t.Errorf("got a callback token of %d characters, want at least 26", len(token))
	}
	got.CallbackURL, got.MayWrite = "", nil
	want := mms.Submission{Sender: "+14155550100", Recipient: "+14155550123", Text: "Hi", MediaURLs: []string{"https://example.com/a.jpg"}, MediaIDs: []string{"m-1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("submission (-want +got):\n%s", diff)
	}
}

// A process that is stopped between its claim and its call may wake up after
// its lease.
func TestNothingIsWrittenAfterTheLease(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		stopped  time.Duration
		renew    bool
		renewErr error
		want     bool
	}{
		"not stopped":                         {0, false, nil, true},
		"stopped for less than a lease":       {attemptLeaseDuration - 1, false, nil, true},
		"stopped for a lease":                 {attemptLeaseDuration, false, nil, false},
		"stopped for a lease, renewed":        {attemptLeaseDuration, true, nil, true},
		"stopped for a lease, renewal failed": {attemptLeaseDuration, true, errStoreDown, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &fakeStore{renewErr: tt.renewErr}
				dispatcher := newDispatcher(store, nil)
				dispatcher.Plivo = fakePlivo(func(ctx context.Context, s mms.Submission) mms.Answer {
					time.Sleep(tt.stopped / 2)
					if tt.renew {
						if err := dispatcher.Heartbeats.Renew(ctx); (err != nil) != (tt.renewErr != nil) {
							t.Errorf("Renew() = %v, want %v", err, tt.renewErr)
						}
					}
					time.Sleep(tt.stopped - tt.stopped/2)
					if got := s.MayWrite(); got != tt.want {
						t.Errorf("MayWrite() = %v, want %v", got, tt.want)
					}
					return mms.Answer{Written: true}
				})
				dispatcher.Process(t.Context(), messageID)
				if err := dispatcher.Heartbeats.Renew(t.Context()); err != nil {
					t.Errorf("Renew() after the attempt = %v, want no lease to renew", err)
				}
			})
		})
	}
}

// With one slot, two calls follow each other. The second waits neither for the
// outcome of the first to be recorded nor for the rate limit of a third message.
func TestSlotIsHeldOnlyDuringTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const callDuration = 10 * time.Second
		start := time.Now()
		var calls []time.Duration
		store := &fakeStore{blocked: 1, blocker: mms.ClaimBlocker{Released: true, RateLimited: 900 * time.Millisecond}, recordErrors: 3}
		dispatcher := newDispatcher(store, func(context.Context, mms.Submission) mms.Answer {
			calls = append(calls, time.Since(start))
			time.Sleep(callDuration)
			return accepted("u")
		})
		var group sync.WaitGroup
		for range 3 { // the first is rate limited
			group.Go(func() { dispatcher.Process(t.Context(), messageID) })
			synctest.Wait()
		}
		group.Wait()
		if diff := cmp.Diff([]time.Duration{0, callDuration, 2 * callDuration}, calls); diff != "" {
			t.Errorf("start of calls (-want +got):\n%s", diff)
		}
		if len(dispatcher.Slots) != 0 {
			t.Errorf("got %d slots in use, want 0", len(dispatcher.Slots))
		}
	})
}

func TestStoppingWorkerDoesNotWaitForASlot(t *testing.T) {
	t.Parallel()
	dispatcher := newDispatcher(&fakeStore{}, rejectCalls(t))
	dispatcher.Slots <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := dispatcher.Process(ctx, messageID); got.Action != mms.TaskPostpone {
		t.Errorf("Process() = %+v, want TaskPostpone", got)
	}
}

func BenchmarkProcess(b *testing.B) {
	store := &fakeStore{}
	dispatcher := newDispatcher(store, answerWith(accepted("u")))
	for b.Loop() {
		store.calls = store.calls[:0]
		if got := dispatcher.Process(b.Context(), messageID); got.Action != mms.TaskDone {
			b.Fatalf("Process() = %+v, want TaskDone", got)
		}
	}
}

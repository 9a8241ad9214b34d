package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

func TestOutcomesOfAttempts(t *testing.T) {
	t.Parallel()
	const started = "created>queued attempt_started>sending "
	tests := map[string]struct {
		record func(*postgres.Store, mms.AttemptRef) (bool, error)
		status mms.Status
		events string
	}{
		"submitted": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return adopt(context.Background(), s, ref, "u-1")
		}, mms.Submitted, started + "submitted>submitted"},
		"transient failure": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.RecordTransientFailure(context.Background(), ref, mms.Verdict{Outcome: mms.TransientFailure, HTTPStatus: 429}, mms.Transition{Wait: time.Hour, Reason: mms.ReasonRateLimited})
		}, mms.Queued, started + "transient_failure>queued"},
		"account error": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.RecordAccountError(context.Background(), ref, mms.Verdict{Outcome: mms.AccountError, HTTPStatus: 401, Reason: mms.ReasonCredentials})
		}, mms.Queued, started + "account_error>queued"},
		"permanent failure": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.RecordPermanentFailure(context.Background(), ref, mms.Verdict{Outcome: mms.PermanentFailure, HTTPStatus: 400, Detail: "no"}, mms.ReasonRejected)
		}, mms.Failed, started + "permanent_failure>failed"},
		"in doubt": {func(s *postgres.Store, ref mms.AttemptRef) (bool, error) {
			return s.RecordInDoubt(context.Background(), ref, mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonNoResponse})
		}, mms.InDoubt, started + "in_doubt>in_doubt"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			m := create(t, store, workspace)
			c, _ := claim(t, store, m.ID)
			if ok, err := tt.record(store, c.AttemptRef); err != nil || !ok {
				t.Fatalf("got %t, %v, want true", ok, err)
			}
			h := read(t, store, m)
			wantEvents(t, h, tt.status, tt.events)
			if h.AttemptList[0].Outcome == "" || h.AttemptList[0].FinishedAt == nil {
				t.Errorf("got attempt %+v, want it finished", h.AttemptList[0])
			}
			if h.Version != int64(len(h.Events)) {
				t.Errorf("got version %d, want %d, the number of events", h.Version, len(h.Events))
			}
			stale := mms.AttemptRef{MessageID: m.ID, Ordinal: c.Ordinal + 1}
			if ok, err := tt.record(store, stale); err != nil || ok {
				t.Errorf("attempt that is not the newest: got %t, %v, want false", ok, err)
			}
		})
	}
}

func TestLateResponseResolvesADoubt(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	c, _ := claim(t, store, m.ID)
	if _, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonNoResponse}); err != nil {
		t.Fatal(err)
	}
	ok, err := adopt(t.Context(), store, c.AttemptRef, "u-1")
	if err != nil || !ok {
		t.Fatalf("RecordSubmitted: got %t, %v, want true", ok, err)
	}
	h := read(t, store, m)
	wantEvents(t, h, mms.Submitted, "created>queued attempt_started>sending in_doubt>in_doubt submitted>submitted")
	if ok, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil || ok {
		t.Errorf("RecordInDoubt of a submitted message: got %t, %v, want false", ok, err)
	}
}

package callback_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/mms"
)

var (
	ref     = mms.AttemptRef{MessageID: uuid.UUID{15: 1}, Ordinal: 2}
	errDown = errors.New("the database is down")
)

// store plays the database, with one attempt, and notes what is asked of it.
type store struct {
	known string // the attempt's UUID
	proof mms.SubmitResult
	fails string // the call that fails
	calls []string
}

func (s *store) note(name, detail string) error {
	if s.fails == name {
		return errDown
	}
	s.calls = append(s.calls, fmt.Sprintf("%s %s", name, detail))
	return nil
}

func (s *store) AttemptByToken(_ context.Context, token string) (mms.AttemptRef, string, error) {
	if s.fails == "find" {
		return mms.AttemptRef{}, "", errDown
	}
	if token != "token" {
		return mms.AttemptRef{}, "", mms.ErrNotFound
	}
	return ref, s.known, nil
}

func (s *store) RecordSubmitted(_ context.Context, r mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.SubmitResult, error) {
	return s.proof, s.note("accept", fmt.Sprintf("%d %s as %s", r.Ordinal, v.PlivoUUID, kind))
}

func (s *store) ApplyReport(_ context.Context, _ mms.AttemptRef, r mms.Report, kind mms.EventKind) (bool, error) {
	return true, s.note("apply", fmt.Sprintf("%s as %s", r.State, kind))
}

func (s *store) PollSoon(context.Context, mms.AttemptRef) error { return s.note("check", "soon") }

func TestApply(t *testing.T) {
	t.Parallel()
	proven := mms.Report{Token: "token", PlivoUUID: "u", State: "delivered", Proven: true}
	unproven, foreign, unknown := proven, proven, proven
	unproven.Proven, foreign.PlivoUUID, unknown.Token = false, "v", "guess"
	unprovenSent := unproven
	unprovenSent.State = "sent"
	tests := map[string]struct {
		store      store
		report     mms.Report
		calls      []string
		err        error
		duplicates int
	}{
		"of a message that is known":        {store{known: "u"}, proven, []string{"apply delivered as report"}, nil, 0},
		"quicker than the answer":           {store{proof: mms.Adopted}, proven, []string{"accept 2 u as submitted", "apply delivered as report"}, nil, 0},
		"of an attempt given up on":         {store{proof: mms.Duplicate}, proven, []string{"accept 2 u as submitted", "apply delivered as report"}, nil, 1},
		"of another message":                {store{known: "u"}, foreign, nil, callback.ErrMismatch, 0},
		"with a token that nobody has":      {store{known: "u"}, unknown, nil, mms.ErrNotFound, 0},
		"final, and not proven":             {store{known: "u"}, unproven, []string{"check soon"}, nil, 0},
		"final, not proven, first":          {store{proof: mms.Adopted}, unproven, []string{"accept 2 u as submitted", "check soon"}, nil, 0},
		"on the way, and not proven":        {store{known: "u"}, unprovenSent, []string{"apply sent as report"}, nil, 0},
		"while the database cannot be read": {store{fails: "find"}, proven, nil, errDown, 0},
		"while it cannot be bound":          {store{fails: "accept"}, proven, nil, errDown, 0},
		"while it cannot be applied":        {store{known: "u", fails: "apply"}, proven, nil, errDown, 0},
		"while it cannot be checked":        {store{known: "u", fails: "check"}, unproven, nil, errDown, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			duplicates := 0
			rc := callback.Reports{Store: &tt.store, OnDuplicate: func() { duplicates++ }}
			if err := rc.Apply(t.Context(), tt.report); !errors.Is(err, tt.err) {
				t.Errorf("Apply() = %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.calls, tt.store.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if duplicates != tt.duplicates {
				t.Errorf("%d duplicates, want %d", duplicates, tt.duplicates)
			}
		})
	}
}

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

var errStoreDown = errors.New("the database is down")

// fakeStore has one attempt, whose token is "token". It records the calls that
// change something as text.
type fakeStore struct {
	plivoUUID string // of the attempt; empty while unknown
	result    mms.SubmitResult
	failing   string // the method that returns an error
	calls     []string
}

func (s *fakeStore) call(method, format string, args ...any) error {
	if s.failing == method {
		return errStoreDown
	}
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
	return nil
}

func (s *fakeStore) AttemptByToken(_ context.Context, token string) (mms.AttemptRef, string, error) {
	if s.failing == "AttemptByToken" {
		return mms.AttemptRef{}, "", errStoreDown
	}
	if token != "token" {
		return mms.AttemptRef{}, "", mms.ErrNotFound
	}
	return mms.AttemptRef{MessageID: uuid.UUID{15: 1}, Ordinal: 2}, s.plivoUUID, nil
}

func (s *fakeStore) RecordSubmitted(_ context.Context, ref mms.AttemptRef, v mms.Verdict, kind mms.EventKind) (mms.SubmitResult, error) {
	return s.result, s.call("RecordSubmitted", "submitted %d %s as %s", ref.Ordinal, v.PlivoUUID, kind)
}

func (s *fakeStore) ApplyReport(_ context.Context, _ mms.AttemptRef, r mms.Report, kind mms.EventKind) (bool, error) {
	return true, s.call("ApplyReport", "apply %s as %s", r.State, kind)
}

func (s *fakeStore) PollSoon(context.Context, mms.AttemptRef) error {
	return s.call("PollSoon", "poll soon")
}

func TestApply(t *testing.T) {
	t.Parallel()
	proven := mms.Report{Token: "token", PlivoUUID: "u", State: "delivered", Authenticated: true}
	unproven, otherUUID, unknownToken := proven, proven, proven
	unproven.Authenticated, otherUUID.PlivoUUID, unknownToken.Token = false, "v", "guess"
	unprovenSent := unproven
	unprovenSent.State = "sent"
	tests := map[string]struct {
		store      fakeStore
		report     mms.Report
		calls      []string
		err        error
		duplicates int
	}{
		"known message":               {store: fakeStore{plivoUUID: "u"}, report: proven, calls: []string{"apply delivered as report"}},
		"report before answer":        {store: fakeStore{result: mms.Adopted}, report: proven, calls: []string{"submitted 2 u as submitted", "apply delivered as report"}},
		"attempt given up":            {store: fakeStore{result: mms.Duplicate}, report: proven, calls: []string{"submitted 2 u as submitted", "apply delivered as report"}, duplicates: 1},
		"another message":             {store: fakeStore{plivoUUID: "u"}, report: otherUUID, err: callback.ErrMismatch},
		"unknown token":               {store: fakeStore{plivoUUID: "u"}, report: unknownToken, err: mms.ErrNotFound},
		"unproven final state":        {store: fakeStore{plivoUUID: "u"}, report: unproven, calls: []string{"poll soon"}},
		"unproven final state, first": {store: fakeStore{result: mms.Adopted}, report: unproven, calls: []string{"submitted 2 u as submitted", "poll soon"}},
		"unproven state":              {store: fakeStore{plivoUUID: "u"}, report: unprovenSent, calls: []string{"apply sent as report"}},
		"AttemptByToken fails":        {store: fakeStore{failing: "AttemptByToken"}, report: proven, err: errStoreDown},
		"RecordSubmitted fails":       {store: fakeStore{failing: "RecordSubmitted"}, report: proven, err: errStoreDown},
		"ApplyReport fails":           {store: fakeStore{plivoUUID: "u", failing: "ApplyReport"}, report: proven, err: errStoreDown},
		"PollSoon fails":              {store: fakeStore{plivoUUID: "u", failing: "PollSoon"}, report: unproven, err: errStoreDown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			duplicates := 0
			reports := callback.Reports{Store: &tt.store, OnDuplicate: func() { duplicates++ }}
			if err := reports.Apply(t.Context(), tt.report); !errors.Is(err, tt.err) {
				t.Errorf("Apply() = %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.calls, tt.store.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if duplicates != tt.duplicates {
				t.Errorf("got %d duplicates, want %d", duplicates, tt.duplicates)
			}
		})
	}
}

package maintenance

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeReportPollerStore hands out pages of unreported messages. A report changes
// a message unless its state is queued.
type fakeReportPollerStore struct {
	callLog
	pages [][]mms.Unreported
}

func (s *fakeReportPollerStore) TakeUnreported(_ context.Context, wait time.Duration, _ int) ([]mms.Unreported, error) {
	if wait != time.Minute {
		return nil, fmt.Errorf("TakeUnreported(%v): unexpected wait", wait)
	}
	if len(s.pages) == 0 {
		return nil, nil
	}
	page := s.pages[0]
	s.pages = s.pages[1:]
	return page, nil
}

func (s *fakeReportPollerStore) ReserveGetCall(context.Context) (time.Duration, error) { return 0, nil }

func (s *fakeReportPollerStore) ApplyReport(_ context.Context, ref mms.AttemptRef, r mms.Report, kind mms.EventKind) (bool, error) {
	s.add("apply %s proven %v to %s as %s", r.State, r.Authenticated, shortID(ref.MessageID), kind)
	return r.State != "queued", nil
}

func (s *fakeReportPollerStore) BackOffUnreported(_ context.Context, ref mms.AttemptRef) error {
	s.add("back off %s", shortID(ref.MessageID))
	return nil
}

var errPlivoDown = errors.New("plivo is down")

// fakeGetter has messages by UUID. It fails for the UUID "broken" and does not
// find any other.
type fakeGetter map[string]mms.Listed

func (g fakeGetter) Get(_ context.Context, plivoUUID string) (mms.Listed, error) {
	if plivoUUID == "broken" {
		return mms.Listed{}, errPlivoDown
	}
	message, ok := g[plivoUUID]
	if !ok {
		return mms.Listed{}, mms.ErrNotFound
	}
	return message, nil
}

func unreported(n byte, plivoUUID string) mms.Unreported {
	return mms.Unreported{AttemptRef: mms.AttemptRef{MessageID: uuid.UUID{15: n}, Ordinal: 1}, PlivoUUID: plivoUUID, Sender: "+14155550100", Recipient: "+14155550123"}
}

func TestReportPollerAppliesReportsAndBacksOff(t *testing.T) {
	t.Parallel()
	store := &fakeReportPollerStore{pages: [][]mms.Unreported{
		{unreported(1, "delivered"), unreported(2, "unknown"), unreported(3, "other recipient"), unreported(4, "masked"), unreported(6, "unchanged")},
		{unreported(5, "delivered")},
	}}
	plivo := fakeGetter{
		"delivered":       {From: "14155550100", To: "14155550123", State: "delivered"},
		"masked":          {From: "14155550100", To: "14155550XXX", State: "sent"},
		"unchanged":       {From: "14155550100", To: "14155550123", State: "queued"},
		"other recipient": {From: "14155550100", To: "14155550199", State: "delivered"},
	}
	runOnce(t, ReportPoller(store, plivo, time.Minute, discardLogger()))
	store.sorted().check(t,
		"apply delivered proven true to 1 as status_polled", "apply delivered proven true to 5 as status_polled",
		"apply queued proven true to 6 as status_polled", "apply sent proven true to 4 as status_polled",
		"back off 2", "back off 3", "back off 6")
}

func TestReportPollerStopsWhenPlivoFails(t *testing.T) {
	t.Parallel()
	store := &fakeReportPollerStore{pages: [][]mms.Unreported{{unreported(1, "broken")}, {unreported(2, "delivered")}}}
	job := ReportPoller(store, fakeGetter{}, time.Minute, discardLogger())
	if err := job.Run(t.Context()); !errors.Is(err, errPlivoDown) {
		t.Errorf("Run() = %v, want %v", err, errPlivoDown)
	}
	if len(store.pages) != 1 {
		t.Error("the job took more messages although Plivo failed")
	}
}

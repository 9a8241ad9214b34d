package maintenance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// quiet plays the store of silent messages.
type quiet struct {
	mu    sync.Mutex
	pages [][]mms.Unreported
	calls []string
}

func (q *quiet) note(format string, args ...any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.calls = append(q.calls, fmt.Sprintf(format, args...))
}

func (q *quiet) TakeUnreported(_ context.Context, wait time.Duration, _ int) ([]mms.Unreported, error) {
	if wait != time.Minute {
		return nil, fmt.Errorf("TakeSilent(%v)", wait)
	}
	if len(q.pages) == 0 {
		return nil, nil
	}
	page := q.pages[0]
	q.pages = q.pages[1:]
	return page, nil
}

func (q *quiet) ReserveGetCall(context.Context) (time.Duration, error) { return 0, nil }

func (q *quiet) ApplyReport(_ context.Context, ref mms.AttemptRef, r mms.Report, kind mms.EventKind) (bool, error) {
	q.note("apply %s %s proven %v as %s", ref.MessageID.String()[35:], r.State, r.Proven, kind)
	return r.State != "queued", nil
}

func (q *quiet) BackOffUnreported(_ context.Context, ref mms.AttemptRef) error {
	q.note("rest %s", ref.MessageID.String()[35:])
	return nil
}

// known plays Plivo: messages by UUID; an unknown one is not found.
type known map[string]mms.Listed

var errPlivo = errors.New("Plivo is down")

func (k known) Get(_ context.Context, plivoUUID string) (mms.Listed, error) {
	if plivoUUID == "broken" {
		return mms.Listed{}, errPlivo
	}
	l, ok := k[plivoUUID]
	if !ok {
		return mms.Listed{}, mms.ErrNotFound
	}
	return l, nil
}

func silentAt(n byte, plivoUUID string) mms.Unreported {
	return mms.Unreported{AttemptRef: mms.AttemptRef{MessageID: uuid.UUID{15: n}, Ordinal: 1}, PlivoUUID: plivoUUID, Sender: "+14155550100", Recipient: "+14155550123"}
}

func newPoller(q *quiet, k known) Job {
	return ReportPoller(q, k, time.Minute, slog.New(slog.DiscardHandler))
}

func TestPollerAppliesWhatPlivoSays(t *testing.T) {
	t.Parallel()
	q := &quiet{pages: [][]mms.Unreported{{silentAt(1, "a"), silentAt(2, "gone"), silentAt(3, "stranger"), silentAt(4, "masked"), silentAt(6, "waits")}, {silentAt(5, "a")}}}
	k := known{
		"a":        {From: "14155550100", To: "14155550123", State: "delivered"},
		"masked":   {From: "14155550100", To: "14155550XXX", State: "sent"},
		"waits":    {From: "14155550100", To: "14155550123", State: "queued"},
		"stranger": {From: "14155550100", To: "14155550199", State: "delivered"},
	}
	if err := newPoller(q, k).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(q.calls)
	want := []string{
		"apply 1 delivered proven true as status_polled", "apply 4 sent proven true as status_polled", "apply 5 delivered proven true as status_polled",
		"apply 6 queued proven true as status_polled", "rest 2", "rest 3", "rest 6",
	}
	if diff := cmp.Diff(want, q.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestPollerStopsWhenPlivoFails(t *testing.T) {
	t.Parallel()
	q := &quiet{pages: [][]mms.Unreported{{silentAt(1, "broken")}, {silentAt(2, "a")}}}
	if err := newPoller(q, known{}).Run(t.Context()); !errors.Is(err, errPlivo) {
		t.Errorf("Sweep() = %v, want Plivo's failure", err)
	}
	if len(q.pages) != 1 {
		t.Error("more messages were taken although Plivo fails")
	}
}

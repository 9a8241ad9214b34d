package intake_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"postcard/internal/intake"
	"postcard/internal/invalid"
	"postcard/internal/mms"
)

// trace notes what the intake did, in order, as store and as queue.
type trace struct {
	steps      []string
	old        mms.Message // what is sent again
	stored     mms.Message
	task       mms.Task
	deadline   time.Duration // what the queue was given
	storeErr   error
	queueErr   error
	afterStore func()
}

func (s *trace) Accept(_ context.Context, o mms.Order) (mms.Taken, error) {
	m := o.Message
	s.steps = append(s.steps, "store")
	s.stored = m
	if s.afterStore != nil {
		s.afterStore()
	}
	m.Version = 7 // what the database says counts
	return mms.Taken{Message: m}, s.storeErr
}

func (s *trace) AcceptBatch(context.Context, mms.BatchOrder, mms.Fill) (mms.TakenBatch, error) {
	return mms.TakenBatch{}, s.storeErr
}

func (s *trace) Message(context.Context, uuid.UUID, uuid.UUID) (mms.History, error) {
	return mms.History{Message: s.old}, s.storeErr
}

func (s *trace) Forecast(_ context.Context, m mms.Message) (mms.Forecast, error) {
	return mms.Forecast{Message: m}, s.storeErr
}

func (s *trace) Now(context.Context) (time.Time, error) { return now, s.storeErr }

func (s *trace) Enqueue(ctx context.Context, task mms.Task) error {
	s.steps = append(s.steps, "enqueue")
	s.task = task
	if deadline, ok := ctx.Deadline(); ok {
		s.deadline = time.Until(deadline)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.queueErr
}

func newIntake(s *trace) (*intake.Intake, *bytes.Buffer) {
	logs := &bytes.Buffer{}
	return &intake.Intake{
		Rules: mms.Rules{Countries: []string{"US", "CA"}, Senders: []mms.Number{"+14155550100"}},
		Store: s, Queue: s, Logger: slog.New(slog.NewTextHandler(logs, nil)),
	}, logs
}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var draft = mms.Draft{To: "+14155550123", Text: "hello", MediaURL: "https://example.com/a.jpg"}

func TestAccept(t *testing.T) {
	t.Parallel()
	s := &trace{}
	in, logs := newIntake(s)
	owner := uuid.New()
	got, err := in.Accept(t.Context(), mms.Author{User: owner}, draft)
	if err != nil {
		t.Fatal(err)
	}
	want := mms.Message{
		ID: got.ID, Owner: owner, Sender: "+14155550100", Recipient: "+14155550123", Text: "hello",
		MediaURLs: []string{"https://example.com/a.jpg"}, Status: mms.Queued, ValidFor: mms.DefaultValidFor, Version: 7, Priority: mms.Normal,
	}
	if diff := cmp.Diff(want, got.Message); diff != "" {
		t.Error(diff)
	}
	if got.ID.Version() != 7 {
		t.Errorf("id %v is not a UUIDv7", got.ID)
	}
	if diff := cmp.Diff([]string{"store", "enqueue"}, s.steps); diff != "" {
		t.Errorf("enqueue only after commit: %s", diff)
	}
	if want := (mms.Task{MessageID: got.ID, Generation: 1, Priority: mms.Normal}); s.task != want {
		t.Errorf("task %v, want %v", s.task, want)
	}
	if s.deadline <= 0 || s.deadline > time.Second {
		t.Errorf("the queue was given %v: whoever sends should not wait for a dead Redis", s.deadline)
	}
	if logs.Len() > 0 {
		t.Errorf("logged: %s", logs)
	}
}

func TestAcceptWithoutRedis(t *testing.T) {
	t.Parallel()
	s := &trace{queueErr: errors.New("connection refused")}
	in, logs := newIntake(s)
	got, err := in.Accept(t.Context(), mms.Author{User: uuid.New()}, draft)
	if err != nil || got.ID != s.stored.ID {
		t.Errorf("got %v, %v; want the stored message", got, err)
	}
	if !strings.Contains(logs.String(), got.ID.String()) || strings.Contains(logs.String(), "0123") {
		t.Errorf("want a log line that names the message and no number, got: %s", logs)
	}
}

// A client that goes away between commit and answer leaves an accepted message.
func TestAcceptClientGone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := &trace{afterStore: cancel}
	in, logs := newIntake(s)
	if _, err := in.Accept(ctx, mms.Author{User: uuid.New()}, draft); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"store", "enqueue"}, s.steps); diff != "" {
		t.Error(diff)
	}
	if logs.Len() > 0 {
		t.Errorf("the task was not enqueued: %s", logs)
	}
}

func TestAcceptStoreFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err   error
		tries int
	}{{mms.ErrUnavailable, 4}, {errors.New("a fault of ours"), 1}} {
		synctest.Test(t, func(t *testing.T) {
			s := &trace{storeErr: tt.err}
			in, _ := newIntake(s)
			if _, err := in.Accept(t.Context(), mms.Author{User: uuid.New()}, draft); !errors.Is(err, tt.err) {
				t.Errorf("got error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(slices.Repeat([]string{"store"}, tt.tries), s.steps); diff != "" {
				t.Errorf("what is not stored must not be enqueued: %s", diff)
			}
		})
	}
}

func TestAcceptBadDraft(t *testing.T) {
	t.Parallel()
	s := &trace{}
	in, _ := newIntake(s)
	_, err := in.Accept(t.Context(), mms.Author{User: uuid.New()}, mms.Draft{To: "123", Text: strings.Repeat("x", mms.MaxText+1), MediaURL: "ftp://x"})
	var faults invalid.Fields
	if !errors.As(err, &faults) {
		t.Fatalf("got error %v, want invalid.Fields", err)
	}
	var rules []string
	for _, f := range faults {
		rules = append(rules, f.Name+" "+f.Rule)
	}
	if diff := cmp.Diff([]string{"to e164", "text max_length", "mediaUrl media_url"}, rules); diff != "" {
		t.Error(diff)
	}
	if len(s.steps) > 0 {
		t.Errorf("a bad draft went on to %v", s.steps)
	}
}

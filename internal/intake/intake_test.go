package intake_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
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

func (s *trace) CreateMessage(_ context.Context, o mms.CreateRequest) (mms.CreateResult, error) {
	m := o.Message
	s.steps = append(s.steps, "store")
	s.stored = m
	if s.afterStore != nil {
		s.afterStore()
	}
	m.Version = 7 // what the database says counts
	return mms.CreateResult{Message: m}, s.storeErr
}

func (s *trace) CreateBatch(context.Context, mms.BatchRequest, mms.Fill) (mms.BatchResult, error) {
	return mms.BatchResult{}, s.storeErr
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
		Rules: mms.Rules{Countries: []string{"US", "CA"}, Senders: []mms.PhoneNumber{"+14155550100"}},
		Store: s, Queue: s, Logger: slog.New(slog.NewTextHandler(logs, nil)),
	}, logs
}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var draft = mms.CreateParams{To: "+14155550123", Text: "hello", MediaURL: "https://example.com/a.jpg"}

func TestAccept(t *testing.T) {
	t.Parallel()
	s := &trace{}
	in, logs := newIntake(s)
	owner := uuid.New()
	got, err := in.CreateMessage(t.Context(), mms.Submitter{User: owner}, draft)
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
	got, err := in.CreateMessage(t.Context(), mms.Submitter{User: uuid.New()}, draft)
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
	if _, err := in.CreateMessage(ctx, mms.Submitter{User: uuid.New()}, draft); err != nil {
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
			if _, err := in.CreateMessage(t.Context(), mms.Submitter{User: uuid.New()}, draft); !errors.Is(err, tt.err) {
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
	_, err := in.CreateMessage(t.Context(), mms.Submitter{User: uuid.New()}, mms.CreateParams{To: "123", Text: strings.Repeat("x", mms.MaxText+1), MediaURL: "ftp://x"})
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

func TestSendingAgain(t *testing.T) {
	t.Parallel()
	final := now
	for name, tt := range map[string]struct {
		old  mms.Message
		from mms.PhoneNumber
		err  error
	}{
		"what failed":          {mms.Message{Status: mms.Failed, FinalAt: &final}, "+14155550100", nil},
		"what is sent":         {mms.Message{Status: mms.Sent}, "+14155550100", nil},
		"what is under way":    {mms.Message{Status: mms.Submitted}, "", mms.ErrNotFinal},
		"what is in doubt":     {mms.Message{Status: mms.InDoubt, Held: true}, "", mms.ErrNotFinal},
		"by a sender gone now": {mms.Message{Status: mms.Failed, FinalAt: &final, Sender: "+14155559999"}, "+14155550100", nil},
	} {
		tt.old.ID, tt.old.Recipient, tt.old.MediaURLs = uuid.New(), "+14155550123", []string{"https://example.com/a.jpg"}
		tt.old.Metadata, tt.old.Priority = map[string]string{"order": "17"}, mms.High
		if tt.old.Sender == "" {
			tt.old.Sender = "+14155550100"
		}
		s := &trace{old: tt.old}
		in, _ := newIntake(s)
		got, err := in.Resend(t.Context(), mms.Submitter{User: uuid.New()}, tt.old.ID, mms.Idempotency{})
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && (got.ResendOf != tt.old.ID || got.Sender != tt.from || got.Metadata["order"] != "17" || s.task.Priority != mms.High) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAScheduledMessageIsNotEnqueued(t *testing.T) {
	t.Parallel()
	s := &trace{}
	in, _ := newIntake(s)
	d := draft
	d.SendAt = now.Add(time.Hour).Format(time.RFC3339)
	if got, err := in.CreateMessage(t.Context(), mms.Submitter{User: uuid.New()}, d); err != nil || got.Status != mms.Scheduled {
		t.Errorf("%+v, %v", got, err)
	}
	if diff := cmp.Diff([]string{"store"}, s.steps); diff != "" {
		t.Error(diff)
	}
}

func TestAForecastStoresNothing(t *testing.T) {
	t.Parallel()
	s := &trace{}
	in, _ := newIntake(s)
	if f, err := in.Forecast(t.Context(), mms.Submitter{User: uuid.New()}, draft); err != nil || f.Sender != "+14155550100" || len(s.steps) != 0 {
		t.Errorf("%+v, %v, %v", f, err, s.steps)
	}
	if _, err := in.Forecast(t.Context(), mms.Submitter{User: uuid.New()}, mms.CreateParams{}); err == nil {
		t.Error("an empty draft has a forecast")
	}
}

// list is rows in memory; an error takes a row's place.
type list []any

func (l *list) Next() (map[string]string, error) {
	if len(*l) == 0 {
		return nil, io.EOF
	}
	first := (*l)[0]
	*l = (*l)[1:]
	if err, ok := first.(error); ok {
		return nil, err
	}
	return map[string]string{"to": first.(string)}, nil
}

func TestRowsOfABatch(t *testing.T) {
	t.Parallel()
	badRow := invalid.Fields{{Name: "row", Rule: "columns"}}
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		rows       list
		acceptGood bool
		stored     int
		rejected   string
		err        error
	}{
		"all good":         {list{"+14155550123", "+14155550124"}, false, 2, "", nil},
		"one bad, none":    {list{"+14155550123", "1", "+14155550124"}, false, 0, "2 e164", nil},
		"one bad, others":  {list{"+14155550123", "1", badRow, "+14155550124"}, true, 2, "2 e164, 3 columns", nil},
		"twice the same":   {list{"+14155550123", "+14155550123"}, true, 1, "2 duplicate", nil},
		"a file that ends": {list{"+14155550123", broken}, true, 0, "", broken},
		"no row":           {list{}, true, 0, "", invalid.Fields{}},
	} {
		s := &batchStore{trace: &trace{}}
		in, _ := newIntake(s.trace)
		in.Store = s
		_, err := in.CreateBatch(t.Context(), mms.Submitter{User: uuid.New()}, mms.BatchParams{
			CreateValid: tt.acceptGood, CreateParams: mms.CreateParams{MediaURL: "https://example.com/a.jpg"},
		}, &tt.rows)
		var rejected []string
		for _, f := range s.faults.Errors {
			rejected = append(rejected, fmt.Sprint(f.Row, " ", f.Rule))
		}
		if got := strings.Join(rejected, ", "); got != tt.rejected || s.stored != tt.stored {
			t.Errorf("%s: %d stored, rejected %s; %v", name, s.stored, got, err)
		}
		var fields invalid.Fields
		if _, wantFields := tt.err.(invalid.Fields); wantFields != errors.As(err, &fields) || !wantFields && !errors.Is(err, tt.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := make(list, mms.MaxRows+1)
	for i := range many {
		many[i] = badRow
	}
	s := &batchStore{trace: &trace{}}
	in, _ := newIntake(s.trace)
	in.Store = s
	_, err := in.CreateBatch(t.Context(), mms.Submitter{User: uuid.New()}, mms.BatchParams{CreateParams: mms.CreateParams{MediaURL: "https://example.com/a.jpg"}}, &many)
	var fields invalid.Fields
	if !errors.As(err, &fields) || fields[0].Rule != "max_items" || len(s.faults.Errors) != mms.MaxRowErrors {
		t.Errorf("%d faults are kept: %v", len(s.faults.Errors), err)
	}
}

// batchStore counts what a batch stores.
type batchStore struct {
	*trace
	stored int
	faults mms.RowErrors
}

func (s *batchStore) CreateBatch(ctx context.Context, _ mms.BatchRequest, fill mms.Fill) (mms.BatchResult, error) {
	accepted, faults, err := fill(ctx, func(_ context.Context, messages []mms.Message) error {
		s.stored += len(messages)
		return nil
	})
	s.faults = faults
	if err == nil && accepted != s.stored && faults.Rejected == 0 {
		return mms.BatchResult{}, fmt.Errorf("%d accepted, %d stored", accepted, s.stored)
	}
	return mms.BatchResult{}, err
}

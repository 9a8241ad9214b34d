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

// fakeStore is both the store and the queue, so that calls holds the order of calls to
// both. It is its own batch writer.
type fakeStore struct {
	calls       []string
	message     mms.Message // returned by Message
	created     mms.Message
	task        mms.Task
	timeout     time.Duration // of the queue's context
	storeErr    error
	commitErr   error     // of a batch
	attempts    []attempt // to create a message, before storeErr
	queueErr    error
	afterCreate func()

	replay    *mms.BatchResult
	under     error // returned by MessageCreatedUnder and BatchCreatedUnder
	added     int   // messages of the batch
	committed bool
	rejected  mms.RowErrors
}

func (s *fakeStore) CreateMessage(ctx context.Context, request mms.CreateRequest) (mms.CreateResult, error) {
	m := request.Message
	s.calls = append(s.calls, "create")
	s.created = m
	if s.afterCreate != nil {
		s.afterCreate()
	}
	if len(s.attempts) > 0 {
		next := s.attempts[0]
		if len(s.attempts) > 1 {
			s.attempts = s.attempts[1:]
		}
		select {
		case <-time.After(next.takes):
		case <-ctx.Done():
		}
		return mms.CreateResult{Message: m}, next.err
	}
	m.Version = 7 // differs from the request
	return mms.CreateResult{Message: m}, s.storeErr
}

func (s *fakeStore) MessageCreatedUnder(context.Context, uuid.UUID, mms.Idempotency) (mms.CreateResult, error) {
	s.calls = append(s.calls, "look up")
	return mms.CreateResult{Message: s.message, Replayed: s.under == nil}, s.under
}

func (s *fakeStore) BatchCreatedUnder(context.Context, uuid.UUID, mms.Idempotency) (mms.BatchResult, error) {
	s.calls = append(s.calls, "look up")
	if errors.Is(s.under, mms.ErrNotFound) {
		return mms.BatchResult{}, mms.ErrBatchNotFound
	}
	return mms.BatchResult{Batch: mms.Batch{Created: 3}, Replayed: s.under == nil}, s.under
}

func (s *fakeStore) BeginBatch(context.Context, mms.BatchRequest) (mms.BatchWriter, *mms.BatchResult, error) {
	s.calls = append(s.calls, "begin")
	if s.replay != nil {
		return nil, s.replay, s.storeErr
	}
	return s, nil, s.storeErr
}

func (s *fakeStore) Add(_ context.Context, messages []mms.Message) error {
	s.added += len(messages)
	return nil
}

func (s *fakeStore) Commit(_ context.Context, rejected mms.RowErrors) (mms.BatchResult, error) {
	s.calls = append(s.calls, "commit")
	s.committed, s.rejected = true, rejected
	return mms.BatchResult{Batch: mms.Batch{Created: s.added, Rejected: rejected.Rejected}}, s.commitErr
}

func (s *fakeStore) Rollback() { s.calls = append(s.calls, "rollback") }

func (s *fakeStore) Message(context.Context, uuid.UUID, uuid.UUID) (mms.History, error) {
	return mms.History{Message: s.message}, s.storeErr
}

func (s *fakeStore) Forecast(_ context.Context, m mms.Message, _ []mms.PhoneNumber) (mms.Forecast, error) {
	return mms.Forecast{Message: m}, s.storeErr
}

func (s *fakeStore) Now(context.Context) (time.Time, error) { return now, s.storeErr }

func (s *fakeStore) Enqueue(ctx context.Context, task mms.Task) error {
	s.calls = append(s.calls, "enqueue")
	s.task = task
	if deadline, ok := ctx.Deadline(); ok {
		s.timeout = time.Until(deadline)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.queueErr
}

func newIntake(s *fakeStore) (*intake.Intake, *bytes.Buffer) {
	logs := &bytes.Buffer{}
	return &intake.Intake{
		Rules: mms.Rules{Countries: []string{"US", "CA"}, Senders: []mms.PhoneNumber{"+14155550100"}},
		Store: s, Queue: s, Logger: slog.New(slog.NewTextHandler(logs, nil)),
	}, logs
}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var params = mms.CreateParams{To: "+14155550123", Text: "hello", MediaURL: "https://example.com/a.jpg"}

func TestCreateMessageStoresThenEnqueues(t *testing.T) {
	t.Parallel()
	s := &fakeStore{}
	in, logs := newIntake(s)
	workspace := uuid.New()
	got, err := in.CreateMessage(t.Context(), mms.Submitter{Workspace: workspace}, params)
	if err != nil {
		t.Fatal(err)
	}
	want := mms.Message{
		ID: got.ID, Workspace: workspace, Sender: "+14155550100", Recipient: "+14155550123", Text: "hello",
		MediaURLs: []string{"https://example.com/a.jpg"}, Status: mms.Queued, ValidFor: mms.DefaultValidFor, Version: 7, Priority: mms.Normal, Fit: mms.FitAuto,
	}
	if diff := cmp.Diff(want, got.Message); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	if got.ID.Version() != 7 {
		t.Errorf("got id %v, want a UUIDv7", got.ID)
	}
	if diff := cmp.Diff([]string{"create", "enqueue"}, s.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if want := (mms.Task{MessageID: got.ID, Generation: 1, Priority: mms.Normal}); s.task != want {
		t.Errorf("got task %v, want %v", s.task, want)
	}
	if s.timeout <= 0 || s.timeout > time.Second {
		t.Errorf("got an enqueue timeout of %v, want at most 1s", s.timeout)
	}
	if logs.Len() > 0 {
		t.Errorf("got logs %s, want none", logs)
	}
}

func TestCreateMessageSucceedsWithoutRedis(t *testing.T) {
	t.Parallel()
	s := &fakeStore{queueErr: errors.New("connection refused")}
	in, logs := newIntake(s)
	got, err := in.CreateMessage(t.Context(), mms.Submitter{Workspace: uuid.New()}, params)
	if err != nil || got.ID != s.created.ID {
		t.Errorf("got %v, %v, want the stored message", got, err)
	}
	if !strings.Contains(logs.String(), got.ID.String()) || strings.Contains(logs.String(), "4155550123") {
		t.Errorf("got log %s, want the message id and no phone number", logs)
	}
}

func TestMessageIsEnqueuedAfterItsClientDisconnects(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := &fakeStore{afterCreate: cancel}
	in, logs := newIntake(s)
	if _, err := in.CreateMessage(ctx, mms.Submitter{Workspace: uuid.New()}, params); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"create", "enqueue"}, s.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if logs.Len() > 0 {
		t.Errorf("got logs %s, want none", logs)
	}
}

// attempt is what one call of CreateMessage of the fake store does.
type attempt struct {
	takes time.Duration
	err   error
}

// errUnavailable says that the message is not stored, unknown that it may be.
var (
	errUnavailable = fmt.Errorf("creating: %w", mms.ErrUnavailable)
	unknown        = mms.OutcomeUnknownError{ID: uuid.Max, Err: errors.New("the connection broke")}
)

// TestUnavailableStore checks how often a message is stored before the request's
// deadline, 7 s, and what its submitter gets to know.
func TestUnavailableStore(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	for name, tt := range map[string]struct {
		attempts []attempt // the last one repeats
		calls    int
		want     string
	}{
		"at once":                       {[]attempt{{0, nil}}, 1, "stored"},
		"other error":                   {[]attempt{{0, other}}, 1, "other"},
		"rejected":                      {[]attempt{{0, errUnavailable}}, 4, "not stored"},
		"rejected, then stored":         {[]attempt{{0, errUnavailable}, {0, nil}}, 2, "stored"},
		"slow":                          {[]attempt{{2 * time.Second, errUnavailable}}, 2, "not stored"},
		"hangs":                         {[]attempt{{time.Hour, errUnavailable}}, 1, "not stored"},
		"no time for a retry":           {[]attempt{{4 * time.Second, errUnavailable}}, 1, "not stored"},
		"answer lost":                   {[]attempt{{0, unknown}}, 4, "unknown"},
		"answer lost, then found":       {[]attempt{{3 * time.Second, unknown}, {0, nil}}, 2, "stored"},
		"answer lost, then unavailable": {[]attempt{{0, unknown}, {0, errUnavailable}}, 4, "unknown"},
		"answer lost, then refused":     {[]attempt{{0, unknown}, {0, mms.ErrInFlight}}, 2, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &fakeStore{attempts: tt.attempts}
				in, _ := newIntake(s)
				ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
				defer cancel()
				start := time.Now()
				_, err := in.CreateMessage(ctx, mms.Submitter{Workspace: uuid.New()}, params)
				if got := outcome(err, s.created.ID); got != tt.want {
					t.Errorf("got %s (error %v), want %s", got, err, tt.want)
				}
				if got := strings.Count(strings.Join(s.calls, " "), "create"); got != tt.calls {
					t.Errorf("got %d attempts, want %d", got, tt.calls)
				}
				if took := time.Since(start); took > 7*time.Second {
					t.Errorf("got an answer after %v, want it before the deadline", took)
				}
			})
		})
	}
}

// outcome says what an error of creating the message or batch with this id means.
func outcome(err error, id uuid.UUID) string {
	var unknown mms.OutcomeUnknownError
	switch {
	case err == nil:
		return "stored"
	case errors.As(err, &unknown) && unknown.ID == id && errors.Is(err, mms.ErrUnavailable) && !errors.Is(err, mms.ErrNotStored):
		return "unknown"
	case errors.Is(err, mms.ErrNotStored) && errors.Is(err, mms.ErrUnavailable):
		return "not stored"
	default:
		return err.Error()[strings.LastIndex(err.Error(), " ")+1:]
	}
}

// TestNothingIsStoredBeforeTheStore: an error of what precedes the statement.
func TestNothingIsStoredBeforeTheStore(t *testing.T) {
	t.Parallel()
	in, _ := newIntake(&fakeStore{storeErr: errUnavailable})
	scheduled := params
	scheduled.SendAt = now.Add(time.Hour).Format(time.RFC3339)
	by := mms.Submitter{Workspace: uuid.New()}
	_, create := in.CreateMessage(t.Context(), by, scheduled)
	_, resend := in.Resend(t.Context(), by, uuid.New(), mms.Idempotency{})
	_, forecast := in.Forecast(t.Context(), by, params)
	_, batch := in.CreateBatch(t.Context(), by, mms.BatchParams{CreateParams: mms.CreateParams{MediaURL: params.MediaURL}}, &numberedRows{fakeRows: fakeRows{"+14155550123"}})
	for name, err := range map[string]error{"create": create, "resend": resend, "forecast": forecast, "batch": batch} {
		if got := outcome(err, uuid.Nil); got != "not stored" {
			t.Errorf("%s: got %s, want not stored", name, got)
		}
	}
}

func TestBatchWithUnknownOutcome(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	s := &fakeStore{commitErr: mms.OutcomeUnknownError{ID: id, Err: errors.New("the connection broke")}}
	if _, err := createBatch(t, s, false, fakeRows{"+14155550123"}); outcome(err, id) != "unknown" {
		t.Errorf("got error %v, want an unknown outcome", err)
	}
}

func TestInvalidParamsAreNotStored(t *testing.T) {
	t.Parallel()
	s := &fakeStore{}
	in, _ := newIntake(s)
	_, err := in.CreateMessage(t.Context(), mms.Submitter{Workspace: uuid.New()}, mms.CreateParams{To: "123", Text: strings.Repeat("x", mms.MaxText+1), MediaURL: "ftp://x"})
	var violations invalid.Fields
	if !errors.As(err, &violations) {
		t.Fatalf("got error %v, want invalid.Fields", err)
	}
	var rules []string
	for _, v := range violations {
		rules = append(rules, v.Name+" "+v.Rule)
	}
	if diff := cmp.Diff([]string{"to e164", "text max_length", "mediaUrl media_url"}, rules); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
	if len(s.calls) > 0 {
		t.Errorf("got calls %v, want none", s.calls)
	}
}

func TestResend(t *testing.T) {
	t.Parallel()
	final := now
	for name, tt := range map[string]struct {
		old mms.Message
		err error
	}{
		"failed":                   {mms.Message{Status: mms.Failed, FinalAt: &final}, nil},
		"sent":                     {mms.Message{Status: mms.Sent}, nil},
		"submitted":                {mms.Message{Status: mms.Submitted}, mms.ErrNotFinal},
		"held in doubt":            {mms.Message{Status: mms.InDoubt, Held: true}, mms.ErrNotFinal},
		"failed, sender not known": {mms.Message{Status: mms.Failed, FinalAt: &final, Sender: "+14155559999"}, nil},
	} {
		tt.old.ID, tt.old.Recipient, tt.old.MediaURLs = uuid.New(), "+14155550123", []string{"https://example.com/a.jpg"}
		tt.old.Metadata, tt.old.Priority = map[string]string{"order": "17"}, mms.High
		if tt.old.Sender == "" {
			tt.old.Sender = "+14155550100"
		}
		s := &fakeStore{message: tt.old}
		in, _ := newIntake(s)
		got, err := in.Resend(t.Context(), mms.Submitter{Workspace: uuid.New()}, tt.old.ID, mms.Idempotency{})
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: got error %v, want %v", name, err, tt.err)
		}
		if err == nil && (got.ResendOf != tt.old.ID || got.Sender != "+14155550100" || got.Metadata["order"] != "17" || s.task.Priority != mms.High) {
			t.Errorf("%s: got %+v, want the content of the old message", name, got)
		}
	}
}

func TestResendKeepsValidFor(t *testing.T) {
	t.Parallel()
	final, sendAt := now, now.Add(time.Hour)
	for name, tt := range map[string]struct {
		old  mms.Message
		want time.Duration
	}{
		"ten minutes":            {mms.Message{CreatedAt: now, ExpiresAt: now.Add(10 * time.Minute)}, 10 * time.Minute},
		"of a batch":             {mms.Message{CreatedAt: now, ExpiresAt: now.Add(mms.BatchValidFor)}, mms.BatchValidFor},
		"scheduled":              {mms.Message{CreatedAt: now, SendAt: &sendAt, ExpiresAt: sendAt.Add(20 * time.Minute)}, 20 * time.Minute},
		"prolonged by a person":  {mms.Message{CreatedAt: now, ExpiresAt: now.Add(40 * 24 * time.Hour)}, mms.MaxValidFor},
		"a fraction of a second": {mms.Message{CreatedAt: now, ExpiresAt: now.Add(10*time.Minute - time.Microsecond)}, 10 * time.Minute},
		"not known":              {mms.Message{}, mms.DefaultValidFor},
	} {
		tt.old.ID, tt.old.Recipient, tt.old.Sender, tt.old.MediaURLs = uuid.New(), "+14155550123", "+14155550100", []string{"https://example.com/a.jpg"}
		tt.old.Priority, tt.old.Status, tt.old.FinalAt = mms.Normal, mms.Failed, &final
		in, _ := newIntake(&fakeStore{message: tt.old})
		got, err := in.Resend(t.Context(), mms.Submitter{Workspace: uuid.New()}, tt.old.ID, mms.Idempotency{})
		if err != nil || got.ValidFor != tt.want || got.SendAt != nil {
			t.Errorf("%s: got valid for %v, to be sent at %v, %v, want %v and now", name, got.ValidFor, got.SendAt, err, tt.want)
		}
	}
}

func TestScheduledMessageIsNotEnqueued(t *testing.T) {
	t.Parallel()
	s := &fakeStore{}
	in, _ := newIntake(s)
	scheduled := params
	scheduled.SendAt = now.Add(time.Hour).Format(time.RFC3339)
	if got, err := in.CreateMessage(t.Context(), mms.Submitter{Workspace: uuid.New()}, scheduled); err != nil || got.Status != mms.Scheduled {
		t.Errorf("got %+v, %v, want a scheduled message", got, err)
	}
	if diff := cmp.Diff([]string{"create"}, s.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestForecastStoresNothing(t *testing.T) {
	t.Parallel()
	s := &fakeStore{}
	in, _ := newIntake(s)
	if f, err := in.Forecast(t.Context(), mms.Submitter{Workspace: uuid.New()}, params); err != nil || f.Sender != "+14155550100" || len(s.calls) != 0 {
		t.Errorf("got %+v, %v and calls %v, want a forecast and no call", f, err, s.calls)
	}
	if _, err := in.Forecast(t.Context(), mms.Submitter{Workspace: uuid.New()}, mms.CreateParams{}); err == nil {
		t.Error("got a forecast of invalid params, want an error")
	}
}

// fakeRows yields recipients; an error takes a row's place.
type fakeRows []any

func (r *fakeRows) Next() (map[string]string, error) {
	if len(*r) == 0 {
		return nil, io.EOF
	}
	first := (*r)[0]
	*r = (*r)[1:]
	if err, ok := first.(error); ok {
		return nil, err
	}
	return map[string]string{"to": first.(string)}, nil
}

// numberedRows counts rows as a spreadsheet does: the first one names the columns.
type numberedRows struct {
	fakeRows
	row int
}

func (r *numberedRows) Next() (map[string]string, error) {
	r.row++
	return r.fakeRows.Next()
}

func (r *numberedRows) Row() int { return r.row }

var malformedRow = invalid.Fields{{Name: "row", Rule: "columns"}}

func createBatch(t *testing.T, s *fakeStore, createValid bool, rows fakeRows) (mms.BatchResult, error) {
	t.Helper()
	in, _ := newIntake(s)
	return in.CreateBatch(t.Context(), mms.Submitter{Workspace: uuid.New()}, mms.BatchParams{
		CreateValid: createValid, CreateParams: mms.CreateParams{MediaURL: "https://example.com/a.jpg"},
	}, &numberedRows{rows, 1})
}

func TestCreateBatch(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rows        fakeRows
		createValid bool
		created     int
		rejected    string
	}{
		"all valid":                   {fakeRows{"+14155550123", "+14155550124"}, false, 2, ""},
		"invalid rows":                {fakeRows{"+14155550123", "1", malformedRow, "+14155550124"}, true, 2, "3 e164, 4 columns"},
		"duplicate row":               {fakeRows{"+14155550123", "+14155550123"}, true, 1, "3 duplicate"},
		"rows for several statements": {manyRows(2500), false, 2500, ""},
	} {
		s := &fakeStore{}
		result, err := createBatch(t, s, tt.createValid, tt.rows)
		if err != nil || !s.committed || result.Created != tt.created || describe(s.rejected) != tt.rejected {
			t.Errorf("%s: got %d created, rejected %q, %v, want %d and %q", name, result.Created, describe(s.rejected), err, tt.created, tt.rejected)
		}
	}
}

func manyRows(n int) fakeRows {
	var rows fakeRows
	for i := range n {
		rows = append(rows, fmt.Sprintf("+1416%07d", 2000000+i))
	}
	return rows
}

func describe(rejected mms.RowErrors) string {
	var errs []string
	for _, e := range rejected.Errors {
		errs = append(errs, fmt.Sprint(e.Row, " ", e.Rule))
	}
	return strings.Join(errs, ", ")
}

func TestRejectedBatchIsRolledBack(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	isField := func(rule string) func(error) bool {
		return func(err error) bool {
			var violations invalid.Fields
			return errors.As(err, &violations) && violations[0].Rule == rule
		}
	}
	isRows := func(want string) func(error) bool {
		return func(err error) bool {
			var rejected mms.RowErrors
			return errors.As(err, &rejected) && describe(rejected) == want
		}
	}
	for name, tt := range map[string]struct {
		rows        fakeRows
		createValid bool
		added       int
		want        func(error) bool
	}{
		"one invalid row":  {fakeRows{"+14155550123", "1", "+14155550124"}, false, 0, isRows("3 e164")},
		"invalid last row": {append(manyRows(1000), "1"), false, 1000, isRows("1002 e164")},
		"no valid row":     {fakeRows{"1"}, true, 0, isRows("2 e164")},
		"unreadable file":  {fakeRows{"+14155550123", broken}, true, 0, func(err error) bool { return errors.Is(err, broken) }},
		"no row":           {fakeRows{}, true, 0, isField("required")},
		"one row too many": {slices.Repeat(fakeRows{malformedRow}, mms.MaxRows+1), true, 0, isField("max_items")},
		"most rows allowed": {slices.Repeat(fakeRows{malformedRow}, mms.MaxRows), true, 0, func(err error) bool {
			var rejected mms.RowErrors
			return errors.As(err, &rejected) && rejected.Rejected == mms.MaxRows && len(rejected.Errors) == mms.MaxRowErrors
		}},
	} {
		s := &fakeStore{}
		_, err := createBatch(t, s, tt.createValid, tt.rows)
		if !tt.want(err) || s.added != tt.added {
			t.Errorf("%s: got error %.200v after adding %d messages, want another error or %d", name, err, s.added, tt.added)
		}
		if diff := cmp.Diff([]string{"begin", "rollback"}, s.calls); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", name, diff)
		}
	}
}

func TestReplayedBatchReadsNoRows(t *testing.T) {
	t.Parallel()
	replay := &mms.BatchResult{Batch: mms.Batch{Created: 3}, Replayed: true}
	s := &fakeStore{replay: replay}
	got, err := createBatch(t, s, false, fakeRows{errors.New("must not be read")})
	if diff := cmp.Diff(*replay, got); diff != "" || err != nil {
		t.Errorf("result (-want +got):\n%s%v", diff, err)
	}
}

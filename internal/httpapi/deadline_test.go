package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeIntake fails to create anything.
type fakeIntake struct {
	httpapi.Intake
	err error
}

func (f fakeIntake) CreateMessage(context.Context, mms.Submitter, mms.CreateParams) (mms.CreateResult, error) {
	return mms.CreateResult{}, f.err
}

func (f fakeIntake) Forecast(context.Context, mms.Submitter, mms.CreateParams) (mms.Forecast, error) {
	return mms.Forecast{}, f.err
}

func (f fakeIntake) Resend(context.Context, mms.Submitter, uuid.UUID, mms.Idempotency) (mms.CreateResult, error) {
	return mms.CreateResult{}, f.err
}

func (f fakeIntake) CreateBatch(context.Context, mms.Submitter, mms.BatchParams, intake.Rows) (mms.BatchResult, error) {
	return mms.BatchResult{}, f.err
}

// TestOutcome checks what a 503 says about what the request was to change.
func TestOutcome(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("019ab000-0000-7000-8000-000000000001")
	unavailable := fmt.Errorf("storing: %w: refused", mms.ErrUnavailable)
	notStored := fmt.Errorf("%w: %w", mms.ErrNotStored, unavailable)
	message := mms.OutcomeUnknownError{ID: id, Err: unavailable}
	batch := mms.OutcomeUnknownError{ID: id, Batch: true, Err: unavailable}
	const (
		nothing = "The service is temporarily unavailable. Nothing was stored. Repeat the request in a few seconds."
		asked   = "The database did not answer in time, so it is unknown whether the %[1]s was stored. If the request had an Idempotency-Key, repeat it with the same key: nothing is created twice. Otherwise get %[2]s before you repeat it: if that is still 404 after a minute, the %[1]s was not stored."
		other   = "The database did not answer in time, so it is unknown whether the request was carried out. Check before you repeat it, unless doing it twice does no harm."
		reading = "The service is temporarily unavailable. Retry in a few seconds."
	)
	rows := `{"mediaUrl":"https://example.com/a.jpg","rows":[{"to":"+14155550123"}]}`
	path := "/api/messages/" + id.String()
	for name, tt := range map[string]struct {
		err                error
		method, path, body string
		want               httpapi.Problem
	}{
		"send, not stored":    {notStored, "POST", "/api/send-mms", validSend, httpapi.Problem{Detail: nothing}},
		"send, unknown":       {message, "POST", "/api/send-mms", validSend, httpapi.Problem{Detail: fmt.Sprintf(asked, "message", path), Outcome: "unknown", ID: &id}},
		"dry run":             {notStored, "POST", "/api/send-mms", `{"dryRun":true}`, httpapi.Problem{Detail: nothing}},
		"resend, unknown":     {message, "POST", path + "/resend", "", httpapi.Problem{Detail: fmt.Sprintf(asked, "message", path), Outcome: "unknown", ID: &id}},
		"batch, not stored":   {notStored, "POST", "/api/batches", rows, httpapi.Problem{Detail: nothing}},
		"batch, unknown":      {batch, "POST", "/api/batches", rows, httpapi.Problem{Detail: fmt.Sprintf(asked, "batch", "/api/batches/"+id.String()), Outcome: "unknown", ID: &id}},
		"cancel, unavailable": {unavailable, "POST", path + "/cancel", "", httpapi.Problem{Detail: other, Outcome: "unknown"}},
		"read, unavailable":   {unavailable, "GET", path, "", httpapi.Problem{Detail: reading}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, func(o *httpapi.Options) { o.Intake = fakeIntake{err: tt.err} })
			ada := s.ada()
			s.messages.err = tt.err
			s.logs.reset()
			got := ada.do(tt.method, tt.path, tt.body)
			checkOpaqueError(t, s, got, http.StatusServiceUnavailable)
			tt.want.Title, tt.want.Status, tt.want.RequestID = "Service Unavailable", 503, "test-request"
			if diff := cmp.Diff(tt.want, decode[httpapi.Problem](t, got), cmp.Transformer("exported", func(p httpapi.Problem) []any {
				return []any{p.Title, p.Status, p.Detail, p.RequestID, p.Outcome, p.ID}
			})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// short is the deadline of requests in the tests below, which take longer.
const short = 50 * time.Millisecond

// withDeadline puts the system behind a deadline.
func withDeadline(t *testing.T) (*system, *client) {
	t.Helper()
	s := newSystem(t)
	ada := s.ada()
	s.handler = httpkit.Deadline(short)(s.handler)
	return s, ada
}

func TestLongPollOutlivesTheDeadline(t *testing.T) {
	t.Parallel()
	s, ada := withDeadline(t)
	m := mms.History{Message: mms.Message{ID: uuid.Must(uuid.NewV7()), Workspace: s.users.users[0].ID, Version: 3}}
	s.messages.put(m)
	got := ada.do("GET", "/api/messages/"+m.ID.String()+"?wait=1s", "", "If-None-Match", `"3"`)
	if got.status != http.StatusNotModified {
		t.Errorf("got %d %s, want 304 after a second", got.status, got.body)
	}
}

func TestStreamOutlivesTheDeadline(t *testing.T) {
	t.Parallel()
	s, ada := withDeadline(t)
	m := mms.History{Message: mms.Message{ID: uuid.Must(uuid.NewV7()), Workspace: s.users.users[0].ID, Status: mms.Queued, Version: 1}}
	s.messages.put(m)
	stream := ada.open(t, "/api/messages/"+m.ID.String()+"/stream")
	if first := stream.next(); !strings.Contains(first, `"status":"queued"`) {
		t.Fatalf("got event %q, want the message", first)
	}
	time.Sleep(2 * short) // what is tested is that time passes
	s.setStatus(m.ID, mms.Sending)
	if next := stream.next(); !strings.Contains(next, `"status":"sending"`) {
		t.Errorf("got event %q, want the change", next)
	}
}

func TestExportOutlivesTheDeadline(t *testing.T) {
	t.Parallel()
	s, ada := withDeadline(t)
	for range 501 { // two pages
		s.messages.put(mms.History{Message: mms.Message{ID: uuid.Must(uuid.NewV7()), Workspace: s.users.users[0].ID, Status: mms.Queued}})
	}
	first := true
	s.messages.onList = func(ctx context.Context) {
		if first {
			<-ctx.Done()
		}
		first = false
	}
	got := ada.do("GET", "/api/messages/export", "")
	if lines := strings.Count(got.body, "\n") + 1; got.status != http.StatusOK || lines != 502 {
		t.Errorf("got %d with %d lines, want 200 with 502", got.status, lines)
	}
}

// slowBody arrives after the deadline.
type slowBody struct{ io.Reader }

func (b slowBody) Read(p []byte) (int, error) {
	time.Sleep(2 * short)
	return b.Reader.Read(p)
}

func TestBatchOutlivesTheDeadline(t *testing.T) {
	t.Parallel()
	_, ada := withDeadline(t)
	r := httptest.NewRequest("POST", "/api/batches", slowBody{strings.NewReader(`{"mediaUrl":"https://example.com/a.jpg","rows":[{"to":"+14155550123"}]}`)})
	r.Header.Set("Content-Type", "application/json")
	r.AddCookie(ada.cookie)
	w := httptest.NewRecorder()
	ada.handler.ServeHTTP(w, r)
	if w.Code != http.StatusAccepted {
		t.Errorf("got %d %s, want 202", w.Code, w.Body)
	}
}

// slowUploads take longer than the deadline that requests have by default.
type slowUploads struct{}

func (slowUploads) Resolve(ctx context.Context, _ uuid.UUID, ids []uuid.UUID, _ mms.Fit) ([]mms.MessageUpload, error) {
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", media.ErrBusy, ctx.Err())
	case <-time.After(2 * short):
		return make([]mms.MessageUpload, len(ids)), nil
	}
}

// TestUploadsOutliveTheDeadline sends one upload, which never has to be made smaller, and
// two.
func TestUploadsOutliveTheDeadline(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *httpapi.Options) { o.Intake.(*intake.Intake).Uploads = slowUploads{} })
	ada := s.ada()
	s.handler = httpkit.Deadline(short)(s.handler)
	for ids, want := range map[string]int{
		fmt.Sprintf("%q", uuid.New()):                http.StatusServiceUnavailable,
		fmt.Sprintf("%q,%q", uuid.New(), uuid.New()): http.StatusAccepted,
	} {
		got := ada.do("POST", "/api/send-mms", `{"to":"+14155550123","mediaIds":[`+ids+`]}`)
		if got.status != want {
			t.Errorf("%s: got %d %s, want %d", ids, got.status, got.body, want)
		}
		if want == http.StatusServiceUnavailable && (got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "Nothing was stored")) {
			t.Errorf("got %v %s, want the advice to repeat the request", got.header, got.body)
		}
	}
}

func TestErrorOfAnEndedDeadlineIsLogged(t *testing.T) {
	t.Parallel()
	s, ada := withDeadline(t)
	s.messages.onList = func(ctx context.Context) { <-ctx.Done() }
	s.messages.err = fmt.Errorf("listing: %w: %w", mms.ErrUnavailable, errors.New("the database did not answer"))
	s.logs.reset()
	checkOpaqueError(t, s, ada.do("GET", "/api/messages", ""), http.StatusServiceUnavailable)
}

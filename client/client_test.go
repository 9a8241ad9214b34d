package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/client"
)

// request is a recorded request.
type request struct {
	Method, URL, Body string
	Header            http.Header
}

// response is a prepared response.
type response struct {
	status int
	header map[string]string
	body   string
}

// fakeAPI records requests and answers with prepared responses, the last one
// repeatedly. A response with status 0 drops the connection.
type fakeAPI struct {
	mu        sync.Mutex
	requests  []request
	responses []response
}

// newAPI starts a fakeAPI and returns it with a client.
func newAPI(t *testing.T, responses ...response) (*fakeAPI, *client.Client) {
	t.Helper()
	api := &fakeAPI{responses: responses}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	return api, client.New(server.URL+"/", "pc_key")
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, request{r.Method, r.URL.String(), string(body), r.Header})
	next := f.responses[0]
	if len(f.responses) > 1 {
		f.responses = f.responses[1:]
	}
	if next.status == 0 {
		panic(http.ErrAbortHandler)
	}
	for name, value := range next.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(next.status)
	_, _ = io.WriteString(w, next.body)
}

func (f *fakeAPI) recorded() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// asJSON encodes a result, so that results of all types can be compared.
func asJSON(t *testing.T, v any) string {
	t.Helper()
	encoded, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

func TestBaseURLMayHaveAPath(t *testing.T) {
	t.Parallel()
	api := &fakeAPI{responses: []response{{status: http.StatusOK, body: "{}"}}}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	for base, want := range map[string]string{
		"": "/api/messages/m%2F1", "/": "/api/messages/m%2F1",
		"/postcard": "/postcard/api/messages/m%2F1", "/tools/postcard//": "/tools/postcard/api/messages/m%2F1",
	} {
		if _, err := client.New(server.URL+base, "pc_key").Message(t.Context(), "m/1"); err != nil {
			t.Fatal(err)
		}
		requests := api.recorded()
		if got := requests[len(requests)-1].URL; got != want {
			t.Errorf("base %q: got %s, want %s", base, got, want)
		}
	}
}

var picture = []string{"https://example.com/a.jpg"}

func TestMethods(t *testing.T) {
	t.Parallel()
	sendAt := time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC)
	message := client.MessageParams{To: "+14155550123", Text: "hello", MediaURLs: picture, SendAt: &sendAt, Metadata: map[string]string{"order": "1017"}}
	batch := client.BatchParams{MediaURL: picture[0], OnError: client.CreateValid, Rows: []map[string]string{{"to": "+14155550123"}}}
	filter := client.Filter{
		Status: "failed", To: "+14155550123", From: "+14155550100", Since: sendAt, Until: sendAt.Add(time.Hour), Text: "hi",
		Batch: "b1", Metadata: map[string]string{"order": "1017"}, Limit: 5,
	}
	for name, tt := range map[string]struct {
		call    func(context.Context, *client.Client) (any, error)
		method  string
		url     string
		body    string
		result  string // members of the response, which the result must contain
		creates bool   // carries an idempotency key
	}{
		"Send": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Send(ctx, message) },
			"POST", "/api/send-mms", `{"to":"+14155550123","text":"hello","mediaUrls":["https://example.com/a.jpg"],"sendAt":"2026-12-24T18:00:00Z","metadata":{"order":"1017"}}`,
			`"id":"m1"`, true,
		},
		"Forecast": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Forecast(ctx, message) },
			"POST", "/api/send-mms", `{"to":"+14155550123","text":"hello","mediaUrls":["https://example.com/a.jpg"],"sendAt":"2026-12-24T18:00:00Z","metadata":{"order":"1017"},"dryRun":true}`,
			`"ratePerMinute":15`, false,
		},
		"Resend": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Resend(ctx, "m/1", "") },
			"POST", "/api/messages/m%2F1/resend", ``, `"resendOf":"m0"`, true,
		},
		"Cancel": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Cancel(ctx, "m1") },
			"POST", "/api/messages/m1/cancel", ``, `"status":"canceled"`, false,
		},
		"Message": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Message(ctx, "m1") },
			"GET", "/api/messages/m1", ``, `"queuePosition":{"ahead":2,"waitSeconds":8,"explanation":"2 messages ahead."}`, false,
		},
		"List without filter": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.List(ctx, client.Filter{}, "") },
			"GET", "/api/messages?", ``, `"nextCursor":"next"`, false,
		},
		"List with filter": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.List(ctx, filter, "next") },
			"GET", "/api/messages?batch=b1&cursor=next&from=%2B14155550100&limit=5&metadata%5Border%5D=1017&since=2026-12-24T18%3A00%3A00Z&status=failed&text=hi&to=%2B14155550123&until=2026-12-24T19%3A00%3A00Z", ``,
			`"nextCursor":"next"`, false,
		},
		"SendBatch": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.SendBatch(ctx, batch) },
			"POST", "/api/batches", `{"mediaUrl":"https://example.com/a.jpg","onError":"create_valid","rows":[{"to":"+14155550123"}]}`,
			`"errors":[{"row":3,"field":"to","rule":"e164","message":"is wrong"}]`, true,
		},
		"Batch": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Batch(ctx, "b1") },
			"GET", "/api/batches/b1", ``, `"remaining":7`, false,
		},
		"PauseBatch": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.PauseBatch(ctx, "b1") },
			"POST", "/api/batches/b1/pause", ``, `"state":"paused"`, false,
		},
		"ResumeBatch": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.ResumeBatch(ctx, "b1") },
			"POST", "/api/batches/b1/resume", ``, `"state":"running"`, false,
		},
		"CancelBatch": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.CancelBatch(ctx, "b1") },
			"POST", "/api/batches/b1/cancel", ``, `"state":"canceled"`, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, c := newAPI(t, response{status: http.StatusOK, body: "{" + tt.result + "}"})
			got, err := tt.call(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(asJSON(t, got), tt.result) {
				t.Errorf("got result %s, want it to contain %s", asJSON(t, got), tt.result)
			}
			requests := api.recorded()
			if len(requests) != 1 {
				t.Fatalf("got %d requests, want 1", len(requests))
			}
			r := requests[0]
			if r.Method != tt.method || r.URL != tt.url || r.Body != tt.body {
				t.Errorf("got %s %s %s,\nwant %s %s %s", r.Method, r.URL, r.Body, tt.method, tt.url, tt.body)
			}
			if got := r.Header.Get("Authorization"); got != "Bearer pc_key" {
				t.Errorf("got Authorization %q", got)
			}
			if got := r.Header.Get("Content-Type"); (got == "application/json") != (tt.body != "") {
				t.Errorf("got Content-Type %q for body %q", got, tt.body)
			}
			if got := r.Header.Get("Idempotency-Key"); (got != "") != tt.creates {
				t.Errorf("got Idempotency-Key %q, want one: %t", got, tt.creates)
			}
		})
	}
}

func TestExplicitIdempotencyKeys(t *testing.T) {
	t.Parallel()
	api, c := newAPI(t, response{status: http.StatusOK, body: `{}`})
	_, err1 := c.Send(t.Context(), client.MessageParams{IdempotencyKey: "order-1"})
	_, err2 := c.Resend(t.Context(), "m1", "order-2")
	_, err3 := c.SendBatch(t.Context(), client.BatchParams{IdempotencyKey: "order-3"})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range api.recorded() {
		got = append(got, r.Header.Get("Idempotency-Key"))
	}
	if diff := cmp.Diff([]string{"order-1", "order-2", "order-3"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestGeneratedIdempotencyKeysAreUnique(t *testing.T) {
	t.Parallel()
	api, c := newAPI(t, response{status: http.StatusOK, body: `{}`})
	for range 2 {
		if _, err := c.Send(t.Context(), client.MessageParams{}); err != nil {
			t.Fatal(err)
		}
	}
	requests := api.recorded()
	if requests[0].Header.Get("Idempotency-Key") == requests[1].Header.Get("Idempotency-Key") {
		t.Error("two calls of Send have the same idempotency key")
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		response response
		want     client.Error
		text     string
	}{
		"invalid fields": {
			response{status: 400, body: `{"status":400,"detail":"2 fields are invalid.","requestId":"r1","errors":[{"field":"to","rule":"e164","message":"must be a phone number"},{"field":"text","rule":"max_length","message":"is too long"}]}`},
			client.Error{Status: 400, Detail: "2 fields are invalid.", RequestID: "r1", Errors: []client.FieldError{
				{Field: "to", Rule: "e164", Message: "must be a phone number"}, {Field: "text", Rule: "max_length", Message: "is too long"},
			}},
			"2 fields are invalid (HTTP 400, request r1); to must be a phone number; text is too long",
		},
		"daily cap, with a long Retry-After": {
			response{status: 429, header: map[string]string{"Retry-After": "3600"}, body: `{"detail":"The daily cap is reached."}`},
			client.Error{Status: 429, Detail: "The daily cap is reached.", RetryAfter: time.Hour},
			"The daily cap is reached (HTTP 429)",
		},
		"conflict": {
			response{status: 409, body: `{"detail":"It is too late."}`},
			client.Error{Status: 409, Detail: "It is too late."},
			"It is too late (HTTP 409)",
		},
		"internal error": {
			response{status: 500, body: `{"detail":"An internal error occurred."}`},
			client.Error{Status: 500, Detail: "An internal error occurred."},
			"An internal error occurred (HTTP 500)",
		},
		"detail that ends in dots": {
			response{status: 401, body: `{"detail":"Send the header Authorization: Bearer pc_..."}`},
			client.Error{Status: 401, Detail: "Send the header Authorization: Bearer pc_..."},
			"Send the header Authorization: Bearer pc_... (HTTP 401)",
		},
		"page of a proxy": {
			response{status: 413, body: `<html>too large</html>`},
			client.Error{Status: 413, Detail: "Request Entity Too Large"},
			"Request Entity Too Large (HTTP 413)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, c := newAPI(t, tt.response)
			_, err := c.Send(t.Context(), client.MessageParams{})
			var got *client.Error
			if !errors.As(err, &got) {
				t.Fatalf("got error %v, want a client.Error", err)
			}
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Error(diff)
			}
			if got.Error() != tt.text {
				t.Errorf("got text %q, want %q", got, tt.text)
			}
			if n := len(api.recorded()); n != 1 {
				t.Errorf("got %d requests, want 1: the error is not temporary", n)
			}
		})
	}
}

func TestMalformedResponse(t *testing.T) {
	t.Parallel()
	_, c := newAPI(t, response{status: http.StatusOK, body: `{"id":`})
	c.MaxAttempts = 1
	if _, err := c.Message(t.Context(), "m1"); err == nil || !strings.Contains(err.Error(), "decoding a response") {
		t.Errorf("got error %v, want a decoding error", err)
	}
}

func TestTemporaryErrorsAreRetriedWithTheSameKey(t *testing.T) {
	t.Parallel()
	created := response{status: http.StatusAccepted, body: `{"id":"m1"}`}
	for name, failure := range map[string]response{
		"dropped connection":         {status: 0},
		"rate limit":                 {status: 429, header: map[string]string{"Retry-After": "1"}},
		"negative Retry-After":       {status: 429, header: map[string]string{"Retry-After": "-5"}},
		"bad gateway":                {status: 502, body: "<html>"},
		"service unavailable":        {status: 503},
		"gateway timeout":            {status: 504},
		"request still in progress":  {status: 409, header: map[string]string{"Retry-After": "1"}},
		"response that is cut short": {status: 200, header: map[string]string{"Content-Length": "100"}, body: `{"id":"m`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, c := newAPI(t, failure, created)
			m, err := c.Send(t.Context(), client.MessageParams{To: "+14155550123"})
			if err != nil || m.ID != "m1" {
				t.Fatalf("got message %q and error %v", m.ID, err)
			}
			requests := api.recorded()
			if len(requests) != 2 {
				t.Fatalf("got %d requests, want 2", len(requests))
			}
			first, second := requests[0], requests[1]
			if first.Header.Get("Idempotency-Key") == "" || first.Header.Get("Idempotency-Key") != second.Header.Get("Idempotency-Key") || first.Body != second.Body {
				t.Errorf("got different requests:\n%+v\n%+v", first, second)
			}
		})
	}
}

func TestMaxAttempts(t *testing.T) {
	t.Parallel()
	api, c := newAPI(t, response{status: http.StatusServiceUnavailable})
	c.MaxAttempts = 2
	_, err := c.Send(t.Context(), client.MessageParams{})
	var got *client.Error
	if !errors.As(err, &got) || got.Status != http.StatusServiceUnavailable {
		t.Errorf("got error %v, want the last response", err)
	}
	if n := len(api.recorded()); n != 2 {
		t.Errorf("got %d requests, want 2", n)
	}
}

func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	const body = `{"status":503,"detail":"Unknown.","outcome":"unknown","id":"m1"}`
	unknown := response{status: 503, body: body}
	for name, last := range map[string]response{
		"remains":      {status: 503, body: `{"status":503,"detail":"Unavailable."}`},
		"then refused": {status: 401, body: `{"status":401,"detail":"The key is revoked."}`},
	} {
		api, c := newAPI(t, unknown, last)
		c.MaxAttempts = 2
		_, err := c.Send(t.Context(), client.MessageParams{To: "+14155550123"})
		var got *client.Error
		if !errors.As(err, &got) || got.Outcome != client.OutcomeUnknown || got.ID != "m1" || got.IdempotencyKey == "" ||
			got.IdempotencyKey != api.recorded()[1].Header.Get("Idempotency-Key") {
			t.Errorf("%s: got error %+v, want the unknown outcome with the id and the key", name, err)
		}
	}
	api, c := newAPI(t, unknown, response{status: 202, body: `{"id":"m1"}`})
	if m, err := c.Send(t.Context(), client.MessageParams{To: "+14155550123"}); err != nil || m.ID != "m1" || len(api.recorded()) != 2 {
		t.Errorf("got %+v, %v after %d attempts, want the message after 2", m, err, len(api.recorded()))
	}
}

func TestNoAttemptAfterRetryFor(t *testing.T) {
	t.Parallel()
	api, c := newAPI(t, response{status: 503})
	c.RetryFor = time.Millisecond
	if _, err := c.Message(t.Context(), "m1"); err == nil || len(api.recorded()) != 1 {
		t.Errorf("got error %v after %d attempts, want one attempt", err, len(api.recorded()))
	}
}

func TestCanceledContextEndsRetries(t *testing.T) {
	t.Parallel()
	_, c := newAPI(t, response{status: http.StatusServiceUnavailable, header: map[string]string{"Retry-After": "30"}})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := c.Send(ctx, client.MessageParams{}); err == nil {
		t.Error("got no error")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("returned after %s, want as soon as the context ends", took)
	}
}

// messageResponse is a response of getMessage.
func messageResponse(version, status string, final bool) response {
	body := `{"id":"m1","status":"` + status + `"`
	if final {
		body += `,"final":true`
	}
	return response{status: http.StatusOK, header: map[string]string{"ETag": `W/"` + version + `"`}, body: body + "}"}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	api, c := newAPI(t,
		messageResponse("1", "queued", false),
		response{status: http.StatusNotModified, header: map[string]string{"ETag": `W/"1"`}},
		messageResponse("2", "sent", false),
		messageResponse("3", "delivered", true),
	)
	var changes []string
	m, err := c.Watch(t.Context(), "m1", func(m client.Message) { changes = append(changes, m.Status) })
	if err != nil || m.Status != "delivered" {
		t.Errorf("got %q and error %v, want delivered", m.Status, err)
	}
	if diff := cmp.Diff([]string{"queued", "sent", "delivered"}, changes); diff != "" {
		t.Errorf("changes: %s", diff)
	}
	var got [][2]string
	for _, r := range api.recorded() {
		got = append(got, [2]string{r.URL, r.Header.Get("If-None-Match")})
	}
	want := [][2]string{
		{"/api/messages/m1", ""},
		{"/api/messages/m1?wait=30s", `W/"1"`},
		{"/api/messages/m1?wait=30s", `W/"1"`},
		{"/api/messages/m1?wait=30s", `W/"2"`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests: %s", diff)
	}
}

func TestWatchReturnsLatestStateWhenContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	_, c := newAPI(t, messageResponse("1", "sent", false))
	m, err := c.Watch(ctx, "m1", func(client.Message) { cancel() })
	if !errors.Is(err, context.Canceled) || m.Status != "sent" {
		t.Errorf("got %q and error %v, want the latest state and the context's error", m.Status, err)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	_, c := newAPI(t, messageResponse("1", "queued", false), messageResponse("2", "failed", true))
	if m, err := c.Wait(t.Context(), "m1"); err != nil || m.Status != "failed" || !m.Final {
		t.Errorf("got %q and error %v, want failed", m.Status, err)
	}
}

func TestWaitForUnknownMessage(t *testing.T) {
	t.Parallel()
	_, c := newAPI(t, response{status: http.StatusNotFound, body: `{"detail":"The message does not exist."}`})
	_, err := c.Wait(t.Context(), "m1")
	var got *client.Error
	if !errors.As(err, &got) || got.Status != http.StatusNotFound {
		t.Errorf("got error %v, want 404", err)
	}
}

// TestUpload repeats an upload that failed for a moment, with all its files.
func TestUpload(t *testing.T) {
	t.Parallel()
	attempts := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1 << 20); err != nil {
			t.Errorf("reading the form: %v", err)
			return
		}
		var names []string
		for _, f := range r.MultipartForm.File["file"] {
			names = append(names, f.Filename)
		}
		if !slices.Equal(names, []string{"a.jpg", "b.png"}) {
			t.Errorf("got files %q, want a.jpg and b.png", names)
		}
		if attempts++; attempts == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`[{"id":"u1","sent":{"bytes":7},"changed":["location_removed"]},{"id":"u2"}]`))
	}))
	t.Cleanup(server.Close)
	got, err := client.New(server.URL, "key").Upload(t.Context(), client.File{Name: "a.jpg", Data: []byte("a")}, client.File{Name: "b.png", Data: []byte("b")})
	if err != nil || len(got) != 2 || got[0].ID != "u1" || got[0].Sent.Bytes != 7 || !slices.Equal(got[0].Changed, []string{"location_removed"}) || attempts != 2 {
		t.Errorf("got %+v, %v after %d attempts, want two uploads after 2", got, err, attempts)
	}
}

package plivo_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

const (
	authID    = "MATESTTESTTESTTEST01"
	authToken = "test_auth_token_0001"
	recipient = mms.PhoneNumber("+14155550123")
)

func submission() mms.Submission {
	return mms.Submission{
		Sender: "+14155550100", Recipient: recipient, Text: "Hello <you> & all",
		MediaURLs: []string{"https://example.com/a.jpg", "https://example.com/b.jpg"},
		MayWrite:  func() bool { return true },
	}
}

func newClient(t *testing.T, baseURL, token string) *plivo.Client {
	t.Helper()
	client, err := plivo.New(plivo.Options{AuthID: authID, AuthToken: token, BaseURL: baseURL, MaxConns: 10})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func newSimulator(t *testing.T) (*plivosim.Simulator, string) {
	t.Helper()
	sim := plivosim.New(plivosim.Config{AuthID: authID, AuthToken: authToken})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	t.Cleanup(sim.Close)
	return sim, server.URL
}

func TestSendSubmitsAllFields(t *testing.T) {
	t.Parallel()
	sim, url := newSimulator(t)
	s := submission()
	s.CallbackURL = "https://mms.example.com/callbacks/plivo/status/token"
	verdict := mms.Judge(newClient(t, url, authToken).Send(t.Context(), s))
	ledger := sim.Ledger()
	if len(ledger) != 1 {
		t.Fatalf("got %d messages at the simulator, want 1; verdict %+v", len(ledger), verdict)
	}
	got := plivosim.Entry{
		From: ledger[0].From, To: ledger[0].To, Text: ledger[0].Text, MediaURLs: ledger[0].MediaURLs,
		CallbackURL: ledger[0].CallbackURL, Method: ledger[0].Method,
	}
	want := plivosim.Entry{
		From: "14155550100", To: "14155550123", Text: s.Text, MediaURLs: s.MediaURLs,
		CallbackURL: s.CallbackURL, Method: http.MethodPost,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("message at Plivo (-want +got):\n%s", diff)
	}
	if verdict.Outcome != mms.Accepted || verdict.PlivoUUID != ledger[0].UUID || verdict.APIID == "" {
		t.Errorf("got verdict %+v, want accepted with UUID %s", verdict, ledger[0].UUID)
	}
}

// TestSendJudgesEveryScenario sends into every known behaviour of Plivo and the
// network. The client must never judge an accepted message as rejected, nor a
// rejected one as accepted.
func TestSendJudgesEveryScenario(t *testing.T) {
	t.Parallel()
	type want struct {
		outcome mms.Outcome
		reason  mms.Reason
		status  int
	}
	accepted := want{mms.Accepted, "", 202}
	wants := map[plivosim.Scenario]want{
		plivosim.RefusedDestination:   {mms.PermanentFailure, mms.ReasonRejected, 400},
		plivosim.RefusedUnauthorized:  {mms.AccountError, mms.ReasonCredentials, 401},
		plivosim.RefusedForbidden:     {mms.PermanentFailure, mms.ReasonForbidden, 403},
		plivosim.RefusedNotFound:      {mms.AccountError, mms.ReasonEndpoint, 404},
		plivosim.RefusedCredit:        {mms.AccountError, mms.ReasonCredit, 400},
		plivosim.RefusedEmptyBody:     {mms.PermanentFailure, mms.ReasonRejected, 400},
		plivosim.RateLimitedOnce:      {mms.TransientFailure, mms.ReasonRateLimited, 429},
		plivosim.RateLimited:          {mms.TransientFailure, mms.ReasonRateLimited, 429},
		plivosim.RateLimitedNoHint:    {mms.TransientFailure, mms.ReasonRateLimited, 429},
		plivosim.RateLimitedEmptyBody: {mms.TransientFailure, mms.ReasonRateLimited, 429},

		plivosim.ServerError:            {mms.Unknown, mms.ReasonServerError, 500},
		plivosim.ServerErrorEmptyBody:   {mms.Unknown, mms.ReasonServerError, 500},
		plivosim.ServerErrorOnce:        {mms.Unknown, mms.ReasonServerError, 500},
		plivosim.Unavailable:            {mms.Unknown, mms.ReasonServerError, 503},
		plivosim.UnavailableOnce:        {mms.Unknown, mms.ReasonServerError, 503},
		plivosim.TemporaryFailure:       {mms.Unknown, mms.ReasonServerError, 503},
		plivosim.DropBeforeAccept:       {mms.Unknown, mms.ReasonNoResponse, 0},
		plivosim.DropBeforeAcceptOnce:   {mms.Unknown, mms.ReasonNoResponse, 0},
		plivosim.StallBeforeHeaders:     {mms.Unknown, mms.ReasonNoResponse, 0},
		plivosim.StallBeforeHeadersOnce: {mms.Unknown, mms.ReasonNoResponse, 0},
		plivosim.StallAfterHeaders:      {mms.Unknown, mms.ReasonMalformedResponse, 202},
		plivosim.HugeError:              {mms.Unknown, mms.ReasonMalformedResponse, 500},
		plivosim.Redirect301:            {mms.AccountError, mms.ReasonEndpoint, 301},
		plivosim.Redirect302:            {mms.Unknown, mms.ReasonServerError, 302},
		plivosim.Redirect307:            {mms.AccountError, mms.ReasonEndpoint, 307},
		plivosim.EmptyNotAccepted:       {mms.Unknown, mms.ReasonMalformedResponse, 202},
		plivosim.EmptyObjectNotAccepted: {mms.Unknown, mms.ReasonMalformedResponse, 202},
		plivosim.CutJSONNotAccepted:     {mms.Unknown, mms.ReasonMalformedResponse, 202},
		plivosim.NoContentNotAccepted:   {mms.Unknown, mms.ReasonMalformedResponse, 204},

		plivosim.AcceptThen500:               {mms.Unknown, mms.ReasonServerError, 500},
		plivosim.AcceptThen500Silently:       {mms.Unknown, mms.ReasonServerError, 500},
		plivosim.AcceptThen502:               {mms.Unknown, mms.ReasonServerError, 502},
		plivosim.AcceptThen504:               {mms.Unknown, mms.ReasonServerError, 504},
		plivosim.AcceptThenDrop:              {mms.Unknown, mms.ReasonNoResponse, 0},
		plivosim.AcceptThenDropSilently:      {mms.Unknown, mms.ReasonNoResponse, 0},
		plivosim.AcceptThenStall:             {mms.Unknown, mms.ReasonNoResponse, 0},
		plivosim.AcceptThenCut:               {mms.Unknown, mms.ReasonMalformedResponse, 202},
		plivosim.AcceptThenStallAfterHeaders: {mms.Unknown, mms.ReasonMalformedResponse, 202},
		plivosim.AcceptedEmpty:               {mms.Unknown, mms.ReasonMalformedResponse, 202},
		plivosim.AcceptedEmptyObject:         {mms.Unknown, mms.ReasonMalformedResponse, 202},
		plivosim.AcceptedCutJSON:             {mms.Unknown, mms.ReasonMalformedResponse, 202},
		plivosim.AcceptedUUIDAsString:        {mms.Unknown, mms.ReasonMalformedResponse, 202},
		plivosim.AcceptedTwoUUIDs:            {mms.Unknown, mms.ReasonMalformedResponse, 202},
		plivosim.AcceptedNoContent:           {mms.Unknown, mms.ReasonMalformedResponse, 204},
		plivosim.AcceptedHuge:                {mms.Unknown, mms.ReasonMalformedResponse, 202},
	}
	for _, scenario := range plivosim.Scenarios() {
		t.Run(string(scenario.Name), func(t *testing.T) {
			t.Parallel()
			expected, ok := wants[scenario.Name]
			if !ok {
				expected = accepted // scenarios of states and callbacks answer the request normally
			}
			sim, url := newSimulator(t)
			if err := sim.SetFault(plivosim.Fault{Scenario: scenario.Name}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), stallTimeout(scenario.Name))
			defer cancel()
			verdict := mms.Judge(newClient(t, url, authToken).Send(ctx, submission()))
			if got := (want{verdict.Outcome, verdict.Reason, verdict.HTTPStatus}); got != expected {
				t.Errorf("got verdict %+v, want %+v; detail %q", got, expected, verdict.Detail)
			}
			checkLedger(t, sim, verdict)
		})
	}
}

// stallTimeout is short for scenarios that stall, so that the client times out.
func stallTimeout(s plivosim.Scenario) time.Duration {
	if strings.Contains(string(s), "stall") {
		return 300 * time.Millisecond
	}
	return 20 * time.Second
}

func checkLedger(t *testing.T, sim *plivosim.Simulator, verdict mms.Verdict) {
	t.Helper()
	messages, requests := sim.Ledger(), sim.Requests()
	if len(requests) != 1 {
		t.Errorf("got %d requests at Plivo, want 1", len(requests))
	}
	if len(messages) > 1 {
		t.Errorf("got %d messages at Plivo from one request, want at most 1", len(messages))
	}
	switch verdict.Outcome {
	case mms.Accepted:
		if len(messages) != 1 || messages[0].UUID != verdict.PlivoUUID {
			t.Errorf("got verdict accepted with UUID %q and ledger %+v, want that message in the ledger", verdict.PlivoUUID, messages)
		}
	case mms.TransientFailure, mms.PermanentFailure, mms.AccountError:
		if len(messages) != 0 {
			t.Errorf("got verdict %s, but Plivo has the message", verdict.Outcome)
		}
	}
}

func TestSendToClosedPortIsTransientFailure(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	listener.Close()
	verdict := mms.Judge(newClient(t, url, authToken).Send(t.Context(), submission()))
	if verdict.Outcome != mms.TransientFailure || verdict.Reason != mms.ReasonUnreachable {
		t.Errorf("got verdict %+v, want a transient failure: unreachable", verdict)
	}
	if strings.Contains(verdict.Detail, authID) {
		t.Errorf("got detail %q, want no account id", verdict.Detail)
	}
}

func TestSendToUntrustedTLSServerIsTransientFailure(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	verdict := mms.Judge(newClient(t, server.URL, authToken).Send(t.Context(), submission()))
	if verdict.Outcome != mms.TransientFailure {
		t.Errorf("got verdict %+v, want a transient failure: nothing was written", verdict)
	}
}

func TestSendHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"7": 7 * time.Second, "": 0, "-1": 0, "soon": 0, "1000000": 24 * time.Hour,
		"Sun, 06 Nov 1994 08:49:37 GMT": 5 * time.Second, "Sun, 06 Nov 1994 08:00:00 GMT": 0, "Tue, 06 Nov 2040 08:00:00 GMT": 24 * time.Hour,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", "Sun, 06 Nov 1994 08:49:32 GMT")
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusTooManyRequests)
		}))
		t.Cleanup(server.Close)
		if got := mms.Judge(newClient(t, server.URL, authToken).Send(t.Context(), submission())).RetryAfter; got != want {
			t.Errorf("Retry-After %q: got %v, want %v", header, got, want)
		}
	}
}

// The connection breaks after one response: net/http would retry a request that
// it takes for idempotent.
func TestSendIsNeverRetriedByNetHTTP(t *testing.T) {
	t.Parallel()
	var posts atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Idempotency-Key") != "" || r.Header.Get("X-Idempotency-Key") != "" {
			t.Error("got an idempotency key, which makes net/http retry a POST")
		}
		if posts.Add(1) == 1 {
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write([]byte(`{"api_id":"a","message_uuid":["u-1"]}`))
			return
		}
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	client := newClient(t, server.URL, authToken)
	if v := mms.Judge(client.Send(t.Context(), submission())); v.Outcome != mms.Accepted {
		t.Fatalf("got first verdict %+v, want accepted", v)
	}
	if v := mms.Judge(client.Send(t.Context(), submission())); v.Outcome != mms.Unknown {
		t.Errorf("got second verdict %+v, want unknown", v)
	}
	if n := posts.Load(); n != 2 {
		t.Errorf("got %d requests at Plivo, want 2", n)
	}
}

func TestSendWithholdsRequestWithoutLease(t *testing.T) {
	t.Parallel()
	sim, url := newSimulator(t)
	s := submission()
	s.MayWrite = func() bool { return false }
	verdict := mms.Judge(newClient(t, url, authToken).Send(t.Context(), s))
	if verdict.Outcome != mms.TransientFailure {
		t.Errorf("got verdict %+v, want a transient failure", verdict)
	}
	if messages, requests := sim.Ledger(), sim.Requests(); len(messages) != 0 || len(requests) != 0 {
		t.Errorf("got %d messages and %d requests at Plivo, want none", len(messages), len(requests))
	}
}

// The lease expires just before a request is written to a kept connection, and is
// renewed afterwards. net/http takes the aborted request for a closed connection
// and must not retry it, because it counts as never sent.
func TestWithheldRequestIsNeverRetried(t *testing.T) {
	t.Parallel()
	var complete atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil && n == r.ContentLength && complete.Add(1) > 1 {
			panic(http.ErrAbortHandler) // the response is lost
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"message_uuid":["u"]}`)
	}))
	t.Cleanup(server.Close)
	client := newClient(t, server.URL, authToken)
	if v := mms.Judge(client.Send(t.Context(), submission())); v.Outcome != mms.Accepted {
		t.Fatalf("got first verdict %+v, want accepted", v)
	}
	checks := 0
	s := submission()
	s.MayWrite = func() bool { checks++; return checks > 1 }
	if v := mms.Judge(client.Send(t.Context(), s)); v.Outcome != mms.TransientFailure || complete.Load() != 1 || checks != 1 {
		t.Errorf("got verdict %+v, %d complete requests, %d lease checks, want a transient failure, 1 and 1", v, complete.Load(), checks)
	}
}

// The body is written in several pieces, and the lease expires in between.
func TestLargeRequestIsWithheldEntirelyOrNotAtAll(t *testing.T) {
	t.Parallel()
	for allowed := range 5 {
		var complete atomic.Bool
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			complete.Store(err == nil && n == r.ContentLength)
		}))
		t.Cleanup(server.Close)
		checks := 0
		s := submission()
		s.MediaURLs = slices.Repeat([]string{"https://example.com/" + strings.Repeat("y", 1900)}, 8)
		s.MayWrite = func() bool { checks++; return checks <= allowed }
		verdict := mms.Judge(newClient(t, server.URL, authToken).Send(t.Context(), s))
		if complete.Load() && verdict.Outcome == mms.TransientFailure {
			t.Errorf("lease held for %d of %d checks: Plivo got the complete request, but the verdict is a transient failure", allowed, checks)
		}
		if allowed > 0 && !complete.Load() {
			t.Errorf("lease held for %d checks: got verdict %+v and an incomplete request, want a complete one", allowed, verdict)
		}
	}
}

func TestListReturnsSentMessagesInPages(t *testing.T) {
	t.Parallel()
	sim, url := newSimulator(t)
	client := newClient(t, url, authToken)
	start := time.Now()
	for range mms.ListPage + 1 {
		if v := mms.Judge(client.Send(t.Context(), submission())); v.Outcome != mms.Accepted {
			t.Fatalf("got verdict %+v, want accepted", v)
		}
	}
	q := mms.ListQuery{From: start.Add(-time.Minute), To: time.Now().Add(time.Minute), Sender: "+14155550100", Recipient: recipient}
	first, more, err := client.List(t.Context(), q)
	if err != nil || !more || len(first) != mms.ListPage {
		t.Fatalf("first page: got %d messages, more %v, error %v, want %d, true, nil", len(first), more, err, mms.ListPage)
	}
	q.Offset = len(first)
	second, more, err := client.List(t.Context(), q)
	if err != nil || more || len(second) != 1 {
		t.Fatalf("second page: got %d messages, more %v, error %v, want 1, false, nil", len(second), more, err)
	}
	uuids := map[string]bool{}
	for _, l := range append(first, second...) {
		uuids[l.PlivoUUID] = true
		if l.From != "14155550100" || l.To != "14155550123" || l.At.Before(start.Add(-time.Second)) || l.State == "" || l.Code != "" {
			t.Errorf("got listed message %+v, want the submitted numbers, a time, a state and no code", l)
		}
	}
	for _, e := range sim.Ledger() {
		if !uuids[e.UUID] {
			t.Errorf("message %s is not listed", e.UUID)
		}
	}
	q.Recipient, q.Offset = "+14155550199", 0
	if others, _, err := client.List(t.Context(), q); err != nil || len(others) != 0 {
		t.Errorf("another recipient: got %v, %v, want no messages", others, err)
	}
}

// An incomplete list could hide a message.
func TestListFailsOnIncompleteResponse(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]http.HandlerFunc{
		"too many requests": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
		"server error":      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", http.StatusInternalServerError) },
		"empty":             func(http.ResponseWriter, *http.Request) {},
		"no list":           func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{}`)) },
		"truncated":         func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"objects":[{"message_`)) },
		"malformed time": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"objects":[{"message_time":"noon"}]}`))
		},
		"connection closed": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		server := httptest.NewServer(serve)
		t.Cleanup(server.Close)
		if list, _, err := newClient(t, server.URL, authToken).List(t.Context(), mms.ListQuery{}); err == nil {
			t.Errorf("%s: got %v, want an error", name, list)
		}
	}
}

func TestListToleratesUnexpectedTypes(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"objects":[{"message_uuid":"u","message_time":"2026-01-15 15:50:30+05:30","error_code":30,"new":true}]}`))
	}))
	t.Cleanup(server.Close)
	list, _, err := newClient(t, server.URL, authToken).List(t.Context(), mms.ListQuery{})
	want := []mms.Listed{{PlivoUUID: "u", At: time.Date(2026, 1, 15, 10, 20, 30, 0, time.UTC), Code: "30"}}
	if diff := cmp.Diff(want, list); diff != "" || err != nil {
		t.Errorf("List() (-want +got):\n%s%v", diff, err)
	}
}

func TestGetReturnsDetailsOfDeliveredMessage(t *testing.T) {
	t.Parallel()
	sim, url := newSimulator(t)
	client := newClient(t, url, authToken)
	v := mms.Judge(client.Send(t.Context(), submission()))
	if v.Outcome != mms.Accepted {
		t.Fatalf("got verdict %+v, want accepted", v)
	}
	testkit.Eventually(t, "the message is delivered", func() bool { return sim.Ledger()[0].State == plivosim.StateDelivered })
	got, err := client.Get(t.Context(), v.PlivoUUID)
	if err != nil || got.SentAt == nil || got.Units == nil {
		t.Fatalf("Get() = %+v, %v, want SentAt and Units", got, err)
	}
	one := 1
	want := mms.Listed{
		PlivoUUID: v.PlivoUUID, From: "14155550100", To: "14155550123", State: "delivered",
		Details: mms.Details{Units: &one, Cost: "0.01600", SentAt: got.SentAt},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Get() (-want +got):\n%s", diff)
	}
	if _, err := client.Get(t.Context(), "00000000-0000-0000-0000-000000000000"); !errors.Is(err, mms.ErrNotFound) {
		t.Errorf("Get() of an unknown UUID = %v, want ErrNotFound", err)
	}
}

func TestGetToleratesUnexpectedFieldsOnly(t *testing.T) {
	t.Parallel()
	units := 2
	for name, tt := range map[string]struct {
		status int
		body   string
		want   *mms.Listed
	}{
		"numbers and booleans": {200, `{"message_uuid":"u","message_state":"failed","error_code":200,"units":2,"total_amount":0.016,"log":false,"message_time":false}`,
			&mms.Listed{PlivoUUID: "u", State: "failed", Code: "200", Details: mms.Details{Units: &units, Cost: "0.016"}}},
		"malformed amounts": {200, `{"message_uuid":"u","message_state":"sent","units":-1,"total_amount":"1e9","message_sent_time":"soon"}`, &mms.Listed{PlivoUUID: "u", State: "sent"}},
		"another message":   {200, `{"message_uuid":"v","message_state":"sent"}`, nil},
		"truncated":         {200, `{"message_uuid":"u","mess`, nil},
		"empty":             {200, ``, nil},
		"no content":        {204, ``, nil},
		"too many requests": {429, `too many requests`, nil},
		"server error":      {500, ``, nil},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = w.Write([]byte(tt.body))
		}))
		t.Cleanup(server.Close)
		got, err := newClient(t, server.URL, authToken).Get(t.Context(), "u")
		if tt.want == nil && err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
		if tt.want != nil {
			if diff := cmp.Diff(*tt.want, got); diff != "" || err != nil {
				t.Errorf("%s: Get() (-want +got):\n%s%v", name, diff, err)
			}
		}
	}
}

func TestErrorTextBecomesTheDetail(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ body, want string }{
		"documented": {`{"api_id":"x","error":"not a valid number"}`, "not a valid number"},
		"object":     {`{"error":{"message":"bad"}}`, `{"message":"bad"}`},
		"message":    {`{"message":"bad"}`, "bad"},
		"plain text": {"temporary failure\n", "temporary failure"},
		"empty":      {"", ""},
		"NUL":        {"a\x00b", "ab"},
	}
	for name, tt := range tests {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(tt.body))
		}))
		t.Cleanup(server.Close)
		if got := mms.Judge(newClient(t, server.URL, authToken).Send(t.Context(), submission())).Detail; got != tt.want {
			t.Errorf("%s: got detail %q, want %q", name, got, tt.want)
		}
	}
}

func TestNewRequiresCredentialsAndBaseURL(t *testing.T) {
	t.Parallel()
	for _, o := range []plivo.Options{
		{AuthToken: "t", BaseURL: "https://api.plivo.com"},
		{AuthID: "i", BaseURL: "https://api.plivo.com"},
		{AuthID: "i", AuthToken: "t"},
		{AuthID: "i", AuthToken: "t", BaseURL: "://"},
	} {
		if _, err := plivo.New(o); err == nil {
			t.Errorf("New(%+v) succeeded, want an error", o)
		}
	}
}

package plivosim_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

func TestSendReturnsUUID(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 15, 10, 20, 30, 0, time.UTC)
	b := start(t, func(c *plivosim.Config) { c.Now = func() time.Time { return now } })
	got := b.send(params("+1 (415) 555-0101", map[string]any{"url": nil}))

	body := decode[map[string]any](t, got.body)
	if got.status != http.StatusAccepted || body["message"] != "message(s) queued" || body["api_id"] == "" || len(got.uuids()) != 1 {
		t.Fatalf("got unexpected response %+v", got)
	}
	want := []plivosim.Entry{{
		UUID: got.uuids()[0], Scenario: plivosim.Delivered, From: sender, To: "14155550101",
		Text: "hello", MediaURLs: []string{"https://media.example.com/cat.jpg"}, Method: "POST",
		AcceptedAt: now, State: plivosim.StateDelivered,
		History: []plivosim.StateChange{
			{State: plivosim.StateQueued, At: now}, {State: plivosim.StateSent, At: now}, {State: plivosim.StateDelivered, At: now},
		},
	}}
	eventually(t, "delivered", func() bool { return b.sim.Ledger()[0].State == plivosim.StateDelivered })
	if diff := cmp.Diff(want, b.sim.Ledger()); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
	wantRequests := []plivosim.Request{{
		At: now, Scenario: plivosim.Delivered, From: sender, To: []string{"14155550101"},
		Accepted: true, UUIDs: got.uuids(), Status: http.StatusAccepted,
	}}
	if diff := cmp.Diff(wantRequests, b.sim.Requests()); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestSendingTwiceCreatesTwoMessages(t *testing.T) {
	t.Parallel()
	b := start(t)
	first, second := b.send(params(plain)), b.send(params(plain))
	if n := len(b.sim.Ledger()); n != 2 || first.uuids()[0] == second.uuids()[0] {
		t.Errorf("got %d messages with UUIDs %v and %v, want two different ones", n, first.uuids(), second.uuids())
	}
}

func TestSendSeveralDestinations(t *testing.T) {
	t.Parallel()
	b := start(t)
	got := b.send(params("+14155550101<14155550101<123<16135550102"))
	var to []string
	for _, e := range b.sim.Ledger() {
		to = append(to, e.To)
	}
	type result struct {
		UUIDs   []string `json:"message_uuid"`
		Invalid []string `json:"invalid_number"`
	}
	want := result{UUIDs: b.sim.Requests()[0].UUIDs, Invalid: []string{"123"}}
	if diff := cmp.Diff(want, decode[result](t, got.body)); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"14155550101", "16135550102"}, to); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestSendWithCallbackURLReturnsNoUUID(t *testing.T) {
	t.Parallel()
	b := start(t)
	got := b.send(params(plain, map[string]any{"callback_url": "https://example.com/answer"}))
	if got.status != http.StatusAccepted || got.uuids() != nil || len(b.sim.Ledger()) != 1 {
		t.Errorf("got unexpected response %+v and %d messages", got, len(b.sim.Ledger()))
	}
}

func TestSendRejectsInvalidParameters(t *testing.T) {
	t.Parallel()
	manyMedia := slices.Repeat([]string{"https://media.example.com/a.png"}, 11)
	tests := []struct {
		name   string
		change map[string]any
		want   string
	}{
		{"no source", map[string]any{"src": nil}, "exactly one of src and powerpack_uuid is required"},
		{"both sources", map[string]any{"powerpack_uuid": "p"}, "exactly one of src and powerpack_uuid is required"},
		{"source of another account", map[string]any{"src": "14155550198"}, "src is not an MMS-enabled number of this account"},
		{"alphanumeric source", map[string]any{"src": "ACME"}, "src is not an MMS-enabled number of this account"},
		{"no destination", map[string]any{"dst": nil}, "dst is required"},
		{"invalid destination", map[string]any{"dst": "1111111"}, "'1111111' is not a valid phone number."},
		{"destination with letters", map[string]any{"dst": "+1415CALLME"}, "'1415CALLME' is not a valid phone number."},
		{"same number", map[string]any{"dst": sender}, "src and dst must not be the same"},
		{"other country", map[string]any{"dst": "+442071838750"}, "MMS is not supported for destination country"},
		{"Jamaica", map[string]any{"dst": "+18765550123"}, "MMS is not supported for destination country"},
		{"too many media", map[string]any{"media_urls": manyMedia}, "a message can have at most 10 attachments"},
		{"media ids", map[string]any{"media_ids": []string{"x"}}, `media_ids not found: "x"`},
		{"invalid media URL", map[string]any{"media_urls": []string{"cat.jpg"}}, "media_urls holds an invalid URL"},
		{"media in an SMS", map[string]any{"type": nil}, "media needs type mms"},
		{"no text or media", map[string]any{"text": nil, "media_urls": nil}, "text or media is required"},
		{"long text", map[string]any{"text": strings.Repeat("é", 1601)}, "text is longer than 1600 characters"},
		{"unknown type", map[string]any{"type": "fax"}, "type must be sms or mms"},
		{"invalid method", map[string]any{"method": "PUT"}, "method must be POST or GET"},
		{"invalid url", map[string]any{"url": "/status"}, "url is not a valid URL"},
		{"invalid log", map[string]any{"log": "no"}, "log must be true, false, content_only or number_only"},
		{"short expiry", map[string]any{"message_expiry": 4}, "message_expiry must be between 5 and 10799"},
		{"long expiry", map[string]any{"message_expiry": 10800}, "message_expiry must be between 5 and 10799"},
		{"wrong JSON type", map[string]any{"media_urls": "https://example.com/a.png"}, "invalid json data sent in raw POST"},
	}
	b := start(t, func(c *plivosim.Config) { c.Numbers = []string{"+1 415-555-0199"} })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := b.send(params(plain, tt.change))
			if got.status != http.StatusBadRequest || got.errorText(t) != tt.want {
				t.Errorf("got %d %s, want 400 %q", got.status, got.body, tt.want)
			}
		})
	}
	if n := len(b.sim.Ledger()); n != 0 {
		t.Errorf("got %d accepted messages, want 0", n)
	}
	if n := len(b.sim.Requests()); n != len(tests) {
		t.Errorf("got %d recorded requests, want %d", n, len(tests))
	}
}

func TestSendRejectsMalformedBodies(t *testing.T) {
	t.Parallel()
	b := start(t)
	const path = "/v1/Account/" + authID + "/Message/"
	for _, body := range []string{"", "{", "{} {}", "null x", `{"text":"` + strings.Repeat("a", 1<<20) + `"}`} {
		got := b.do(t.Context(), http.MethodPost, path, body)
		if got.status != http.StatusBadRequest || got.errorText(t) != "invalid json data sent in raw POST" {
			t.Errorf("got %d %s, want 400", got.status, got.body)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.server.URL+path, strings.NewReader("src=1"))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(authID, authToken)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if got := b.roundTrip(req); got.errorText(t) != "Content-Type must be application/json" {
		t.Errorf("got %d %s, want 400", got.status, got.body)
	}
}

func TestSendAcceptsEscapesUnknownParametersAndPowerpack(t *testing.T) {
	t.Parallel()
	b := start(t)
	body := `{"powerpack_uuid":"p1","dst":"14155550101\u003c14155550102","type":"sms","text":"\u003cb\u003e","trackable":false,"unheard_of":1}`
	if got := b.do(t.Context(), http.MethodPost, "/v1/Account/"+authID+"/Message/", body); got.status != http.StatusAccepted {
		t.Fatalf("got %+v", got)
	}
	var got [][2]string
	for _, e := range b.sim.Ledger() {
		got = append(got, [2]string{e.To, e.Text})
	}
	if diff := cmp.Diff([][2]string{{"14155550101", "<b>"}, {"14155550102", "<b>"}}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	messages := "/v1/Account/" + authID + "/Message/"
	tests := []struct {
		name, method, path, id, token string
		want                          int
	}{
		{"valid", "GET", messages, authID, authToken, 200},
		{"wrong token", "GET", messages, authID, "x", 401},
		{"wrong id", "POST", messages, "MA", authToken, 401},
		{"no credentials", "POST", messages, "", "", 401},
		{"path of another account", "GET", "/v1/Account/MAYYYY/Message/", authID, authToken, 401},
		{"no slash", "POST", strings.TrimSuffix(messages, "/"), authID, authToken, 404},
		{"unknown path", "GET", "/v1/Account/" + authID + "/Call/", authID, authToken, 404},
		{"unknown message", "GET", messages + "5b40a428/", authID, authToken, 404},
		{"wrong method", "DELETE", messages, authID, authToken, 405},
	}
	b := start(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, b.server.URL+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.id != "" {
				req.SetBasicAuth(tt.id, tt.token)
			}
			got := b.roundTrip(req)
			if got.status != tt.want {
				t.Errorf("got status %d, want %d", got.status, tt.want)
			}
			if tt.want != http.StatusOK && got.errorText(t) == "" {
				t.Errorf("got no error text in %s", got.body)
			}
		})
	}
}

func TestWithoutConfiguredCredentialsAllRequestsAreUnauthorized(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) { c.AuthToken = "" })
	if got := b.send(params(plain)); got.status != http.StatusUnauthorized {
		t.Errorf("status %d", got.status)
	}
	want := []plivosim.Request{{Status: http.StatusUnauthorized}}
	if diff := cmp.Diff(want, b.sim.Requests(), cmpopts.IgnoreFields(plivosim.Request{}, "At")); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestRequestRate(t *testing.T) {
	t.Parallel()
	clock := newClock()
	b := start(t, func(c *plivosim.Config) { c.Now, c.RequestRate = clock.now, 2 })
	var got []int
	for range 3 {
		got = append(got, b.send(params(plain)).status)
	}
	clock.advance(5 * time.Second)
	got = append(got, b.send(params(plain)).status)
	if diff := cmp.Diff([]int{202, 202, 429, 202}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
	if n := len(b.sim.Ledger()); n != 3 {
		t.Errorf("%d messages", n)
	}
}

func TestDefaultRequestRate(t *testing.T) {
	t.Parallel()
	clock := newClock()
	b := start(t, func(c *plivosim.Config) { c.Now = clock.now })
	for range 300 {
		if got := b.do(t.Context(), http.MethodGet, "/v1/Account/"+authID+"/Message/none/", ""); got.status != http.StatusNotFound {
			t.Fatalf("status %d", got.status)
		}
	}
	if got := b.send(params(plain)); got.status != http.StatusTooManyRequests {
		t.Errorf("status %d", got.status)
	}
}

func TestConcurrencyLimit(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) { c.MaxConcurrent = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	stalled := make(chan response)
	go func() {
		stalled <- b.do(ctx, http.MethodPost, "/v1/Account/"+authID+"/Message/",
			`{"src":"14155550199","dst":"14155550139","type":"mms","text":"x"}`)
	}()
	eventually(t, "the stalled request", func() bool {
		return len(b.sim.Requests()) == 1 && b.sim.Requests()[0].Scenario == plivosim.StallBeforeHeaders
	})
	if got := b.send(params(plain)); got.status != http.StatusTooManyRequests {
		t.Errorf("got status %d while another request is in flight, want 429", got.status)
	}
	cancel()
	<-stalled
	eventually(t, "a free place", func() bool { return b.send(params(plain)).status == http.StatusAccepted })
}

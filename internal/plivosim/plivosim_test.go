package plivosim_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

const (
	authID      = "MAXXXXXXXXXXXXXXXXXX"
	authToken   = "test_auth_token_0001"
	sender      = "14155550199"
	plain       = "+14155550101" // a recipient without a scenario
	waitTimeout = 20 * time.Second
)

// bench is a simulator behind a server on loopback, a thousand times faster than real
// time.
type bench struct {
	t      *testing.T
	sim    *plivosim.Simulator
	server *httptest.Server
}

func start(t *testing.T, adjust ...func(*plivosim.Config)) *bench {
	t.Helper()
	cfg := plivosim.Config{AuthID: authID, AuthToken: authToken, TimeScale: 0.001}
	for _, f := range adjust {
		f(&cfg)
	}
	sim := plivosim.New(cfg)
	server := httptest.NewServer(sim)
	t.Cleanup(func() {
		sim.Close()
		server.Close()
	})
	return &bench{t: t, sim: sim, server: server}
}

// params returns a message request with the given changes; nil removes a parameter.
func params(to string, changes ...map[string]any) map[string]any {
	p := map[string]any{
		"src": "+" + sender, "dst": to, "type": "mms", "text": "hello",
		"media_urls": []string{"https://media.example.com/cat.jpg"},
	}
	for _, change := range changes {
		for k, v := range change {
			if v == nil {
				delete(p, k)
				continue
			}
			p[k] = v
		}
	}
	return p
}

// response is what a client received; err is set if it is incomplete.
type response struct {
	status int
	header http.Header
	body   string
	err    error
}

func (b *bench) send(p map[string]any) response {
	b.t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(b.t.Context(), http.MethodPost, "/v1/Account/"+authID+"/Message/", string(raw))
}

func (b *bench) do(ctx context.Context, method, path, body string) response {
	b.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, b.server.URL+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.SetBasicAuth(authID, authToken)
	req.Header.Set("Content-Type", "application/json")
	return b.roundTrip(req)
}

func (b *bench) roundTrip(req *http.Request) response {
	client := &http.Client{
		Transport:     b.server.Client().Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return response{err: err}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return response{status: resp.StatusCode, header: resp.Header, body: string(raw), err: err}
}

// uuids returns message_uuid of a 202 response.
func (r response) uuids() []string {
	var body struct {
		UUIDs []string `json:"message_uuid"`
	}
	if json.Unmarshal([]byte(r.body), &body) != nil {
		return nil
	}
	return body.UUIDs
}

func (r response) errorText(t *testing.T) string {
	t.Helper()
	body := decode[map[string]string](t, r.body)
	if body["api_id"] == "" {
		t.Errorf("error body lacks api_id: %s", r.body)
	}
	return body["error"]
}

func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("decode %q: %v", body, err)
	}
	return v
}

// eventually waits until cond holds, and fails the test after waitTimeout. It may be called
// from any goroutine.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(waitTimeout)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Errorf("timed out waiting for %s", what)
			return
		}
	}
}

// call is a callback as the client's server received it.
type call struct {
	method string
	url    string // as the client gave it, plus what Plivo added to the query
	header http.Header
	fields url.Values // form of a POST, query of a GET
}

// hook is the client's server for callbacks.
type hook struct {
	server *httptest.Server
	mu     sync.Mutex
	calls  []call
}

// listen starts a hook that answers calls with the given statuses in turn, and repeats the
// last one.
func listen(t *testing.T, statuses ...int) *hook {
	t.Helper()
	h := &hook{}
	h.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := h.record(r)
		status := http.StatusOK
		if len(statuses) > 0 {
			status = statuses[min(n, len(statuses))-1]
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}))
	t.Cleanup(h.server.Close)
	return h
}

func (h *hook) record(r *http.Request) int {
	_ = r.ParseForm()
	c := call{method: r.Method, url: h.server.URL + r.URL.RequestURI(), header: r.Header, fields: r.PostForm}
	if r.Method == http.MethodGet {
		c.fields = r.Form
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, c)
	return len(h.calls)
}

func (h *hook) all() []call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

func (h *hook) statuses() []string {
	var out []string
	for _, c := range h.all() {
		out = append(out, c.fields.Get("Status"))
	}
	return out
}

func (h *hook) waitFor(t *testing.T, n int) []call {
	t.Helper()
	eventually(t, "callbacks", func() bool { return len(h.all()) >= n })
	return h.all()
}

func (h *hook) url() map[string]any {
	return map[string]any{"url": h.server.URL + "/status/3f1c9b7e"}
}

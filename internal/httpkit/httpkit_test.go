package httpkit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postcard-mms/postcard/internal/httpkit"
)

// logBuffer keeps log records, for tests to read as maps.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(b, nil)) }

func (b *logBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) records(t *testing.T) []map[string]any {
	t.Helper()
	var records []map[string]any
	for line := range strings.Lines(b.text()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		records = append(records, record)
	}
	return records
}

func get(h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestInvalidRequestIDsAreReplaced(t *testing.T) {
	t.Parallel()
	generated := regexp.MustCompile(`^[A-Z2-7]{26}$`)
	cases := map[string]struct {
		id   string
		kept bool
	}{
		"none":       {"", false},
		"valid":      {"0198c7f2-aaaa_Z", true},
		"shortest":   {"12345678", true},
		"too short":  {"1234567", false},
		"longest":    {strings.Repeat("x", 64), true},
		"too long":   {strings.Repeat("x", 65), false},
		"line break": {"12345678\nlevel=ERROR", false},
		"markup":     {"<script>x</script>", false},
		"space":      {"1234 5678", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen string
			h := httpkit.AssignRequestID(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = httpkit.RequestID(r.Context()) }))
			got := get(h, "/", "X-Request-Id", c.id).Header().Get("X-Request-Id")
			if got != seen || c.kept != (got == c.id) || !c.kept && !generated.MatchString(got) {
				t.Errorf("got %q in the response and %q in the context, want equal ids, kept: %v", got, seen, c.kept)
			}
		})
	}
	if got := httpkit.RequestID(t.Context()); got != "" {
		t.Errorf("RequestID() outside a request = %q, want \"\"", got)
	}
}

// waysToMount returns inner behind each kind of router.
func waysToMount(inner func() http.Handler) map[string]http.Handler {
	mounted := chi.NewRouter()
	mounted.Mount("/", inner())
	prefixed := chi.NewRouter()
	prefixed.Mount("/hooks", httpkit.RouteFullPath(inner()))
	handled := chi.NewRouter()
	handled.Handle("/hooks/*", inner())
	mux := http.NewServeMux()
	mux.Handle("/hooks/", inner())
	return map[string]http.Handler{"not mounted": httpkit.RouteFullPath(inner()), "mounted": mounted, "mounted at a prefix": prefixed, "handled": handled, "behind a ServeMux": mux}
}

func TestAccessLogHasRouteAndUserButNoSecrets(t *testing.T) {
	t.Parallel()
	inner := func() http.Handler {
		r := chi.NewRouter()
		r.Get("/hooks/{token}/status", func(w http.ResponseWriter, r *http.Request) {
			httpkit.LogUser(r.Context(), "user-1")
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write([]byte("thanks"))
		})
		return r
	}
	for name, handler := range waysToMount(inner) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			get(httpkit.AssignRequestID(httpkit.AccessLog(log.logger())(handler)), "/hooks/SECRET/status?phone=HIDDEN", "X-Request-Id", "test-request", "Cookie", "session=HUSH")
			records := log.records(t)
			if len(records) != 1 {
				t.Fatalf("got %d records, want 1", len(records))
			}
			delete(records[0], "time")
			if took, ok := records[0]["took"].(float64); !ok || took < 0 {
				t.Errorf("got took %v, want a duration", records[0]["took"])
			}
			delete(records[0], "took")
			want := map[string]any{
				"level": "INFO", "msg": "request", "method": "GET", "route": "/hooks/{token}/status", "status": 202.0, "bytes": 6.0,
				"request_id": "test-request", "user_id": "user-1",
			}
			if diff := cmp.Diff(want, records[0]); diff != "" {
				t.Error(diff)
			}
			for _, secret := range []string{"SECRET", "HIDDEN", "HUSH", "192.0.2.1"} {
				if strings.Contains(log.text(), secret) {
					t.Errorf("got %s in the log: %s", secret, log.text())
				}
			}
		})
	}
}

func TestAccessLogOfUnusualRequests(t *testing.T) {
	t.Parallel()
	r := chi.NewRouter()
	r.Get("/silent", func(http.ResponseWriter, *http.Request) {})
	r.Get("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /plain/{id}", func(http.ResponseWriter, *http.Request) {})
	cases := map[string]struct {
		handler      http.Handler
		method, path string
		want         map[string]any
	}{
		"handler writes nothing": {r, "GET", "/silent", map[string]any{"method": "GET", "route": "/silent", "status": 200.0}},
		"no route":               {r, "GET", "/SECRET", map[string]any{"method": "GET", "route": "unmatched", "status": 404.0}},
		"unknown method":         {r, "SECRET", "/silent", map[string]any{"method": "other", "route": "unmatched", "status": 405.0}},
		"aborted":                {r, "GET", "/abort", map[string]any{"method": "GET", "route": "/abort", "status": 200.0, "aborted": true}},
		"ServeMux alone":         {mux, "GET", "/plain/SECRET", map[string]any{"method": "GET", "route": "GET /plain/{id}", "status": 200.0}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			func() {
				defer func() { _ = recover() }()
				httpkit.AccessLog(log.logger())(c.handler).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(c.method, c.path, nil))
			}()
			record := log.records(t)[0]
			for _, name := range []string{"time", "took", "level", "msg", "bytes", "request_id"} {
				delete(record, name)
			}
			if diff := cmp.Diff(c.want, record); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestErrorAfterClientDisconnectedIsLoggedAs499(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]float64{"disconnected": 499, "connected": 503} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if name == "disconnected" {
			cancel()
		}
		var log logBuffer
		failing := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		httpkit.AccessLog(log.logger())(failing).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/", nil))
		if got := log.records(t)[0]["status"]; got != want {
			t.Errorf("%s: got status %v, want %v", name, got, want)
		}
	}
}

func TestLogUserOutsideAccessLogDoesNothing(t *testing.T) {
	t.Parallel()
	httpkit.LogUser(t.Context(), "user-1")
}

func TestRecoverRespondsAndLogsStack(t *testing.T) {
	t.Parallel()
	var log logBuffer
	sorry := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "sorry", http.StatusInternalServerError) }
	recovering := httpkit.Recover(log.logger(), sorry)
	h := httpkit.AssignRequestID(recovering(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") })))
	got := get(h, "/", "X-Request-Id", "test-request")
	if got.Code != 500 || got.Body.String() != "sorry\n" {
		t.Errorf("got %d %q, want 500 \"sorry\\n\"", got.Code, got.Body)
	}
	records := log.records(t)
	if len(records) != 1 || records[0]["panic"] != "boom" || records[0]["request_id"] != "test-request" ||
		!strings.Contains(records[0]["stack"].(string), "httpkit_test.go") {
		t.Errorf("got log %s, want the panic, its stack and the request id", log.text())
	}
}

func TestRecoverClosesConnectionOfPartialResponse(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		handler http.HandlerFunc
		records int
	}{
		"response started": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200); panic("boom") }, 1},
		"handler aborts":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			h := httpkit.Recover(log.logger(), func(http.ResponseWriter, *http.Request) { t.Error("Recover responded") })(c.handler)
			defer func() {
				if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // a panic value
					t.Errorf("got panic %v, want http.ErrAbortHandler", p)
				}
				if records := log.records(t); len(records) != c.records {
					t.Errorf("got %d log records, want %d", len(records), c.records)
				}
			}()
			get(h, "/")
		})
	}
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	want := http.Header{
		"Content-Security-Policy":    {"default-src 'none'"},
		"X-Content-Type-Options":     {"nosniff"},
		"X-Frame-Options":            {"DENY"},
		"Referrer-Policy":            {"same-origin"},
		"Cross-Origin-Opener-Policy": {"same-origin"},
		"Permissions-Policy":         {"camera=(), geolocation=(), microphone=(), payment=(), usb=()"},
	}
	noop := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	if diff := cmp.Diff(want, get(httpkit.SecurityHeaders("default-src 'none'", false)(noop), "/").Header()); diff != "" {
		t.Error(diff)
	}
	want["Strict-Transport-Security"] = []string{"max-age=31536000"}
	if diff := cmp.Diff(want, get(httpkit.SecurityHeaders("default-src 'none'", true)(noop), "/").Header()); diff != "" {
		t.Error(diff)
	}
}

func TestClientIP(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		trusted, remote string
		headers         []string
		want            string
	}{
		"connection":               {"", "192.0.2.1:1234", nil, "192.0.2.1"},
		"untrusted header":         {"", "192.0.2.1:1234", []string{"X-Real-Ip", "203.0.113.9"}, "192.0.2.1"},
		"trusted header":           {"X-Real-IP", "10.0.0.1:1234", []string{"X-Real-Ip", "203.0.113.9"}, "203.0.113.9"},
		"repeated trusted header":  {"X-Real-IP", "10.0.0.1:1234", []string{"X-Real-Ip", "6.6.6.6", "X-Real-Ip", "203.0.113.9"}, "203.0.113.9"},
		"missing trusted header":   {"X-Real-IP", "10.0.0.1:1234", nil, "10.0.0.1"},
		"malformed trusted header": {"X-Real-IP", "10.0.0.1:1234", []string{"X-Real-Ip", "me"}, "10.0.0.1"},
		"IPv6":                     {"", "[2001:db8::1]:1234", nil, "2001:db8::1"},
		"IPv6 with a zone":         {"", "[fe80::1%eth0]:1234", nil, "fe80::1"},
		"IPv4-mapped IPv6":         {"", "[::ffff:192.0.2.1]:1234", nil, "192.0.2.1"},
		"no address":               {"", "@", nil, "@"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = c.remote
			for i := 0; i < len(c.headers); i += 2 {
				r.Header.Add(c.headers[i], c.headers[i+1])
			}
			var got string
			h := httpkit.TrustClientIP(c.trusted)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = httpkit.ClientIP(r) }))
			h.ServeHTTP(httptest.NewRecorder(), r)
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestMetricsCountByRoutePattern(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := chi.NewRouter()
	r.Get("/hooks/{token}", func(http.ResponseWriter, *http.Request) {})
	r.Get("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	r.Get("/stream", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/event-stream") })
	h := httpkit.NewMetrics(registry).Middleware(r)
	for _, path := range []string{"/hooks/a", "/hooks/b", "/made/up", "/abort", "/stream"} {
		func() {
			defer func() { _ = recover() }()
			get(h, path)
		}()
	}
	want := map[string]float64{
		"GET /hooks/{token} 200": 2,
		"GET unmatched 404":      1,
		"GET /abort aborted":     1,
		"GET /stream 200":        1,
	}
	counts, observed := gather(t, registry)
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
	if observed != 4 { // a stream has none
		t.Errorf("got %d durations, want 4", observed)
	}
}

// gather returns the counts by their labels, and the number of durations.
func gather(t *testing.T, registry *prometheus.Registry) (map[string]float64, uint64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts, observed := map[string]float64{}, uint64(0)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if m.GetHistogram() != nil {
				observed += m.GetHistogram().GetSampleCount()
				continue
			}
			var labels []string
			for _, l := range m.GetLabel() { // sorted by name: method, route, status
				labels = append(labels, l.GetValue())
			}
			counts[strings.Join(labels, " ")] = m.GetCounter().GetValue()
		}
	}
	return counts, observed
}

func TestAccessLogAndMetricsBothSeeTheRoute(t *testing.T) {
	t.Parallel()
	var log logBuffer
	registry := prometheus.NewRegistry()
	r := chi.NewRouter()
	r.Get("/hooks/{token}", func(http.ResponseWriter, *http.Request) {})
	get(httpkit.NewMetrics(registry).Middleware(httpkit.AccessLog(log.logger())(r)), "/hooks/SECRET")
	counts, _ := gather(t, registry)
	if diff := cmp.Diff(map[string]float64{"GET /hooks/{token} 200": 1}, counts); diff != "" || log.records(t)[0]["route"] != "/hooks/{token}" {
		t.Errorf("counts (-want +got):\n%s\nlog: %s", diff, log.text())
	}
}

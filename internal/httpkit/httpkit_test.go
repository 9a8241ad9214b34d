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

// journal is a log that tests read as maps.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(j, nil)) }

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func (j *journal) lines(t *testing.T) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(j.text()) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, v)
	}
	return lines
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

func TestRequestID(t *testing.T) {
	t.Parallel()
	fresh := regexp.MustCompile(`^[A-Z2-7]{26}$`)
	cases := map[string]struct {
		given string
		kept  bool
	}{
		"none":       {"", false},
		"a token":    {"0198c7f2-aaaa_Z", true},
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
			got := get(h, "/", "X-Request-Id", c.given).Header().Get("X-Request-Id")
			if got != seen || c.kept != (got == c.given) || !c.kept && !fresh.MatchString(got) {
				t.Errorf("given %q: answered %q, in context %q", c.given, got, seen)
			}
		})
	}
	if got := httpkit.RequestID(t.Context()); got != "" {
		t.Errorf("got %q outside a request", got)
	}
}

// sites routes requests in each of the ways that an app may be put together.
func sites(inner func() http.Handler) map[string]http.Handler {
	mounted := chi.NewRouter()
	mounted.Mount("/", inner())
	below := chi.NewRouter()
	below.Mount("/hooks", httpkit.WholePath(inner()))
	handled := chi.NewRouter()
	handled.Handle("/hooks/*", inner())
	mux := http.NewServeMux()
	mux.Handle("/hooks/", inner())
	return map[string]http.Handler{"bare": httpkit.WholePath(inner()), "mounted": mounted, "mounted below": below, "handled": handled, "behind a ServeMux": mux}
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	inner := func() http.Handler {
		r := chi.NewRouter()
		r.Get("/hooks/{token}/status", func(w http.ResponseWriter, r *http.Request) {
			httpkit.NoteUser(r.Context(), "user-1")
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write([]byte("thanks"))
		})
		return r
	}
	for name, site := range sites(inner) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var j journal
			get(httpkit.AssignRequestID(httpkit.AccessLog(j.logger())(site)), "/hooks/SECRET/status?phone=HIDDEN", "X-Request-Id", "test-request", "Cookie", "session=HUSH")
			lines := j.lines(t)
			if len(lines) != 1 {
				t.Fatalf("got %d lines", len(lines))
			}
			delete(lines[0], "time")
			if took, ok := lines[0]["took"].(float64); !ok || took < 0 {
				t.Errorf("took %v", lines[0]["took"])
			}
			delete(lines[0], "took")
			want := map[string]any{
				"level": "INFO", "msg": "request", "method": "GET", "route": "/hooks/{token}/status", "status": 202.0, "bytes": 6.0,
				"request_id": "test-request", "user_id": "user-1",
			}
			if diff := cmp.Diff(want, lines[0]); diff != "" {
				t.Error(diff)
			}
			for _, secret := range []string{"SECRET", "HIDDEN", "HUSH", "192.0.2.1"} {
				if strings.Contains(j.text(), secret) {
					t.Errorf("logged %s: %s", secret, j.text())
				}
			}
		})
	}
}

func TestAccessLogOddities(t *testing.T) {
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
		"silent handler": {r, "GET", "/silent", map[string]any{"method": "GET", "route": "/silent", "status": 200.0}},
		"no route":       {r, "GET", "/SECRET", map[string]any{"method": "GET", "route": "unmatched", "status": 404.0}},
		"odd method":     {r, "SECRET", "/silent", map[string]any{"method": "other", "route": "unmatched", "status": 405.0}},
		"aborted":        {r, "GET", "/abort", map[string]any{"method": "GET", "route": "/abort", "status": 200.0, "aborted": true}},
		"ServeMux alone": {mux, "GET", "/plain/SECRET", map[string]any{"method": "GET", "route": "GET /plain/{id}", "status": 200.0}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var j journal
			func() {
				defer func() { _ = recover() }()
				httpkit.AccessLog(j.logger())(c.handler).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(c.method, c.path, nil))
			}()
			line := j.lines(t)[0]
			for _, name := range []string{"time", "took", "level", "msg", "bytes", "request_id"} {
				delete(line, name)
			}
			if diff := cmp.Diff(c.want, line); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAClientThatIsGone is no failure of ours.
func TestAClientThatIsGone(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]float64{"gone": 499, "there": 503} {
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		if name == "gone" {
			leave()
		}
		var j journal
		failing := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		httpkit.AccessLog(j.logger())(failing).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/", nil))
		if got := j.lines(t)[0]["status"]; got != want {
			t.Errorf("%s: logged as %v, want %v", name, got, want)
		}
	}
}

func TestNoteUserOutsideIsHarmless(t *testing.T) {
	t.Parallel()
	httpkit.NoteUser(t.Context(), "user-1")
}

func TestRecover(t *testing.T) {
	t.Parallel()
	var j journal
	sorry := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "sorry", http.StatusInternalServerError) }
	recovering := httpkit.Recover(j.logger(), sorry)
	h := httpkit.AssignRequestID(recovering(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") })))
	got := get(h, "/", "X-Request-Id", "test-request")
	if got.Code != 500 || got.Body.String() != "sorry\n" {
		t.Errorf("got %d %q", got.Code, got.Body)
	}
	lines := j.lines(t)
	if len(lines) != 1 || lines[0]["panic"] != "boom" || lines[0]["request_id"] != "test-request" ||
		!strings.Contains(lines[0]["stack"].(string), "httpkit_test.go") {
		t.Errorf("logged: %s", j.text())
	}
}

func TestRecoverCutsHalfAnAnswer(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		handler http.HandlerFunc
		logs    int
	}{
		"begun to answer": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200); panic("boom") }, 1},
		"aborts itself":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var j journal
			h := httpkit.Recover(j.logger(), func(http.ResponseWriter, *http.Request) { t.Error("answered") })(c.handler)
			defer func() {
				if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // a panic value
					t.Errorf("panicked with %v, want http.ErrAbortHandler", p)
				}
				if lines := j.lines(t); len(lines) != c.logs {
					t.Errorf("logged %d lines, want %d", len(lines), c.logs)
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
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	if diff := cmp.Diff(want, get(httpkit.SecurityHeaders("default-src 'none'", false)(nothing), "/").Header()); diff != "" {
		t.Error(diff)
	}
	want["Strict-Transport-Security"] = []string{"max-age=31536000"}
	if diff := cmp.Diff(want, get(httpkit.SecurityHeaders("default-src 'none'", true)(nothing), "/").Header()); diff != "" {
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
		"header nobody trusts":     {"", "192.0.2.1:1234", []string{"X-Real-Ip", "203.0.113.9"}, "192.0.2.1"},
		"trusted header":           {"X-Real-IP", "10.0.0.1:1234", []string{"X-Real-Ip", "203.0.113.9"}, "203.0.113.9"},
		"the nearest proxy's":      {"X-Real-IP", "10.0.0.1:1234", []string{"X-Real-Ip", "6.6.6.6", "X-Real-Ip", "203.0.113.9"}, "203.0.113.9"},
		"trusted header missing":   {"X-Real-IP", "10.0.0.1:1234", nil, "10.0.0.1"},
		"trusted header, nonsense": {"X-Real-IP", "10.0.0.1:1234", []string{"X-Real-Ip", "me"}, "10.0.0.1"},
		"IPv6":                     {"", "[2001:db8::1]:1234", nil, "2001:db8::1"},
		"IPv6 with a zone":         {"", "[fe80::1%eth0]:1234", nil, "fe80::1"},
		"IPv4 inside IPv6":         {"", "[::ffff:192.0.2.1]:1234", nil, "192.0.2.1"},
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

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := chi.NewRouter()
	r.Get("/hooks/{token}", func(http.ResponseWriter, *http.Request) {})
	r.Get("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	h := httpkit.NewMetrics(registry).Middleware(r)
	for _, path := range []string{"/hooks/a", "/hooks/b", "/made/up", "/abort"} {
		func() {
			defer func() { _ = recover() }()
			get(h, path)
		}()
	}
	want := map[string]float64{
		"GET /hooks/{token} 200": 2,
		"GET unmatched 404":      1,
		"GET /abort aborted":     1,
	}
	counts, timed := gather(t, registry)
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
	if timed != 4 {
		t.Errorf("%d requests were timed, want 4", timed)
	}
}

// gather reads the counter by its labels, and how many requests were timed.
func gather(t *testing.T, registry *prometheus.Registry) (map[string]float64, uint64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts, timed := map[string]float64{}, uint64(0)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if m.GetHistogram() != nil {
				timed += m.GetHistogram().GetSampleCount()
				continue
			}
			var labels []string
			for _, l := range m.GetLabel() { // sorted by name: method, route, status
				labels = append(labels, l.GetValue())
			}
			counts[strings.Join(labels, " ")] = m.GetCounter().GetValue()
		}
	}
	return counts, timed
}

// Log and metrics stand in one chain, and both see the route.
func TestAccessLogInsideMetrics(t *testing.T) {
	t.Parallel()
	var j journal
	registry := prometheus.NewRegistry()
	r := chi.NewRouter()
	r.Get("/hooks/{token}", func(http.ResponseWriter, *http.Request) {})
	get(httpkit.NewMetrics(registry).Middleware(httpkit.AccessLog(j.logger())(r)), "/hooks/SECRET")
	counts, _ := gather(t, registry)
	if diff := cmp.Diff(map[string]float64{"GET /hooks/{token} 200": 1}, counts); diff != "" || j.lines(t)[0]["route"] != "/hooks/{token}" {
		t.Errorf("%s; logged %s", diff, j.text())
	}
}

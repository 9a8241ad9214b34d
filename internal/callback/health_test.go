package callback_test

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/httpkit"
)

// beats keeps the heartbeats of a process, and is a HealthStore.
type beats struct {
	mu     sync.Mutex
	err    error
	broken []bool
	beat   chan struct{}
}

func newBeats() *beats { return &beats{beat: make(chan struct{}, 100)} }

func (b *beats) BeatAPI(_ context.Context, _ uuid.UUID, broken bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = append(b.broken, broken)
	b.beat <- struct{}{}
	return b.err
}

func (b *beats) breaks() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, broken := range b.broken {
		if broken {
			n++
		}
	}
	return n
}

// TestHealthSeesEveryAnswer lets a callback end in every way.
func TestHealthSeesEveryAnswer(t *testing.T) {
	t.Parallel()
	logger := slog.New(slog.DiscardHandler)
	write := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	tests := map[string]struct {
		path    string
		handler http.HandlerFunc
		breaks  int
	}{
		"200":                    {"/callbacks/plivo/status/t", write(http.StatusOK), 0},
		"204":                    {"/callbacks/plivo/status/t", write(http.StatusNoContent), 0},
		"nothing written":        {"/callbacks/plivo/status/t", func(http.ResponseWriter, *http.Request) {}, 0}, // net/http answers 200
		"body only":              {"/callbacks/plivo/status/t", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }, 0},
		"302":                    {"/callbacks/plivo/status/t", write(http.StatusFound), 1},
		"403":                    {"/callbacks/plivo/status/t", write(http.StatusForbidden), 1},
		"404":                    {"/callbacks/plivo/status/t", write(http.StatusNotFound), 1},
		"500":                    {"/callbacks/plivo/status/t", write(http.StatusInternalServerError), 1},
		"inbound 500":            {"/callbacks/plivo/inbound", write(http.StatusInternalServerError), 1},
		"panic":                  {"/callbacks/plivo/status/t", func(http.ResponseWriter, *http.Request) { panic("a bug") }, 1},
		"panic after the header": {"/callbacks/plivo/status/t", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK); panic("a bug") }, 1},
		"aborted":                {"/callbacks/plivo/status/t", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 1},
		"another path":           {"/api/messages", write(http.StatusInternalServerError), 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newBeats()
			health := callback.NewHealth(store, uuid.New(), logger)
			recovered := httpkit.Recover(logger, write(http.StatusInternalServerError))(tt.handler)
			func() {
				defer func() { _ = recover() }()
				health.Middleware(recovered).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, tt.path, nil))
			}()
			if got := store.breaks(); got != tt.breaks {
				t.Errorf("got %d breaks, want %d", got, tt.breaks)
			}
		})
	}
}

// TestHealthSeesABrokenConnection closes the connection of a callback in the middle of its
// body, and while it waits for its answer.
func TestHealthSeesABrokenConnection(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"in the body":       "POST /callbacks/plivo/status/t HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\nMessageUUID=",
		"before the answer": "POST /callbacks/plivo/status/t HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newBeats()
			health := callback.NewHealth(store, uuid.New(), slog.New(slog.DiscardHandler))
			received := make(chan struct{})
			server := httptest.NewServer(health.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(received)
				if err := r.ParseForm(); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
					return
				}
				<-r.Context().Done()
			})))
			t.Cleanup(server.Close)
			connection, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			writer := bufio.NewWriter(connection)
			if _, err := writer.WriteString(request); err != nil {
				t.Fatal(err)
			}
			if err := writer.Flush(); err != nil {
				t.Fatal(err)
			}
			<-received
			connection.Close()
			<-store.beat
			if got := store.breaks(); got != 1 {
				t.Errorf("got %d breaks, want 1", got)
			}
		})
	}
}

// TestBreakIsRecordedLater has a database that is down at first.
func TestBreakIsRecordedLater(t *testing.T) {
	t.Parallel()
	store := newBeats()
	store.err = errors.New("the database is down")
	health := callback.NewHealth(store, uuid.New(), slog.New(slog.DiscardHandler))
	health.Break(t.Context())
	if err := health.Beat(t.Context()); err == nil {
		t.Error("Beat: got no error from a database that is down")
	}
	store.err = nil
	for range 2 {
		if err := health.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := store.breaks(); got != 3 || store.broken[3] {
		t.Errorf("got beats %v, want the break in all but the last", store.broken)
	}
}

// TestManyBreaksAreFewWrites has many breaks in a row: the first is recorded at once, the
// others together with the next beat.
func TestManyBreaksAreFewWrites(t *testing.T) {
	t.Parallel()
	store := newBeats()
	health := callback.NewHealth(store, uuid.New(), slog.New(slog.DiscardHandler))
	for range 50 {
		health.Break(t.Context())
	}
	if err := health.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := store.breaks(); got != 2 || len(store.broken) != 2 {
		t.Errorf("got beats %v, want two breaks", store.broken)
	}
}

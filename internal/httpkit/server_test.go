package httpkit

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// testServer is a running server.
type testServer struct {
	url     string
	stop    context.CancelFunc
	stopped chan error
}

func startServer(t *testing.T, handler http.Handler, shutdownTimeout time.Duration) *testServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &testServer{url: "http://" + l.Addr().String(), stop: cancel, stopped: make(chan error, 1)}
	go func() { s.stopped <- serve(ctx, l, handler, slog.New(slog.DiscardHandler), shutdownTimeout) }()
	return s
}

// wait returns the server's error when it has stopped.
func (s *testServer) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.stopped:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the server did not stop within 10 s")
		return nil
	}
}

// fetch requests the URL in the background. The channel receives the body, or
// "error".
func (s *testServer) fetch() <-chan string {
	body := make(chan string, 1)
	go func() {
		response, err := http.Get(s.url)
		if err != nil {
			body <- "error"
			return
		}
		defer response.Body.Close()
		data, err := io.ReadAll(response.Body)
		if err != nil {
			body <- "error"
			return
		}
		body <- string(data)
	}()
	return body
}

func TestServeWaitsForRunningRequests(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}), make(chan struct{})
	s := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-release
		if r.Context().Err() != nil {
			t.Error("the running request was canceled")
		}
		_, _ = w.Write([]byte("done"))
	}), 10*time.Second)
	body := s.fetch()
	<-started
	s.stop()
	close(release)
	if got := <-body; got != "done" {
		t.Errorf("got %q, want %q", got, "done")
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
	if response, err := http.Get(s.url); err == nil {
		response.Body.Close()
		t.Error("the server still accepts requests")
	}
}

func TestServeClosesRequestsAfterTimeout(t *testing.T) {
	t.Parallel()
	started, canceled := make(chan struct{}), make(chan struct{})
	s := startServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		close(canceled)
	}), 10*time.Millisecond)
	body := s.fetch()
	<-started
	s.stop()
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
	<-canceled
	if got := <-body; got != "error" {
		t.Errorf("got %q, want an error", got)
	}
}

func TestServeLimitsHeaderSize(t *testing.T) {
	t.Parallel()
	s := startServer(t, http.NotFoundHandler(), time.Second)
	defer s.stop()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Long", strings.Repeat("x", 2*maxHeaderBytes))
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d, want %d", response.StatusCode, http.StatusRequestHeaderFieldsTooLarge)
	}
}

func TestServeFailsWhenAddressIsInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := Serve(t.Context(), l.Addr().String(), nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("Serve() = nil, want an error")
	}
}

func TestServeListenerFailsOnClosedListener(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := ServeListener(t.Context(), l, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want %v", err, net.ErrClosed)
	}
}

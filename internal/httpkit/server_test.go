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

// running is a server under test.
type running struct {
	url     string
	stop    context.CancelFunc
	stopped chan error
}

func run(t *testing.T, handler http.Handler, patience time.Duration) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &running{url: "http://" + l.Addr().String(), stop: cancel, stopped: make(chan error, 1)}
	go func() { s.stopped <- serve(ctx, l, handler, slog.New(slog.DiscardHandler), patience) }()
	return s
}

// end waits until the server has stopped.
func (s *running) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.stopped:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the server does not stop")
		return nil
	}
}

// fetch gets the URL in the background.
func (s *running) fetch() chan string {
	got := make(chan string, 1)
	go func() {
		response, err := http.Get(s.url)
		if err != nil {
			got <- "error"
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			got <- "error"
			return
		}
		got <- string(body)
	}()
	return got
}

func TestServeLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	s := run(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-goOn
		if r.Context().Err() != nil {
			t.Error("the request under way was canceled")
		}
		_, _ = w.Write([]byte("done"))
	}), 10*time.Second)
	got := s.fetch()
	<-begun
	s.stop()
	close(goOn)
	if got := <-got; got != "done" {
		t.Errorf("got %q", got)
	}
	if err := s.end(t); err != nil {
		t.Error(err)
	}
	if _, err := http.Get(s.url); err == nil {
		t.Error("the server still answers")
	}
}

func TestServeCutsWhatDoesNotFinish(t *testing.T) {
	t.Parallel()
	begun, canceled := make(chan struct{}), make(chan struct{})
	s := run(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(canceled)
	}), 10*time.Millisecond)
	got := s.fetch()
	<-begun
	s.stop()
	if err := s.end(t); err != nil {
		t.Error(err)
	}
	<-canceled
	if got := <-got; got != "error" {
		t.Errorf("got %q", got)
	}
}

func TestServeLimitsHeaders(t *testing.T) {
	t.Parallel()
	s := run(t, http.NotFoundHandler(), time.Second)
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
		t.Errorf("got %d", response.StatusCode)
	}
}

func TestServeCannotListen(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := Serve(t.Context(), l.Addr().String(), nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no error for an address in use")
	}
}

func TestServeFails(t *testing.T) {
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

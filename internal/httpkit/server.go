package httpkit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of every server. WriteTimeout counts from the end of the request's
// header, so it leaves room for a client that waits 30 seconds for news.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10

	// stopTimeout is what requests under way get to finish. It stays below the
	// ten seconds after which container runtimes kill.
	stopTimeout = 8 * time.Second
)

// Serve listens on addr and answers with handler until ctx ends. Then it takes
// no new requests, lets those under way finish for a few seconds, cuts what is
// left, and returns nil. It returns an error when it cannot listen or serve.
func Serve(ctx context.Context, addr string, handler http.Handler, logger *slog.Logger) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", addr, err)
	}
	return ServeListener(ctx, l, handler, logger)
}

// ServeListener is Serve on a listener that is open already; it closes it.
func ServeListener(ctx context.Context, l net.Listener, handler http.Handler, logger *slog.Logger) error {
	return serve(ctx, l, handler, logger, stopTimeout)
}

func serve(ctx context.Context, l net.Listener, handler http.Handler, logger *slog.Logger, stop time.Duration) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	logger.InfoContext(ctx, "listening", slog.String("addr", l.Addr().String()))
	select {
	case err := <-failed:
		return fmt.Errorf("serving on %s: %w", l.Addr(), err)
	case <-ctx.Done():
		return shutDown(ctx, server, logger, stop)
	}
}

// shutDown stops the server within the given time and a moment.
func shutDown(ctx context.Context, server *http.Server, logger *slog.Logger, stop time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stop)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		logger.WarnContext(ctx, "requests were still under way and are cut off", slog.Duration("waited", stop))
		err = server.Close()
	}
	if err != nil {
		return fmt.Errorf("stopping the server: %w", err)
	}
	return nil
}

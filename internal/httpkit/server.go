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

// Limits of every server. writeTimeout counts from the end of the request's
// header; long polls extend it.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = RequestTimeout
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10

	// shutdownTimeout is how long running requests may take to finish. It is below
	// the ten seconds after which container runtimes kill a process.
	shutdownTimeout = 8 * time.Second
)

// Serve listens on addr and serves handler until ctx ends. Then it accepts no new
// requests, waits up to shutdownTimeout for running ones, closes the remaining
// connections and returns nil. It returns an error if it cannot listen or serve.
func Serve(ctx context.Context, addr string, handler http.Handler, logger *slog.Logger) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", addr, err)
	}
	return ServeListener(ctx, l, handler, logger)
}

// ServeListener is like Serve, with an open listener, which it closes.
func ServeListener(ctx context.Context, l net.Listener, handler http.Handler, logger *slog.Logger) error {
	return serve(ctx, l, handler, logger, shutdownTimeout)
}

func serve(ctx context.Context, l net.Listener, handler http.Handler, logger *slog.Logger, timeout time.Duration) error {
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
		return shutDown(ctx, server, logger, timeout)
	}
}

// shutDown waits up to timeout for running requests and closes the server.
func shutDown(ctx context.Context, server *http.Server, logger *slog.Logger, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		logger.WarnContext(ctx, "closing connections of requests that did not finish", slog.Duration("timeout", timeout))
		err = server.Close()
	}
	if err != nil {
		return fmt.Errorf("shutting down the server: %w", err)
	}
	return nil
}

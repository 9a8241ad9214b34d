// Command plivosim serves the Plivo simulator, for staging and docker compose.
//
// Settings come from flags, which default to the environment:
//
//	-addr     PLIVOSIM_ADDR        address to listen on, default 127.0.0.1:8085
//	-scale    PLIVOSIM_TIME_SCALE  factor for all delays, default 1
//	-fetch    PLIVOSIM_FETCH_MEDIA when media URLs are fetched: off (default),
//	                               at-accept or at-dequeue
//	          PLIVO_AUTH_ID        the account's id, required
//	          PLIVO_AUTH_TOKEN     the account's token, required
//	          PLIVO_SENDER_NUMBER  its MMS-enabled numbers, comma separated;
//	                               empty: any US or Canadian number
//
// With -healthcheck it checks a simulator running at that address and exits 0 or 1.
// With -version it prints its version.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/version"
)

const (
	readTimeout = 10 * time.Second
	// writeTimeout exceeds the client timeouts that stalling scenarios test.
	writeTimeout  = 5 * time.Minute
	idleTimeout   = 2 * time.Minute
	stopTimeout   = 5 * time.Second
	healthTimeout = 3 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "plivosim:", err)
		}
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	set, err := readSettings(args, getenv, out)
	if err != nil {
		return err
	}
	if set.version {
		_, err := fmt.Fprintln(out, "plivosim", version.String())
		return err
	}
	if set.healthcheck {
		return checkHealth(ctx, set.addr)
	}
	if err := set.check(); err != nil {
		return err
	}
	set.sim.Logger = slog.New(slog.NewTextHandler(out, nil))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", set.addr)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	return serve(ctx, listener, set.sim)
}

// serve runs until ctx ends. It stops the simulator first, which ends stalled requests,
// and then the server.
func serve(ctx context.Context, listener net.Listener, cfg plivosim.Config) error {
	sim := plivosim.New(cfg)
	defer sim.Close()
	server := &http.Server{
		Handler:      sim,
		ReadTimeout:  readTimeout,
		WriteTimeout: writeTimeout,
		IdleTimeout:  idleTimeout,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	cfg.Logger.Info("plivosim: listening", "addr", listener.Addr().String())

	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	sim.Close()
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := server.Shutdown(stopCtx); err != nil {
		return fmt.Errorf("stopping the server: %w", err)
	}
	return nil
}

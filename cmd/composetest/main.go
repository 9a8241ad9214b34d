// Command composetest runs docker-compose.yml under load and cuts each service off from
// the network, in two ways: disconnected by the engine, which the others notice, and with
// its packets dropped, which nobody is told. Afterwards it compares what the api answered
// with the simulator's ledger: every message that was answered 202 arrived exactly once.
//
//	go run ./cmd/composetest                           everything; about 15 minutes
//	go run ./cmd/composetest -cut 10s -only postgres   shorter cuts, of one service
//
// It needs a Docker engine whose kernel has nf_tables, and Compose 2. Everything runs
// under a project name and on ports of its own, without .env, and is removed in the end;
// the images stay, because they hold the build's cache. Run it from the project's root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options says what to do.
type options struct {
	cut  time.Duration // how long each service is cut off
	rate int           // messages per second
	only string        // a service; empty: all
}

func main() {
	var o options
	flag.DurationVar(&o.cut, "cut", 30*time.Second, "how long each service is cut off")
	flag.IntVar(&o.rate, "rate", 20, "messages per second")
	flag.StringVar(&o.only, "only", "", "cut only this service off")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "composetest:", err)
		os.Exit(1)
	}
	fmt.Println("compose test passed")
}

func run(ctx context.Context, o options) (err error) {
	if o.cut < time.Second || o.rate < 1 || flag.NArg() > 0 {
		return errors.New("-cut must be at least 1s, -rate at least 1, and there are no other arguments")
	}
	s, err := newStack(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	if err := s.start(ctx); err != nil {
		return err
	}
	err = exercise(ctx, s, o)
	if err != nil && ctx.Err() == nil {
		s.keepLogs()
	}
	return err
}

// exercise sends messages while it cuts each service off, waits until all messages are
// final, and returns everything that went wrong.
func exercise(ctx context.Context, s *stack, o options) error {
	targets, err := s.targets(ctx)
	if err != nil {
		return err
	}
	if o.only != "" {
		targets = slices.DeleteFunc(targets, func(t target) bool { return t.service != o.only })
		if len(targets) == 0 {
			return fmt.Errorf("there is no service %q to cut off", o.only)
		}
	}
	key, err := s.createKey(ctx)
	if err != nil {
		return err
	}
	l := newLoad(s.apiURL, key, o.rate)
	defer l.stop()
	if err := l.awaitAnswers(ctx, o.rate); err != nil {
		return err
	}
	var results []result
	for _, t := range targets {
		for _, way := range []way{disconnect, drop} {
			r, err := s.cutOff(ctx, t, way, o.cut, l)
			if err != nil {
				return fmt.Errorf("cutting %s off by %s: %w", t.name, way, err)
			}
			fmt.Println(r)
			results = append(results, r)
		}
	}
	fmt.Println("waiting until all messages are final")
	l.stop()
	problems, err := s.check(ctx, l)
	if err != nil {
		return err
	}
	if err := s.printResults(ctx, results); err != nil {
		return err
	}
	for _, r := range results {
		problems = append(problems, r.problems()...)
	}
	if len(problems) > 0 {
		return fmt.Errorf("%d problems:\n  %s", len(problems), strings.Join(problems, "\n  "))
	}
	return nil
}

// poll calls done every interval until it returns true, and returns how long that took.
func poll(ctx context.Context, limit, interval time.Duration, what string, done func() (bool, error)) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %v: %s", limit, what))
	defer cancel()
	for started := time.Now(); ; {
		ok, err := done()
		if err != nil || ok {
			return time.Since(started), err
		}
		if err := sleep(ctx, interval); err != nil {
			return 0, err
		}
	}
}

// sleep waits, and returns the cause when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

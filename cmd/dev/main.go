// Command dev runs all of Postcard on one machine: it finds or starts Postgres
// and Redis, starts a simulator of Plivo unless credentials are set, then runs
// the api and a worker until Ctrl-C. It is for development only and must not be
// deployed.
//
//	go run ./cmd/dev             run until Ctrl-C; the data is kept
//	go run ./cmd/dev -smoke      send one message to its final status and stop
//	go run ./cmd/dev -install    install the programs that the tests need
//	go run ./cmd/dev -race-flag  print -race if tests can use the race detector
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/devstack"
)

func main() {
	var m mode
	flag.BoolVar(&m.smoke, "smoke", false, "start everything on free ports, send one simulated message to its final status, stop")
	flag.BoolVar(&m.install, "install", false, "install the programs that the tests need, stop")
	flag.BoolVar(&m.raceFlag, "race-flag", false, "print -race if this machine can build with the race detector, stop")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, m)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dev:", err)
		os.Exit(1)
	}
}

// mode selects what to do. Without any of them, run until stopped.
type mode struct{ smoke, install, raceFlag bool }

func run(ctx context.Context, m mode) error {
	switch m {
	case mode{}:
		return runUntilStopped(ctx)
	case mode{smoke: true}:
		return runSmoke(ctx)
	case mode{install: true}:
		return devstack.Install(ctx, os.Stdout)
	case mode{raceFlag: true}:
		return printRaceFlag(ctx)
	default:
		return errors.New("-smoke, -install and -race-flag exclude each other")
	}
}

// printRaceFlag prints -race, or explains on stderr why tests run without it.
func printRaceFlag(ctx context.Context) error {
	if err := devstack.CheckRaceDetector(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "Tests run without the race detector: %v\n", err)
		return nil
	}
	fmt.Println("-race")
	return nil
}

func runUntilStopped(ctx context.Context) error {
	defer takeForeground()()
	vars, err := config.Environment()
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("finding the project's directory: %w", err)
	}
	state, err := devstack.StateDir(dir)
	if err != nil {
		return err
	}
	fmt.Println("Starting Postcard ...")
	s, err := start(ctx, options{vars: vars, stateDir: state})
	if err == nil {
		s.greet(os.Stdout)
		err = s.wait(ctx)
	}
	if ctx.Err() != nil {
		err = nil // Ctrl-C while starting is no failure
	}
	fmt.Println("Stopping ...")
	return errors.Join(err, s.stop())
}

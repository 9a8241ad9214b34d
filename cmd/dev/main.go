// Command dev runs all of Postcard on one machine with one command: it finds or
// starts Postgres and Redis, starts a simulator of Plivo where no credentials
// are given, then the api and a worker. Everything stops with Ctrl-C.
//
//	go run ./cmd/dev            until Ctrl-C; data is kept for the next start
//	go run ./cmd/dev -smoke     sends one message to its final status and stops
//	go run ./cmd/dev -install   installs what the tests need and is missing
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
	smoke := flag.Bool("smoke", false, "bring everything up on free ports, send one simulated message to its final status, stop")
	install := flag.Bool("install", false, "install what the tests need and is missing, and stop")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *smoke, *install); err != nil {
		fmt.Fprintln(os.Stderr, "dev:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, smoke, install bool) error {
	switch {
	case smoke && install:
		return errors.New("-smoke and -install exclude each other")
	case install:
		return devstack.Install(ctx, os.Stdout)
	case smoke:
		return runSmoke(ctx)
	default:
		return runUntilStopped(ctx)
	}
}

func runUntilStopped(ctx context.Context) error {
	vars, err := config.Environment()
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("finding the project's folder: %w", err)
	}
	state, err := devstack.StateDir(dir)
	if err != nil {
		return err
	}
	fmt.Println("Starting Postcard ...")
	s, err := start(ctx, options{vars: vars, stateDir: state})
	if err != nil {
		return err
	}
	s.greet(os.Stdout)
	err = s.wait(ctx)
	fmt.Println("Stopping ...")
	return errors.Join(err, s.stop())
}

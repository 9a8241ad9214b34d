// Command worker sends messages and runs the maintenance jobs. Any number of
// workers may run at the same time. See .env.example for its configuration.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/postcard-mms/postcard/internal/app"
	"github.com/postcard-mms/postcard/internal/config"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run() error {
	vars, err := config.Environment()
	if err != nil {
		return err
	}
	c, err := config.ReadWorker(vars)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger := app.NewLogger(os.Stderr, c.LogLevel, c.LogFormat)
	for _, misspelling := range config.Misspelled(vars) {
		logger.Warn("an environment variable without effect: " + misspelling.String())
	}
	return app.RunWorker(ctx, c, logger)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postcard-mms/postcard/internal/app"
	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/devstack"
)

// The login that is made for trying things out. Everything listens on the
// loopback interface only.
const (
	demoEmail    = "demo@example.com"
	demoPassword = "postcard-demo"
)

const (
	startTimeout = 3 * time.Minute // an install of Postgres may be part of it
	stopTimeout  = time.Minute     // for each server
)

type options struct {
	vars      map[string]string // the environment
	stateDir  string
	throwaway bool // keep nothing, take only free ports, and never leave the simulator
}

// stack is all that runs.
type stack struct {
	postgres  *devstack.Postgres
	redis     *devstack.Redis
	simulator *simulator // nil where Plivo is real
	api       config.API
	processes *errgroup.Group
	cancel    context.CancelFunc // ends the processes
	ended     <-chan struct{}    // closed when one of them has ended
}

// start brings everything up in order, or takes back what it started.
func start(ctx context.Context, o options) (*stack, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s := &stack{}
	if err := s.up(ctx, o); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *stack) up(ctx context.Context, o options) error {
	logger := app.NewLogger(os.Stderr, slog.LevelInfo, "text")
	var err error
	s.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresOptions{
		URL: o.vars["DATABASE_URL"], StateDir: o.stateDir, Throwaway: o.throwaway, DieWithUs: o.throwaway, AllowInstall: true, Logger: logger,
	})
	if err != nil {
		return err
	}
	s.redis, err = devstack.StartRedis(ctx, devstack.RedisOptions{
		URL: o.vars["REDIS_URL"], StateDir: o.stateDir, AOF: !o.throwaway, DieWithUs: o.throwaway, Logger: logger,
	})
	if err != nil {
		return err
	}
	vars := maps.Clone(o.vars)
	vars["DATABASE_URL"], vars["REDIS_URL"] = s.postgres.URL, s.redis.URL
	if o.throwaway || vars["PLIVO_AUTH_ID"] == "" && vars["PLIVO_AUTH_TOKEN"] == "" {
		if s.simulator, err = startSimulator(vars, logger); err != nil {
			return err
		}
	}
	if err := fillIn(vars, o.throwaway); err != nil {
		return err
	}
	return s.runProcesses(ctx, vars, o.throwaway)
}

// fillIn chooses what the environment leaves open, so that it can be tried at
// once on one machine.
func fillIn(vars map[string]string, throwaway bool) error {
	setDefault(vars, "LOG_FORMAT", "text")
	setDefault(vars, "SIGNUP", "open")
	if vars["ADMIN_EMAIL"] == "" {
		vars["ADMIN_EMAIL"], vars["ADMIN_PASSWORD"] = demoEmail, demoPassword
	}
	for name, wish := range map[string]string{
		"API_ADDR": "127.0.0.1:8080", "API_METRICS_ADDR": "127.0.0.1:9464", "WORKER_METRICS_ADDR": "127.0.0.1:9465",
	} {
		if vars[name] != "" && !throwaway {
			continue
		}
		addr, err := freeAddr(wish, throwaway)
		if err != nil {
			return err
		}
		vars[name] = addr
	}
	_, port, err := net.SplitHostPort(vars["API_ADDR"])
	if err != nil {
		return fmt.Errorf("reading API_ADDR: %w", err)
	}
	setDefault(vars, "PUBLIC_URL", "http://localhost:"+port)
	if throwaway {
		vars["PUBLIC_URL"] = "http://localhost:" + port
	}
	return nil
}

func setDefault(vars map[string]string, name, value string) {
	if vars[name] == "" {
		vars[name] = value
	}
}

// freeAddr is the wished address, or one with a free port where that is taken
// or any will do.
func freeAddr(wish string, anyPort bool) (string, error) {
	if l, err := net.Listen("tcp", wish); err == nil && !anyPort {
		return wish, l.Close()
	} else if err == nil {
		l.Close()
	}
	port, err := devstack.FreePort()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", port), nil
}

// runProcesses runs the api and a worker, and returns when both are ready.
func (s *stack) runProcesses(ctx context.Context, vars map[string]string, quiet bool) error {
	api, err := config.ReadAPI(vars)
	if err != nil {
		return err
	}
	work, err := config.ReadWorker(vars)
	if err != nil {
		return err
	}
	if quiet {
		api.LogLevel, work.LogLevel = slog.LevelWarn, slog.LevelWarn
	}
	s.api = api
	run, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	group, run := errgroup.WithContext(run)
	group.Go(func() error {
		return app.RunAPI(run, api, app.NewLogger(os.Stderr, api.LogLevel, api.LogFormat).With("process", "api"))
	})
	group.Go(func() error {
		return app.RunWorker(run, work, app.NewLogger(os.Stderr, work.LogLevel, work.LogFormat).With("process", "worker"))
	})
	s.processes, s.ended = group, run.Done()
	return errors.Join(
		s.awaitReady(ctx, "the api", "http://"+api.Addr+"/readyz"),
		s.awaitReady(ctx, "the worker", "http://"+work.MetricsAddr+"/readyz"))
}

// awaitReady asks until the URL answers 200, a process has ended, or ctx is over.
func (s *stack) awaitReady(ctx context.Context, what, url string) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("asking whether %s is ready: %w", what, err)
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-s.ended:
			return fmt.Errorf("%s did not start", what) // why is what the processes return
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
}

// wait returns when ctx is over or a process has ended by itself.
func (s *stack) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.ended:
		return errors.New("a process has ended by itself")
	}
}

// stop ends what was started, in the opposite order, and returns why a process
// ended where that was by itself.
func (s *stack) stop() error {
	var errs []error
	if s.processes != nil {
		s.cancel()
		errs = append(errs, s.processes.Wait())
	}
	if s.simulator != nil {
		errs = append(errs, s.simulator.stop())
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if s.redis != nil {
		errs = append(errs, s.redis.Stop(ctx))
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Stop(ctx))
	}
	return errors.Join(errs...)
}

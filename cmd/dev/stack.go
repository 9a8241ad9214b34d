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

// The first admin, unless ADMIN_EMAIL is set. Everything listens on the loopback
// interface only.
const (
	demoEmail    = "demo@example.com"
	demoPassword = "postcard-demo"
)

const (
	startTimeout = 3 * time.Minute // may include an installation of Postgres
	stopTimeout  = time.Minute     // for each server
)

type options struct {
	vars      map[string]string // the environment
	stateDir  string
	throwaway bool // keep no data, use only free ports and the simulator
}

// stack is everything that dev runs.
type stack struct {
	postgres  *devstack.Postgres
	redis     *devstack.Redis
	simulator *simulator // nil if Plivo is real
	api       config.API
	processes *errgroup.Group
	cancel    context.CancelFunc // stops the processes
	exited    <-chan struct{}    // closed when one of them has exited
}

// start starts everything in order. The caller stops the returned stack even if
// there is an error.
func start(ctx context.Context, o options) (*stack, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s := &stack{}
	return s, s.up(ctx, o)
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
	if s.postgres.Older != "" {
		fmt.Printf("Found a development database of an older version (database %s in %s); it is left as it is. Starting with a new one.\n", s.postgres.Older, o.stateDir)
	}
	s.redis, err = devstack.StartRedis(ctx, devstack.RedisOptions{
		URL: o.vars["REDIS_URL"], StateDir: o.stateDir, AOF: !o.throwaway, DieWithUs: o.throwaway, Logger: logger,
	})
	if err != nil {
		return err
	}
	vars := maps.Clone(o.vars)
	if vars["DATABASE_URL"] == "" {
		delete(vars, "DATABASE_LISTEN_URL") // it belongs to another database
	}
	vars["DATABASE_URL"], vars["REDIS_URL"] = s.postgres.URL, s.redis.URL
	if o.throwaway || vars["PLIVO_AUTH_ID"] == "" && vars["PLIVO_AUTH_TOKEN"] == "" {
		if s.simulator, err = startSimulator(ctx, vars, logger); err != nil {
			return err
		}
	}
	if err := s.setDefaults(ctx, vars, o.throwaway); err != nil {
		return err
	}
	if err := setSecretKey(vars, o.stateDir); err != nil {
		return err
	}
	return s.runProcesses(ctx, vars, o.throwaway)
}

// setDefaults sets the variables that the environment leaves open.
func (s *stack) setDefaults(ctx context.Context, vars map[string]string, throwaway bool) error {
	setDefault(vars, "LOG_FORMAT", "text")
	setDefault(vars, "SIGNUP", "open")
	if vars["ADMIN_EMAIL"] == "" {
		vars["ADMIN_EMAIL"], vars["ADMIN_PASSWORD"] = demoEmail, demoPassword
	}
	for name, preferred := range map[string]string{
		"API_ADDR": "127.0.0.1:8080", "API_METRICS_ADDR": "127.0.0.1:9464", "WORKER_METRICS_ADDR": "127.0.0.1:9465",
	} {
		if vars[name] != "" && !throwaway {
			continue
		}
		addr, err := freeAddr(ctx, preferred, throwaway)
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
	if s.simulator != nil { // it is on this machine, whatever the variables say
		vars["CALLBACK_URL"] = "http://localhost:" + port
		s.simulator.handler.SetMessageURL(vars["CALLBACK_URL"] + "/callbacks/plivo/inbound")
	}
	return nil
}

func setDefault(vars map[string]string, name, value string) {
	if vars[name] == "" {
		vars[name] = value
	}
}

// freeAddr returns the preferred address, or one with another port if it is in use
// or anyPort is set.
func freeAddr(ctx context.Context, preferred string, anyPort bool) (string, error) {
	if l, err := new(net.ListenConfig).Listen(ctx, "tcp", preferred); err == nil && !anyPort {
		return preferred, l.Close()
	} else if err == nil {
		l.Close()
	}
	port, err := devstack.FreePort()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", port), nil
}

// runProcesses starts the api and a worker and waits until both are ready.
func (s *stack) runProcesses(ctx context.Context, vars map[string]string, quiet bool) error {
	api, err := config.ReadAPI(vars)
	if err != nil {
		return err
	}
	worker, err := config.ReadWorker(vars)
	if err != nil {
		return err
	}
	if quiet {
		api.LogLevel, worker.LogLevel = slog.LevelWarn, slog.LevelWarn
	}
	s.api = api
	run, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	group, run := errgroup.WithContext(run)
	group.Go(func() error {
		return app.RunAPI(run, api, app.NewLogger(os.Stderr, api.LogLevel, api.LogFormat).With("process", "api"))
	})
	group.Go(func() error {
		return app.RunWorker(run, worker, app.NewLogger(os.Stderr, worker.LogLevel, worker.LogFormat).With("process", "worker"))
	})
	s.processes, s.exited = group, run.Done()
	return errors.Join(
		s.awaitReady(ctx, "the api", "http://"+api.Addr+"/readyz"),
		s.awaitReady(ctx, "the worker", "http://"+worker.MetricsAddr+"/readyz"))
}

// awaitReady polls the URL until it answers 200, a process exits, or ctx ends.
func (s *stack) awaitReady(ctx context.Context, name, url string) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("checking whether %s is ready: %w", name, err)
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
		case <-s.exited:
			return fmt.Errorf("%s did not start", name) // stop returns the reason
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", name, ctx.Err())
		}
	}
}

// wait returns when ctx ends (nil) or a process has exited.
func (s *stack) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.exited:
		return errors.New("the api or the worker has stopped unexpectedly")
	}
}

// stop stops everything in the opposite order. Its error includes the one with
// which a process exited.
func (s *stack) stop() error {
	var errs []error
	if s.processes != nil {
		s.cancel()
		// A process that is stopped while it starts returns context.Canceled.
		if err := s.processes.Wait(); !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
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

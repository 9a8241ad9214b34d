package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/mms"
)

// ServerOptions say how tasks are worked on.
type ServerOptions struct {
	Concurrency     int           // tasks at a time
	ShutdownTimeout time.Duration // for the tasks under way when the server stops
	Logger          *slog.Logger
}

// How often an idle server looks for new tasks, and how precise the start of
// delayed ones is. Measured on an idle server: 10 ms between looks starts a
// task in 6.5 ms (median), asynq's default of 1 s in 0.8 s.
const (
	taskCheckInterval        = 10 * time.Millisecond
	delayedTaskCheckInterval = 500 * time.Millisecond
	webhookCheckInterval     = 200 * time.Millisecond
)

// Server takes tasks from the queue and has them worked on.
type Server struct {
	asynq   *asynq.Server
	process func(context.Context, uuid.UUID) mms.TaskResult
}

// NewServer makes a server that calls process with the id of each message.
func NewServer(c redis.UniversalClient, process func(context.Context, uuid.UUID) mms.TaskResult, o ServerOptions) *Server {
	weights := map[string]int{}
	for _, q := range queues {
		weights[q.name] = q.weight
	}
	return newServer(c, weights, taskCheckInterval, process, o)
}

// NewWebhookServer makes a server that calls process with the id of each event
// of a webhook.
func NewWebhookServer(c redis.UniversalClient, process func(context.Context, uuid.UUID) mms.TaskResult, o ServerOptions) *Server {
	return newServer(c, map[string]int{webhookQueue: 1}, webhookCheckInterval, process, o)
}

func newServer(c redis.UniversalClient, weights map[string]int, interval time.Duration, process func(context.Context, uuid.UUID) mms.TaskResult, o ServerOptions) *Server {
	return &Server{
		process: process,
		asynq: asynq.NewServerFromRedisClient(newEmptyQueueCache(c), asynq.Config{
			Concurrency:              o.Concurrency,
			Queues:                   weights,
			TaskCheckInterval:        interval,
			DelayedTaskCheckInterval: delayedTaskCheckInterval,
			ShutdownTimeout:          o.ShutdownTimeout,
			RetryDelayFunc:           retryDelay,
			IsFailure:                isFailure,
			Logger:                   asynqLogger{o.Logger},
			LogLevel:                 asynq.WarnLevel,
		}),
	}
}

// Start begins to work, as soon as Redis answers.
func (s *Server) Start() error {
	if err := s.asynq.Start(asynq.HandlerFunc(s.handle)); err != nil {
		return fmt.Errorf("starting the queue server: %w", err)
	}
	return nil
}

// Stop takes no new tasks, waits for those under way, bounded by the shutdown
// timeout, and puts what still runs then back into the queue.
func (s *Server) Stop() { s.asynq.Shutdown() }

func (s *Server) handle(ctx context.Context, task *asynq.Task) error {
	id, err := uuid.ParseBytes(task.Payload())
	if err != nil {
		return fmt.Errorf("the task has no id: %w", asynq.SkipRetry)
	}
	switch d := s.process(ctx, id); d.Action {
	case mms.TaskRetry:
		return &retryLaterError{wait: d.Wait, why: string(d.Reason), failure: true}
	case mms.TaskPostpone:
		return &retryLaterError{wait: d.Wait, why: "put off"}
	case mms.TaskFail:
		return fmt.Errorf("%s: %w", d.Reason, asynq.SkipRetry)
	default:
		return nil
	}
}

// retryLaterError brings a task back after a while. Its text is shown in asynqmon
// and stored in Redis, so it names a reason and nothing personal.
type retryLaterError struct {
	wait    time.Duration
	why     string
	failure bool
}

func (e *retryLaterError) Error() string { return e.why }

// panicDelay is for errors that carry no delay of their own: a handler that
// panicked, or a task whose worker was lost.
const panicDelay = 10 * time.Second

func retryDelay(_ int, err error, _ *asynq.Task) time.Duration {
	var later *retryLaterError
	if errors.As(err, &later) {
		return later.wait
	}
	return panicDelay
}

func isFailure(err error) bool {
	var later *retryLaterError
	return !errors.As(err, &later) || later.failure
}

// asynqLogger passes what asynq has to say on to slog.
type asynqLogger struct{ *slog.Logger }

func (l asynqLogger) Debug(args ...any) { l.Logger.Debug(fmt.Sprint(args...)) }
func (l asynqLogger) Info(args ...any)  { l.Logger.Info(fmt.Sprint(args...)) }
func (l asynqLogger) Warn(args ...any)  { l.Logger.Warn(fmt.Sprint(args...)) }
func (l asynqLogger) Error(args ...any) { l.Logger.Error(fmt.Sprint(args...)) }

// Fatal is called by asynq only where it cannot go on, and must not return.
func (l asynqLogger) Fatal(args ...any) {
	l.Logger.Error(fmt.Sprint(args...))
	os.Exit(1)
}

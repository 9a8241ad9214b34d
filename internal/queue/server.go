package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/mms"
)

// ServerOptions configure a Server.
type ServerOptions struct {
	Concurrency     int           // tasks processed at the same time
	ShutdownTimeout time.Duration // how long Stop waits for running tasks
	Logger          *slog.Logger
}

// pace is how often a server asks Redis while nothing wakes it up. At rest, each server
// costs CPU in proportion.
type pace struct {
	poll         time.Duration // for a task whose wake-up was lost, or that asynqmon or another worker returned to its queue
	delayedTasks time.Duration // for delayed tasks that are due
}

var (
	quickly = pace{poll: time.Second, delayedTasks: time.Second}
	slowly  = pace{poll: 5 * time.Second, delayedTasks: 5 * time.Second}
)

// taskCheckInterval is how long asynq sleeps on average after it found no task. It is
// short, because waitingClient does the waiting.
const taskCheckInterval = time.Millisecond

// Server dequeues and processes tasks.
type Server struct {
	redis     *waitingClient
	asynq     *asynq.Server
	process   func(context.Context, uuid.UUID) mms.TaskResult
	wakeUps   string // the channel of its wake-ups
	receiving sync.WaitGroup
}

// NewServer returns a server that calls process with the id of each message.
func NewServer(c redis.UniversalClient, process func(context.Context, uuid.UUID) mms.TaskResult, o ServerOptions) *Server {
	weights := map[string]int{}
	for _, q := range queues {
		weights[q.name] = q.weight
	}
	return newServer(c, quickly, weights, messageWakeUps, process, o)
}

// NewWebhookServer returns a server that calls process with the id of each
// webhook event, except those of slow endpoints.
func NewWebhookServer(c redis.UniversalClient, process func(context.Context, uuid.UUID) mms.TaskResult, o ServerOptions) *Server {
	return newServer(c, quickly, map[string]int{webhookQueue: 1}, webhookWakeUps, process, o)
}

// NewSlowWebhookServer returns a server that calls process with the id of each
// webhook event of a slow endpoint.
func NewSlowWebhookServer(c redis.UniversalClient, process func(context.Context, uuid.UUID) mms.TaskResult, o ServerOptions) *Server {
	return newServer(c, slowly, map[string]int{slowWebhookQueue: 1}, webhookWakeUps, process, o)
}

func newServer(c redis.UniversalClient, p pace, weights map[string]int, wakeUps string, process func(context.Context, uuid.UUID) mms.TaskResult, o ServerOptions) *Server {
	waiting := newWaitingClient(c, len(weights), p.poll)
	return &Server{
		redis:   waiting,
		process: process,
		wakeUps: wakeUps,
		asynq: asynq.NewServerFromRedisClient(waiting, asynq.Config{
			Concurrency:              o.Concurrency,
			Queues:                   weights,
			TaskCheckInterval:        taskCheckInterval,
			DelayedTaskCheckInterval: p.delayedTasks,
			ShutdownTimeout:          o.ShutdownTimeout,
			RetryDelayFunc:           retryDelay,
			IsFailure:                isFailure,
			Logger:                   asynqLogger{Logger: o.Logger, failing: failingOf(c)},
			LogLevel:                 asynq.WarnLevel,
		}),
	}
}

// Start starts processing in the background. It does not wait for Redis:
// processing begins when Redis responds.
func (s *Server) Start() error {
	if err := s.asynq.Start(asynq.HandlerFunc(s.handle)); err != nil {
		return fmt.Errorf("starting the queue server: %w", err)
	}
	s.receiving.Go(func() { receiveWakeUps(s.redis, s.wakeUps, s.redis.wake, s.redis.stopped) })
	return nil
}

// Stop waits for running tasks up to the shutdown timeout and returns the others
// to the queue. It must be called at most once.
func (s *Server) Stop() {
	close(s.redis.stopped)
	s.asynq.Shutdown()
	s.receiving.Wait()
}

func (s *Server) handle(ctx context.Context, task *asynq.Task) error {
	id, err := uuid.ParseBytes(task.Payload())
	if err != nil {
		return fmt.Errorf("the payload is not an id: %w", asynq.SkipRetry)
	}
	switch result := s.process(ctx, id); result.Action {
	case mms.TaskRetry:
		return &retryLaterError{wait: result.Wait, reason: string(result.Reason), failure: true}
	case mms.TaskPostpone:
		return &retryLaterError{wait: result.Wait, reason: "postponed"}
	case mms.TaskFail:
		return fmt.Errorf("%s: %w", result.Reason, asynq.SkipRetry)
	default:
		return nil
	}
}

// retryLaterError makes asynq process a task again after wait. Redis stores its
// text and asynqmon shows it, so it must not contain personal data.
type retryLaterError struct {
	wait    time.Duration
	reason  string
	failure bool // whether asynq counts it as a failure of the task
}

func (e *retryLaterError) Error() string { return e.reason }

// defaultRetryDelay is for errors without a delay: the handler panicked or the
// task's worker was lost.
const defaultRetryDelay = 10 * time.Second

func retryDelay(_ int, err error, _ *asynq.Task) time.Duration {
	var retryLater *retryLaterError
	if errors.As(err, &retryLater) {
		return retryLater.wait
	}
	return defaultRetryDelay
}

func isFailure(err error) bool {
	var retryLater *retryLaterError
	return !errors.As(err, &retryLater) || retryLater.failure
}

// asynqLogger passes asynq's log records to slog. While Redis has a problem, which
// Connection has logged, asynq repeats in each of its loops that it fails; these records
// have level debug.
type asynqLogger struct {
	*slog.Logger
	failing func() bool
}

// failingOf returns the function that reports whether a client's Redis has a problem.
func failingOf(c redis.UniversalClient) func() bool {
	if connection, ok := c.(*Connection); ok {
		return connection.failing
	}
	return func() bool { return false }
}

func (l asynqLogger) log(level slog.Level, args []any) {
	if l.failing() {
		level = slog.LevelDebug
	}
	l.Logger.Log(context.Background(), level, fmt.Sprint(args...))
}

func (l asynqLogger) Debug(args ...any) { l.log(slog.LevelDebug, args) }
func (l asynqLogger) Info(args ...any)  { l.log(slog.LevelInfo, args) }
func (l asynqLogger) Warn(args ...any)  { l.log(slog.LevelWarn, args) }
func (l asynqLogger) Error(args ...any) { l.log(slog.LevelError, args) }

// Fatal must not return: asynq calls it when it cannot continue.
func (l asynqLogger) Fatal(args ...any) {
	l.Logger.Error(fmt.Sprint(args...))
	os.Exit(1)
}

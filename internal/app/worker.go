package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/maintenance"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/webhook/dispatch"
	"github.com/postcard-mms/postcard/internal/worker"
)

// drainMargin is what a stopping worker waits beyond the time-out of a call to
// Plivo, so that the outcome is recorded too.
const drainMargin = 10 * time.Second

// workerConnections is how many connections to the database a worker has at most.
// A message needs one for a few milliseconds at a time, and none while Plivo is
// called, so that this does not grow with the concurrency.
const workerConnections = 20

// tasksPerSlot is how many tasks are worked on for each message on its way to
// Plivo: while the outcomes of some are recorded, others have been taken already.
const tasksPerSlot = 2

// webhookConcurrency is how many webhook deliveries a worker makes at the same time.
const webhookConcurrency = 20

// RunWorker sends messages until ctx ends, then finishes those under way. It
// waits for a database that is away at the start, and works as soon as Redis
// is there.
func RunWorker(ctx context.Context, c config.Worker, logger *slog.Logger) error {
	store, err := openStore(ctx, string(c.DatabaseURL), workerConnections, logger)
	if err != nil {
		return err
	}
	defer closeLogged(logger, "the database", store.Close)

	redis, err := queue.Connect(string(c.RedisURL))
	if err != nil {
		return err
	}
	defer closeLogged(logger, "Redis", redis.Close)
	tasks := queue.NewClient(redis)

	client, err := plivo.New(plivo.Options{
		AuthID: c.Plivo.AuthID, AuthToken: string(c.Plivo.AuthToken), BaseURL: c.Plivo.BaseURL, MaxConns: c.Concurrency,
	})
	if err != nil {
		return err
	}
	registry := newRegistry()
	registry.MustRegister(statsCollector{store: store, logger: logger})
	heartbeats := worker.NewHeartbeats(store)
	dispatcher := &worker.Dispatcher{
		Slots:       make(chan struct{}, c.Concurrency),
		Store:       store,
		Plivo:       client,
		Policy:      mms.RetryPolicy{MaxAttempts: c.MaxAttempts, Jitter: rand.Float64},
		CallbackURL: callbackURL(c.PublicURL),
		SendTimeout: c.SendTimeout,
		Heartbeats:  heartbeats,
		OnAttempt:   attemptMetrics(registry),
		OnDuplicate: duplicateMetric(registry),
		Logger:      logger,
	}
	if err := setRateLimits(ctx, c, store); err != nil {
		return err
	}
	taskChecks, err := postgres.Listen(ctx, string(c.DatabaseURL), postgres.TaskCheckChannel, logger)
	if err != nil {
		return err
	}

	server := queue.NewServer(redis, dispatcher.Process, queue.ServerOptions{
		Concurrency: tasksPerSlot * c.Concurrency, ShutdownTimeout: c.SendTimeout + drainMargin, Logger: logger,
	})
	if err := server.Start(); err != nil {
		return err
	}
	deliverer := &dispatch.Dispatcher{Store: store, Client: dispatch.NewClient(c.AllowPrivateWebhooks), Jitter: rand.Float64, Logger: logger}
	webhooks := queue.NewWebhookServer(redis, deliverer.Process, queue.ServerOptions{
		Concurrency: webhookConcurrency, ShutdownTimeout: drainMargin, Logger: logger,
	})
	if err := webhooks.Start(); err != nil {
		return err
	}
	logger.InfoContext(ctx, "worker started", slog.Int("concurrency", c.Concurrency), slog.Bool("simulated", c.Plivo.Simulated()))

	// Both run until the server has stopped: its last calls need their leases,
	// and their outcomes are announced.
	defer runBeside(func(ctx context.Context) { store.RunNotifier(ctx, logger) })()
	defer runBeside(func(ctx context.Context) {
		maintenance.Run(ctx, maintenance.Job{Name: "heartbeat", Interval: worker.HeartbeatInterval, Run: heartbeats.Renew}, logger)
	})()

	group, ctx := errgroup.WithContext(ctx)
	policy := mms.DoubtPolicy{Wait: c.DoubtWait, Hold: c.DoubtPolicy == "hold"}
	for _, job := range []maintenance.Job{
		maintenance.TaskRelay(store, tasks, coalesce(ctx, taskChecks), logger),
		maintenance.Releaser(store, tasks, logger),
		maintenance.LeaseReaper(store.ReapLeases, logger),
		maintenance.Expirer(store.ExpireQueued),
		maintenance.Scheduler(store.QueueScheduled, tasks),
		maintenance.BatchSyncer(store.SyncBatch),
		maintenance.EventRelay(store.TakeWebhookEvents, tasks.EnqueueWebhook),
		maintenance.StatsRollup(store.WithLease, store.RollUpStats),
		maintenance.Retention(store.DeleteExpired),
		maintenance.Reconciler(store, client, policy, logger),
		maintenance.ReportPoller(store, client, reportWait(c), logger),
		maintenance.UnreportedCloser(store.CloseUnreported),
	} {
		group.Go(func() error { maintenance.Run(ctx, job, logger); return nil })
	}
	group.Go(func() error {
		return httpkit.Serve(ctx, c.MetricsAddr, operationsHandler(registry, workerHealth(store, tasks)), logger)
	})
	err = group.Wait()
	webhooks.Stop()
	server.Stop()
	return err
}

// runBeside runs work until the returned function is called, which waits for its end.
func runBeside(work func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(ctx)
	}()
	return func() { cancel(); <-done }
}

// coalesce turns notifications that arrive while nobody receives into one.
func coalesce(ctx context.Context, notified <-chan string) <-chan struct{} {
	wake := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case <-notified:
			case <-ctx.Done():
				return
			}
			select {
			case wake <- struct{}{}:
			default: // somebody was told already
			}
		}
	}()
	return wake
}

// setRateLimits tells the database how fast each sender may go.
func setRateLimits(ctx context.Context, c config.Worker, store *postgres.Store) error {
	senders, err := sendersOf(c.Plivo)
	if err != nil {
		return err
	}
	for _, sender := range senders {
		pace := sender.DefaultInterval()
		if c.SenderRate != nil {
			pace = mms.IntervalForRate(*c.SenderRate)
		}
		if err := store.SetRateLimit(ctx, sender, pace); err != nil {
			return err
		}
	}
	return nil
}

// reportWait is how long to wait for a delivery report before asking.
func reportWait(c config.Worker) time.Duration {
	if c.PublicURL == "" {
		return unreportedWait
	}
	return c.ReportWait
}

// unreportedWait is reportWait where Plivo cannot reach us.
const unreportedWait = 5 * time.Second

// sendersOf reads the numbers to send from.
func sendersOf(c config.Plivo) ([]mms.PhoneNumber, error) {
	var senders []mms.PhoneNumber
	for i, sender := range c.Senders {
		n, err := mms.ParsePhoneNumber(sender)
		if err != nil {
			return nil, fmt.Errorf("PLIVO_SENDER_NUMBER: entry %d %w", i+1, err)
		}
		senders = append(senders, n)
	}
	return senders, nil
}

// callbackURL says where delivery reports go; nowhere without a public URL.
func callbackURL(publicURL string) func(token string) string {
	return func(token string) string {
		if publicURL == "" {
			return ""
		}
		return publicURL + callback.StatusPath(token)
	}
}

// openStore connects to the database, waits for it, and brings its schema up
// to date.
func openStore(ctx context.Context, url string, maxConns int, logger *slog.Logger) (*postgres.Store, error) {
	store, err := postgres.Open(url, maxConns, postgres.StatementTimeout)
	if err != nil {
		return nil, err
	}
	if err := await(ctx, "the database", logger, store.Ping); err != nil {
		closeLogged(logger, "the database", store.Close)
		return nil, err
	}
	if err := migrate(ctx, url); err != nil {
		closeLogged(logger, "the database", store.Close)
		return nil, err
	}
	return store, nil
}

// migrate has all the time that a large table takes.
func migrate(ctx context.Context, url string) error {
	patient, err := postgres.Open(url, 2, 0)
	if err != nil {
		return err
	}
	return errors.Join(postgres.Migrate(ctx, patient.DB()), patient.Close())
}

// startTimeout is how long a starting process waits for its servers.
const startTimeout = time.Minute

// await calls ready until it succeeds, for at most patience.
func await(ctx context.Context, what string, logger *slog.Logger, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for waited := false; ; waited = true {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if !waited {
			logger.WarnContext(ctx, fmt.Sprintf("waiting for %s", what), slog.Any("error", err))
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
	}
}

// closeLogged closes at the end, when an error can only be logged.
func closeLogged(logger *slog.Logger, what string, close func() error) {
	if err := close(); err != nil {
		logger.Warn(fmt.Sprintf("closing %s", what), slog.Any("error", err))
	}
}

// workerHealth asks for both servers: without either, a worker can do nothing.
func workerHealth(store *postgres.Store, tasks *queue.Client) http.HandlerFunc {
	return readyz(store,
		dependency{name: "postgres", ping: store.Ping, required: true},
		dependency{name: "redis", ping: tasks.Ping, required: true},
	)
}

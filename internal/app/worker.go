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

	"postcard/internal/config"
	"postcard/internal/httpkit"
	"postcard/internal/mms"
	"postcard/internal/notify"
	"postcard/internal/plivo"
	"postcard/internal/postgres"
	"postcard/internal/queue"
	"postcard/internal/webhook"
	"postcard/internal/worker"
)

// drainMargin is what a stopping worker waits beyond the time-out of a call to
// Plivo, so that the outcome is recorded too.
const drainMargin = 10 * time.Second

// workerConnections is how many connections to the database a worker has at most.
// A message needs one for a few milliseconds at a time, and none while Plivo is
// called, so that this does not grow with the concurrency.
const workerConnections = 20

// tasksForEachPlace is how many tasks are worked on for each message on its way to
// Plivo: while the outcomes of some are recorded, others have been taken already.
const tasksForEachPlace = 2

// webhookCalls is how many webhooks are called at a time, and
// webhookRelayInterval how often it is looked for new events.
const (
	webhookCalls         = 20
	webhookRelayInterval = 500 * time.Millisecond
)

// RunWorker sends messages until ctx ends, then finishes those under way. It
// waits for a database that is away at the start, and works as soon as Redis
// is there.
func RunWorker(ctx context.Context, c config.Worker, logger *slog.Logger) error {
	store, err := openStore(ctx, string(c.DatabaseURL), workerConnections, logger)
	if err != nil {
		return err
	}
	defer closing(logger, "the database", store.Close)

	redis, err := queue.Connect(string(c.RedisURL))
	if err != nil {
		return err
	}
	defer closing(logger, "Redis", redis.Close)
	tasks := queue.NewClient(redis)

	client, err := plivo.New(plivo.Options{
		AuthID: c.Plivo.AuthID, AuthToken: string(c.Plivo.AuthToken), BaseURL: c.Plivo.BaseURL, MaxConns: c.Concurrency,
	})
	if err != nil {
		return err
	}
	registry := newRegistry()
	registry.MustRegister(figures{store: store, logger: logger})
	leases := worker.NewLeases(store)
	sender := &worker.Sender{
		Places:      make(chan struct{}, c.Concurrency),
		Store:       store,
		Plivo:       client,
		Policy:      mms.RetryPolicy{MaxAttempts: c.MaxAttempts, Jitter: rand.Float64},
		CallbackURL: callbackURL(c.PublicURL),
		SendTimeout: c.SendTimeout,
		Leases:      leases,
		Observe:     attemptMetrics(registry),
		Duplicates:  duplicateMetric(registry),
		Logger:      logger,
	}
	relay := &worker.Relay{Store: store, Queue: tasks, Logger: logger}
	pacer := &worker.Pacer{Store: store, Queue: tasks, Logger: logger}
	lapses := &worker.Lapses{Store: store, Logger: logger}
	expirer := worker.Expirer{Store: store}
	resolver := &worker.Resolver{
		Store: store, Plivo: client, Logger: logger,
		Policy: mms.DoubtPolicy{Wait: c.DoubtWait, Hold: c.DoubtPolicy == "hold"},
	}
	poller := &worker.Poller{Store: store, Plivo: client, Wait: reportWait(c), Logger: logger}
	if err := setPaces(ctx, c, store); err != nil {
		return err
	}
	relayCalls, err := postgres.Listen(ctx, string(c.DatabaseURL), postgres.RelayChannel, logger)
	if err != nil {
		return err
	}

	server := queue.NewServer(redis, sender.Process, queue.ServerOptions{
		Concurrency: tasksForEachPlace * c.Concurrency, ShutdownTimeout: c.SendTimeout + drainMargin, Logger: logger,
	})
	if err := server.Start(); err != nil {
		return err
	}
	notifier := &notify.Notifier{Store: store, Client: notify.NewClient(c.AllowPrivateWebhooks), Jitter: rand.Float64, Logger: logger}
	webhooks := queue.NewWebhookServer(redis, notifier.Process, queue.ServerOptions{
		Concurrency: webhookCalls, ShutdownTimeout: drainMargin, Logger: logger,
	})
	if err := webhooks.Start(); err != nil {
		return err
	}
	logger.InfoContext(ctx, "worker started", slog.Int("concurrency", c.Concurrency), slog.Bool("simulated", c.Plivo.Simulated()))

	// Until the server has stopped: its last calls need their leases, and what becomes
	// of them is news.
	defer beside(func(ctx context.Context) { store.Announce(ctx, logger) })()
	defer beside(func(ctx context.Context) {
		worker.Every(ctx, "renewal of leases", worker.RenewalInterval, nil, logger, leases.Renew)
	})()

	group, ctx := errgroup.WithContext(ctx)
	caretaker := func(name string, interval time.Duration, wake <-chan struct{}, sweep func(context.Context) error) {
		group.Go(func() error { worker.Every(ctx, name, interval, wake, logger, sweep); return nil })
	}
	caretaker("relay", time.Second, wakes(ctx, relayCalls), relay.Sweep)
	caretaker("pacer", worker.PacerInterval, nil, pacer.Sweep)
	caretaker("watch over leases", time.Second, nil, lapses.Sweep)
	caretaker("watch over expiry", 5*time.Second, nil, expirer.Sweep)
	caretaker("scheduler", time.Second, nil, worker.Scheduler{Store: store, Queue: tasks}.Sweep)
	caretaker("settling of batches", time.Second, nil, worker.Settler{Store: store}.Sweep)
	caretaker("relay of webhook events", webhookRelayInterval, nil, notify.Relay{Store: store, Queue: tasks}.Sweep)
	caretaker("counting of days", worker.BookInterval, nil, worker.Bookkeeper{Store: store}.Sweep)
	caretaker("retention", time.Hour, nil, store.Forget)
	caretaker("resolver", time.Second, nil, resolver.Sweep)
	caretaker("report poller", time.Second, nil, poller.Sweep)
	caretaker("closing of silent messages", 5*time.Minute, nil, worker.Closer{Store: store}.Sweep)
	group.Go(func() error {
		return httpkit.Serve(ctx, c.MetricsAddr, operationsHandler(registry, workerHealth(store, tasks)), logger)
	})
	err = group.Wait()
	webhooks.Stop()
	server.Stop()
	return err
}

// beside runs work until the returned function is called, which waits for its end.
func beside(work func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(ctx)
	}()
	return func() { cancel(); <-done }
}

// wakes makes many notifications that come at once into one.
func wakes(ctx context.Context, notified <-chan string) <-chan struct{} {
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

// setPaces tells the database how fast each sender may go.
func setPaces(ctx context.Context, c config.Worker, store *postgres.Store) error {
	senders, err := sendersOf(c.Plivo)
	if err != nil {
		return err
	}
	for _, sender := range senders {
		pace := sender.Pace()
		if c.SenderRate != nil {
			pace = mms.PaceOf(*c.SenderRate)
		}
		if err := store.SetPace(ctx, sender, pace); err != nil {
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
func sendersOf(c config.Plivo) ([]mms.Number, error) {
	var senders []mms.Number
	for i, sender := range c.Senders {
		n, err := mms.ParseNumber(sender)
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
		return publicURL + webhook.StatusPath(token)
	}
}

// openStore connects to the database, waits for it, and brings its schema up
// to date.
func openStore(ctx context.Context, url string, maxConns int, logger *slog.Logger) (*postgres.Store, error) {
	store, err := postgres.Open(url, maxConns, postgres.Patience)
	if err != nil {
		return nil, err
	}
	if err := await(ctx, "the database", logger, store.Ping); err != nil {
		closing(logger, "the database", store.Close)
		return nil, err
	}
	if err := migrate(ctx, url); err != nil {
		closing(logger, "the database", store.Close)
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

// patience is how long a starting process waits for its servers.
const patience = time.Minute

// await calls ready until it succeeds, for at most patience.
func await(ctx context.Context, what string, logger *slog.Logger, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
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

// closing closes at the end, when an error can only be logged.
func closing(logger *slog.Logger, what string, close func() error) {
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

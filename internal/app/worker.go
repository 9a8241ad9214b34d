package app

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/maintenance"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mediacheck"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/webhook/dispatch"
	"github.com/postcard-mms/postcard/internal/worker"
)

// drainMargin is how long a stopping worker waits beyond SEND_TIMEOUT, so that the
// outcomes of its last calls are recorded.
const drainMargin = 10 * time.Second

// workerListeners is how many connections a worker has beside its pool: it listens on one,
// and the nightly audit uses one.
//
// The size of the pool does not depend on WORKER_CONCURRENCY: a message needs a
// connection for a few milliseconds at a time, and none during the call to Plivo.
const workerListeners = 2

// tasksPerSlot is how many tasks are processed at a time for each of the
// dispatcher's slots, so that slots do not idle while outcomes are recorded.
const tasksPerSlot = 2

// A worker's slots for webhook deliveries. Slow endpoints have slots of their own. A call
// to one of them is an idle connection for most of its time, so there are more of these.
const (
	webhookConcurrency     = 20
	slowWebhookConcurrency = 40
)

// RunWorker runs the worker until ctx ends and then finishes the messages that it
// is sending. At the start it waits for the database, up to startTimeout; it
// starts sending when Redis responds.
func RunWorker(ctx context.Context, c config.Worker, logger *slog.Logger) error {
	collectLogs(logger)
	store, err := openStore(ctx, c.Shared, connections{max: c.MaxConnections, listeners: workerListeners}, logger)
	if err != nil {
		return err
	}
	defer closeLogged(logger, "the database", store.Close)
	store.ExpectCalls(c.Concurrency)

	redis, err := queue.Open(string(c.RedisURL), logger)
	if err != nil {
		return err
	}
	defer closeLogged(logger, "Redis", redis.Close)
	defer runInBackground(redis.WatchSetup)()
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
	onDuplicate := duplicateMetric(registry)
	dispatcher := &worker.Dispatcher{
		Slots:       make(chan struct{}, c.Concurrency),
		Store:       store,
		Plivo:       client,
		Policy:      mms.RetryPolicy{MaxAttempts: c.MaxAttempts, Jitter: rand.Float64},
		CallbackURL: callbackURL(c.CallbackURL),
		SendTimeout: c.SendTimeout,
		Heartbeats:  heartbeats,
		OnAttempt:   attemptMetrics(registry),
		OnDuplicate: onDuplicate,
		Logger:      logger,
	}
	senders, err := sendersOf(c.Plivo, logger)
	if err != nil {
		return err
	}
	err = awaitDatabase(ctx, logger, func(ctx context.Context) error { return setRateLimits(ctx, c, store, senders) })
	if err != nil {
		return err
	}
	operatorJobs, err := operatorJobs(c, store, client, tasks, senders)
	if err != nil {
		return err
	}
	taskChecks, err := postgres.Listen(ctx, string(c.DatabaseListenURL), postgres.TaskCheckChannel, logger)
	if err != nil {
		return err
	}

	server := queue.NewServer(redis, dispatcher.Process, queue.ServerOptions{
		Concurrency: tasksPerSlot * c.Concurrency, ShutdownTimeout: c.SendTimeout + drainMargin, Logger: logger,
	})
	if err := server.Start(); err != nil {
		return err
	}
	deliverer := &dispatch.Deliverer{
		Store: store, Client: dispatch.NewClient(c.AllowPrivateWebhooks), Enqueue: tasks.EnqueueWebhook, Jitter: rand.Float64, Logger: logger,
	}
	webhooks := webhookServers{
		fast: queue.NewWebhookServer(redis, deliverer.Process, queue.ServerOptions{
			Concurrency: webhookConcurrency, ShutdownTimeout: drainMargin, Logger: logger,
		}),
		slow: queue.NewSlowWebhookServer(redis, deliverer.ProcessSlow, queue.ServerOptions{
			Concurrency: slowWebhookConcurrency, ShutdownTimeout: drainMargin, Logger: logger,
		}),
		deliverer: deliverer,
	}
	if err := webhooks.start(); err != nil {
		return err
	}
	logger.InfoContext(ctx, "worker started", slog.Int("concurrency", c.Concurrency), slog.Bool("simulated", c.Plivo.Simulated()))

	// Both run until the server has stopped: its last calls need their leases, and
	// their outcomes are announced.
	defer runInBackground(func(ctx context.Context) { store.RunNotifier(ctx, logger) })()
	defer runInBackground(func(ctx context.Context) {
		maintenance.Run(ctx, maintenance.Job{Name: "heartbeat", Interval: worker.LeaseRenewalInterval, Run: heartbeats.Renew}, logger)
	})()

	group, ctx := errgroup.WithContext(ctx)
	policy := mms.DoubtPolicy{Wait: c.DoubtWait, Hold: c.DoubtPolicy == "hold"}
	jobs := []maintenance.Job{
		maintenance.TaskRelay(store, tasks, coalesce(ctx, taskChecks), logger),
		maintenance.Releaser(store, tasks),
		maintenance.Prober(store, tasks, logger),
		maintenance.LeaseReaper(store.ReapLeases, logger),
		maintenance.Expirer(store.ExpireQueued),
		maintenance.Scheduler(store.QueueScheduled, tasks),
		maintenance.BatchSyncer(store.SyncBatch),
		maintenance.WebhookEventRelay(store, tasks.EnqueueWebhook),
		maintenance.StatsRollup(store.WithLease, store.RollUpStats),
		maintenance.Retention(store.DeleteExpired),
		maintenance.Reconciler(postgres.AttemptLimit{Store: store, Max: c.MaxAttempts}, client, policy, onDuplicate, logger),
		maintenance.Silence(store, mms.SilencePolicy{After: c.DoubtSilence, MaxAttempts: c.MaxAttempts, ListAfter: c.DoubtWait}, logger),
		maintenance.ReportPoller(store, client, reportWait(c), logger),
		maintenance.UnreportedCloser(store.CloseUnreported),
		maintenance.MediaUse(store.MarkUsedPlivoMedia),
	}
	jobs = append(jobs, operatorJobs...)
	jobs = append(jobs, mediaJobs(c, store, client, tasks, registry, logger)...)
	for _, job := range jobs {
		group.Go(func() error { maintenance.Run(ctx, job, logger); return nil })
	}
	group.Go(func() error {
		return httpkit.Serve(ctx, c.MetricsAddr, operationsHandler(registry, workerHealth(store, tasks)), logger)
	})
	err = group.Wait()
	webhooks.stop()
	server.Stop()
	return err
}

// mediaJobs returns the jobs that make the media of messages ready, and those of messages
// that failed smaller.
func mediaJobs(c config.Worker, store *postgres.Store, client *plivo.Client, tasks *queue.Client, registry *prometheus.Registry, logger *slog.Logger) []maintenance.Job {
	pictures := media.New(media.Options{Store: store, Budget: c.MediaBudget, Memory: c.MediaMemory})
	var checker maintenance.MediaChecker // none: URLs are sent unseen
	if c.MediaCheck == "on" {
		checker = mediacheck.New(mediacheck.Options{Budget: c.MediaBudget, AllowPrivate: c.AllowPrivateMedia})
	}
	onCheck, onUpload := mediaMetrics(registry)
	jobs := []maintenance.Job{
		maintenance.MediaPreparer(maintenance.MediaPreparerOptions{
			Store: store, WithLease: store.WithLease, Checker: checker, Pictures: pictures, Plivo: client, Queue: tasks,
			Budget: c.MediaBudget, OnCheck: onCheck, OnUpload: onUpload,
		}),
	}
	if c.Refit {
		jobs = append(jobs, maintenance.Refitter(maintenance.RefitterOptions{
			Store: store, WithLease: store.WithLease, Plivo: client, Checker: checker, Pictures: pictures, Budget: c.MediaBudget, Logger: logger,
		}))
	}
	return jobs
}

// webhookServers deliver webhook events.
type webhookServers struct {
	fast, slow *queue.Server
	deliverer  *dispatch.Deliverer
}

func (s webhookServers) start() error {
	if err := s.fast.Start(); err != nil {
		return err
	}
	return s.slow.Start()
}

// stop waits up to drainMargin for the calls in progress. The others are repeated after
// their lease.
func (s webhookServers) stop() {
	var stopping sync.WaitGroup
	stopping.Go(s.slow.Stop)
	stopping.Go(func() {
		s.fast.Stop() // soon done, because no call occupies it longer than webhook.Patience
		s.deliverer.Wait(drainMargin)
	})
	stopping.Wait()
}

// runInBackground runs work until stop is called. stop waits until work returns.
func runInBackground(work func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(ctx)
	}()
	return func() { cancel(); <-done }
}

// coalesce forwards notifications, and merges those that arrive before the last
// one is received.
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
			default: // one is pending
			}
		}
	}()
	return wake
}

// setRateLimits stores the rate limit of each sender, also of those that were added on the
// operator's page.
func setRateLimits(ctx context.Context, c config.Worker, store *postgres.Store, environment []mms.PhoneNumber) error {
	list := operator.NewSenderList(environment, store)
	if err := list.Refresh(ctx); err != nil {
		return err
	}
	for _, sender := range list.All() {
		if err := store.SetRateLimit(ctx, sender, senderInterval(c)(sender)); err != nil {
			return err
		}
	}
	return nil
}

// senderInterval returns the function that returns the interval between two messages of a
// sender that the environment gives it.
func senderInterval(c config.Worker) func(mms.PhoneNumber) time.Duration {
	return func(sender mms.PhoneNumber) time.Duration {
		if c.SenderRate != nil {
			return mms.IntervalForRate(*c.SenderRate)
		}
		return sender.DefaultInterval()
	}
}

// operatorJobs returns the jobs that collect what the operator's pages show.
func operatorJobs(c config.Worker, store *postgres.Store, client *plivo.Client, tasks *queue.Client, senders []mms.PhoneNumber) ([]maintenance.Job, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, fmt.Errorf("creating the id of the process: %w", err)
	}
	return []maintenance.Job{
		maintenance.WorkerHeartbeat(store.BeatWorker, describeProcess(id, operator.Worker, c)),
		maintenance.SenderRates(store, senderInterval(c)),
		maintenance.QueueSampler(store.WithLease, store, tasks.Depth),
		maintenance.AccountCheck(maintenance.AccountCheckOptions{
			Store: store, WithLease: store.WithLease, Plivo: client, AuthID: c.Plivo.AuthID,
			Senders: operator.NewSenderList(senders, store), Problem: plivo.Problem,
		}),
		maintenance.Verification(store.WithLease, store, auditor(c, tasks)),
	}, nil
}

// reportWait returns how long to wait for a delivery report before polling.
func reportWait(c config.Worker) time.Duration {
	if c.CallbackURL == "" {
		return reportWaitWithoutURL
	}
	return c.ReportWait
}

// reportWaitWithoutURL is short, because Plivo cannot deliver reports without a
// URL.
const reportWaitWithoutURL = 5 * time.Second

// sendersOf parses the numbers to send from. A number that may not exist is logged:
// Plivo rejects messages from it.
func sendersOf(c config.Plivo, logger *slog.Logger) ([]mms.PhoneNumber, error) {
	var senders []mms.PhoneNumber
	for i, sender := range c.Senders {
		n, err := mms.ParseTypedPhoneNumber(sender)
		switch {
		case err != nil:
			return nil, fmt.Errorf("PLIVO_SENDER_NUMBER: entry %d %w", i+1, err)
		case n.IsFictional() && !c.Simulated():
			return nil, fmt.Errorf("PLIVO_SENDER_NUMBER: entry %d is a number for films and examples (555-0100 to 555-0199): enter one that you have rented from Plivo", i+1)
		case n.Warning() != "":
			logger.Warn("PLIVO_SENDER_NUMBER has a number that Postcard does not know: its area code may be new, or a digit may be wrong",
				slog.Int("entry", i+1), slog.Any("number", n))
		}
		senders = append(senders, n)
	}
	return senders, nil
}

// callbackURL returns the function that builds the URL for an attempt's delivery
// reports; it returns "" if Plivo cannot reach the api.
func callbackURL(base string) func(token string) string {
	return func(token string) string {
		if base == "" {
			return ""
		}
		return base + callback.StatusPath(token)
	}
}

// closeLogged calls close and logs its error. It is for deferred calls.
func closeLogged(logger *slog.Logger, name string, close func() error) {
	if err := close(); err != nil {
		logger.Warn(fmt.Sprintf("could not close %s", name), slog.Any("error", err))
	}
}

// workerHealth requires both servers: a worker cannot send without either.
func workerHealth(store *postgres.Store, tasks *queue.Client) http.HandlerFunc {
	return readyz(
		dependency{name: "postgres", state: usable(store.CheckWritable), required: true},
		dependency{name: "redis", state: usable(tasks.CheckWritable), required: true},
		sendingHealth(store.Pauses),
		queueHealth(tasks.Faults, store.WithoutProgress),
	)
}

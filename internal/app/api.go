// Package app composes the api and worker processes: it creates their components,
// connects them and stops them in the opposite order. It contains no business
// logic.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/live"
	"github.com/postcard-mms/postcard/internal/maintenance"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mediacheck"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/webui"
)

const (
	apiListeners    = 2 // connections that the api listens on, beside its pool
	sessionLifetime = 14 * 24 * time.Hour
	queuesPath      = "/admin/queues"
	sessionCookie   = "postcard_session"
)

// RunAPI runs the api until ctx ends and then lets running requests finish. At the
// start, each step waits for the database up to startTimeout. It does not need Redis.
func RunAPI(ctx context.Context, c config.API, logger *slog.Logger) error {
	collectLogs(logger)
	senders, err := sendersOf(c.Plivo, logger)
	if err != nil {
		return err
	}
	rules := mms.Rules{Countries: c.Countries, Senders: senders, AllowPrivateMedia: c.AllowPrivateMedia, RefuseFictional: !c.Plivo.Simulated()}
	store, err := openStore(ctx, c.Shared, connections{max: c.MaxConnections, listeners: apiListeners}, logger)
	if err != nil {
		return err
	}
	defer closeLogged(logger, "the database", store.Close)
	err = awaitDatabase(ctx, logger, func(ctx context.Context) error { return createFirstAdmin(ctx, c, store, logger) })
	if err != nil {
		return err
	}

	redis, err := queue.Open(string(c.RedisURL), logger)
	if err != nil {
		return err
	}
	defer closeLogged(logger, "Redis", redis.Close)
	defer runInBackground(redis.WatchSetup)()
	tasks := queue.NewClient(redis)
	dashboard := queue.NewDashboard(redis, httpkit.BasePath(c.PublicURL), queuesPath, c.QueuesWritable)
	defer closeLogged(logger, "the dashboard", dashboard.Close)

	users := auth.NewUserCache(store)
	authService := auth.New(users, store, newSessions(store.Sessions(), c.PublicURL), c.Signup == "open")
	keyCache := auth.NewKeyCache(store)
	keys := auth.NewKeyService(store, keyCache)
	revoked, err := postgres.Listen(ctx, string(c.DatabaseListenURL), postgres.AccessRevokedChannel, logger)
	if err != nil {
		return err
	}
	ids := intake.NewIDs(store.Now)
	if err := awaitDatabase(ctx, logger, ids.Measure); err != nil {
		return err
	}
	pictures := media.New(media.Options{Store: store, Budget: c.MediaBudget, Memory: c.MediaMemory, Quota: c.MediaQuota})
	links := linkChecker(c, rules, store, pictures)
	messageIntake := &intake.Intake{Rules: rules, DailyCap: c.DailyCap, Store: store, Queue: tasks, Uploads: pictures, IDs: ids, Logger: logger}
	pages, err := webui.New(webui.Options{
		Auth: authService, Intake: messageIntake, Messages: store, Uploads: pictures, Links: links, Batches: store, Keys: keys, Webhooks: store,
		PrivateWebhooks: c.AllowPrivateWebhooks, Pauses: store, Suppressions: store, OptOutScope: mms.OptOutScope(c.OptOutScope), Senders: senders, Rates: store,
		PublicURL: c.PublicURL, Simulated: c.Plivo.Simulated(), Logger: logger,
	})
	if err != nil {
		return err
	}
	hub := live.New(store, logger)
	changes, err := postgres.Listen(ctx, string(c.DatabaseListenURL), postgres.MessageChangesChannel, logger)
	if err != nil {
		return err
	}
	process, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("creating the id of the process: %w", err)
	}
	callbackHealth := callback.NewHealth(store, process, logger)
	if err := awaitDatabase(ctx, logger, callbackHealth.Beat); err != nil { // before the first callback can arrive
		return err
	}
	registry := newRegistry()
	handlers := apiHandlers{
		config:    c,
		logger:    logger,
		registry:  registry,
		auth:      authService,
		keys:      keyCache,
		pages:     pages,
		dashboard: dashboard,
		ready: readyz(
			dependency{name: "postgres", state: usable(store.CheckWritable), required: true},
			dependency{name: "redis", state: usable(tasks.CheckWritable)},
			sendingHealth(store.Pauses),
			queueHealth(tasks.Faults, store.WithoutProgress),
		),
		api: httpapi.New(httpapi.Options{
			Auth: authService, Keys: keys, KeyRate: c.KeyRate, Intake: messageIntake, Messages: store, Batches: store,
			Webhooks: store, Media: pictures, Links: links, PrivateWebhooks: c.AllowPrivateWebhooks, Live: hub, PublicURL: c.PublicURL,
			Simulated: c.Plivo.Simulated(), SessionCookie: sessionCookie, Logger: logger,
		}),
		callbacks: callback.New(callback.Options{
			Verifier: plivo.Verifier{Tokens: callbackTokens(c.Plivo), CallbackURL: c.CallbackURL},
			Inbox:    store,
			Count:    callbackMetric(registry),
			Reports:  callback.Reports{Store: store, OnDuplicate: duplicateMetric(registry)},
			Logger:   logger,
		}),
		callbackHealth: callbackHealth,
	}
	logger.InfoContext(ctx, "api started", slog.String("addr", c.Addr), slog.Bool("simulated", c.Plivo.Simulated()))

	// The notifier runs until the last request has finished.
	defer runInBackground(func(ctx context.Context) { store.RunNotifier(ctx, logger) })()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { hub.Run(ctx, changes); return nil })
	group.Go(func() error { disconnectRevoked(ctx, revoked, keyCache, users, hub); return nil })
	group.Go(func() error { return httpkit.Serve(ctx, c.Addr, handlers.router(), logger) })
	group.Go(func() error {
		return httpkit.Serve(ctx, c.MetricsAddr, operationsHandler(registry, handlers.ready), logger)
	})
	group.Go(func() error {
		maintenance.Run(ctx, maintenance.CallbackHeartbeat(callbackHealth.Beat), logger)
		callbackHealth.Break(ctx) // from here on callbacks are refused
		return nil
	})
	group.Go(func() error {
		maintenance.Run(ctx, maintenance.SessionCleanup(store.Sessions().DeleteExpired), logger)
		return nil
	})
	group.Go(func() error {
		maintenance.Run(ctx, maintenance.Job{Name: "clock comparison", Interval: intake.MeasureInterval, Run: ids.Measure}, logger)
		return nil
	})
	return group.Wait()
}

// disconnectRevoked drops a user or API key from the caches and closes its live
// streams when its access is revoked, until ctx ends. If notifications may have
// been lost, it does so for all.
func disconnectRevoked(ctx context.Context, revoked <-chan string, keys *auth.KeyCache, users *auth.UserCache, hub *live.Hub) {
	for {
		select {
		case payload := <-revoked:
			id, _ := uuid.Parse(payload) // uuid.Nil, for an empty payload, means all
			keys.Drop(id)
			users.Drop(id)
			hub.Disconnect(id)
		case <-ctx.Done():
			return
		}
	}
}

// callbackTokens returns the tokens with which Plivo may sign callbacks.
func callbackTokens(c config.Plivo) []string {
	tokens := []string{string(c.AuthToken)}
	if c.PreviousToken != "" {
		tokens = append(tokens, string(c.PreviousToken))
	}
	return tokens
}

func createFirstAdmin(ctx context.Context, c config.API, store *postgres.Store, logger *slog.Logger) error {
	if c.AdminEmail == "" {
		return nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("creating a user id: %w", err)
	}
	admin, err := identity.NewUser(id, c.AdminEmail, string(c.AdminPassword), identity.RoleAdmin)
	if err != nil {
		return fmt.Errorf("ADMIN_EMAIL and ADMIN_PASSWORD: %w", err)
	}
	created, err := store.CreateFirstAdmin(ctx, admin)
	if created {
		logger.InfoContext(ctx, "created the first admin", slog.Any("user_id", id))
	}
	return err
}

func newSessions(store scs.Store, publicURL string) *scs.SessionManager {
	sessions := scs.New()
	sessions.Store = store
	sessions.HashTokenInStore = true
	sessions.Lifetime = sessionLifetime
	sessions.Cookie.Name = sessionCookie
	sessions.Cookie.Path = httpkit.BasePath(publicURL) + "/"
	sessions.Cookie.HttpOnly = true
	sessions.Cookie.SameSite = http.SameSiteLaxMode
	sessions.Cookie.Secure = strings.HasPrefix(publicURL, "https://")
	return sessions
}

// linkChecker returns nil if links to pictures are not checked.
func linkChecker(c config.API, rules mms.Rules, store *postgres.Store, pictures *media.Service) interface {
	httpapi.Links
	webui.Links
} {
	if c.MediaCheck == "off" {
		return nil
	}
	return &media.Links{Rules: rules, Store: store, Thumbnails: pictures, Checker: mediacheck.New(mediacheck.Options{Budget: c.MediaBudget, AllowPrivate: c.AllowPrivateMedia})}
}

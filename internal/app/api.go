// Package app puts the two processes together: every part is made and wired by
// hand in one flat list, and stopped in the opposite order. It decides nothing
// that a part could decide.
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
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/webui"
)

const (
	apiConnections  = 25 // to the database
	sessionLifetime = 14 * 24 * time.Hour
	queuesPath      = "/admin/queues"
	sessionCookie   = "postcard_session"
)

// RunAPI serves until ctx ends, then finishes the requests under way. It waits
// for a database that is away at the start, and does not need Redis.
func RunAPI(ctx context.Context, c config.API, logger *slog.Logger) error {
	senders, err := sendersOf(c.Plivo)
	if err != nil {
		return err
	}
	rules := mms.Rules{Countries: c.Countries, Senders: senders, AllowPrivateMedia: c.AllowPrivateMedia}
	store, err := openStore(ctx, string(c.DatabaseURL), apiConnections, logger)
	if err != nil {
		return err
	}
	defer closeLogged(logger, "the database", store.Close)
	if err := createFirstAdmin(ctx, c, store, logger); err != nil {
		return err
	}

	redis, err := queue.Connect(string(c.RedisURL))
	if err != nil {
		return err
	}
	defer closeLogged(logger, "Redis", redis.Close)
	tasks := queue.NewClient(redis)
	dashboard, err := queue.NewDashboard(string(c.RedisURL), queuesPath, c.QueuesWritable)
	if err != nil {
		return err
	}
	defer closeLogged(logger, "the dashboard", dashboard.Close)

	users := auth.NewUserCache(store)
	door, err := auth.New(users, store, newSessions(store.Sessions(), c.PublicURL), c.Signup == "open")
	if err != nil {
		return err
	}
	keyCache := auth.NewKeyCache(store)
	keys := auth.NewKeyService(store, keyCache)
	ended, err := postgres.Listen(ctx, string(c.DatabaseURL), postgres.AccessRevokedChannel, logger)
	if err != nil {
		return err
	}
	in := &intake.Intake{Rules: rules, DailyCap: c.DailyCap, Store: store, Queue: tasks, Logger: logger}
	pages, err := webui.New(webui.Options{
		Auth: door, Intake: in, Messages: store, Batches: store, Keys: keys, Webhooks: store, PrivateWebhooks: c.AllowPrivateWebhooks, Pauses: store, Suppressions: store, Senders: senders, Simulated: c.Plivo.Simulated(), Logger: logger,
	})
	if err != nil {
		return err
	}
	hub := live.New(store, logger)
	changes, err := postgres.Listen(ctx, string(c.DatabaseURL), postgres.MessageChangesChannel, logger)
	if err != nil {
		return err
	}
	registry := newRegistry()
	parts := apiParts{
		config:    c,
		logger:    logger,
		registry:  registry,
		auth:      door,
		keys:      keyCache,
		pages:     pages,
		dashboard: dashboard,
		ready: readyz(store,
			dependency{name: "postgres", ping: store.Ping, required: true},
			dependency{name: "redis", ping: tasks.Ping},
		),
		api: httpapi.New(httpapi.Options{
			Auth: door, Keys: keys, KeyRate: c.KeyRate, Intake: in, Messages: store, Batches: store, Webhooks: store, PrivateWebhooks: c.AllowPrivateWebhooks, Live: hub, PublicURL: c.PublicURL, Simulated: c.Plivo.Simulated(),
			SessionCookie: sessionCookie, Logger: logger,
		}),
		callbacks: callback.New(callback.Options{
			Verifier: plivo.Verifier{Tokens: callbackTokens(c.Plivo), PublicURL: c.PublicURL},
			Inbox:    store,
			Count:    callbackMetric(registry),
			Reports:  callback.Reports{Store: store, OnDuplicate: duplicateMetric(registry)},
			Logger:   logger,
		}),
	}
	logger.InfoContext(ctx, "api started", slog.String("addr", c.Addr), slog.Bool("simulated", c.Plivo.Simulated()))

	defer runBeside(func(ctx context.Context) { store.RunNotifier(ctx, logger) })() // until the last requests are over

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { hub.Run(ctx, changes); return nil })
	group.Go(func() error { disconnectRevoked(ctx, ended, keyCache, users, hub); return nil })
	group.Go(func() error { return httpkit.Serve(ctx, c.Addr, parts.handler(), logger) })
	group.Go(func() error {
		return httpkit.Serve(ctx, c.MetricsAddr, operationsHandler(registry, parts.ready), logger)
	})
	group.Go(func() error {
		maintenance.Run(ctx, maintenance.SessionCleanup(store.Sessions().DeleteExpired), logger)
		return nil
	})
	return group.Wait()
}

// disconnectRevoked has the holders of an access that has ended show again who they are, and
// everybody where word of that may have been missed, until ctx ends.
func disconnectRevoked(ctx context.Context, ended <-chan string, keys *auth.KeyCache, users *auth.UserCache, hub *live.Hub) {
	for {
		select {
		case word := <-ended:
			id, _ := uuid.Parse(word) // the empty one, and what cannot be read, are all
			keys.Forget(id)
			users.Forget(id)
			hub.Disconnect(id)
		case <-ctx.Done():
			return
		}
	}
}

// callbackTokens are those that callbacks may be signed with.
func callbackTokens(c config.Plivo) []string {
	tokens := []string{string(c.AuthToken)}
	if c.OldToken != "" {
		tokens = append(tokens, string(c.OldToken))
	}
	return tokens
}

func createFirstAdmin(ctx context.Context, c config.API, store *postgres.Store, logger *slog.Logger) error {
	if c.AdminEmail == "" {
		return nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("making a user id: %w", err)
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
	sessions.Cookie.HttpOnly = true
	sessions.Cookie.SameSite = http.SameSiteLaxMode
	sessions.Cookie.Secure = strings.HasPrefix(publicURL, "https://")
	return sessions
}

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

	"postcard/internal/config"
	"postcard/internal/httpapi"
	"postcard/internal/httpkit"
	"postcard/internal/identity"
	"postcard/internal/intake"
	"postcard/internal/live"
	"postcard/internal/mms"
	"postcard/internal/plivo"
	"postcard/internal/postgres"
	"postcard/internal/queue"
	"postcard/internal/receipts"
	"postcard/internal/signin"
	"postcard/internal/webhook"
	"postcard/internal/webui"
	"postcard/internal/worker"
)

const (
	apiConnections  = 25 // to the database
	sessionLifetime = 14 * 24 * time.Hour
	sessionsSweep   = 10 * time.Minute
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
	defer closing(logger, "the database", store.Close)
	if err := createFirstAdmin(ctx, c, store, logger); err != nil {
		return err
	}

	redis, err := queue.Connect(string(c.RedisURL))
	if err != nil {
		return err
	}
	defer closing(logger, "Redis", redis.Close)
	tasks := queue.NewClient(redis)
	dashboard, err := queue.NewDashboard(string(c.RedisURL), queuesPath, c.QueuesWritable)
	if err != nil {
		return err
	}
	defer closing(logger, "the dashboard", dashboard.Close)

	users := signin.NewUserCache(store)
	door, err := signin.New(users, store, newSessions(store.Sessions(), c.PublicURL), c.Signup == "open")
	if err != nil {
		return err
	}
	keys := keyStore{Store: store, cache: signin.NewKeyCache(store)}
	ended, err := postgres.Listen(ctx, string(c.DatabaseURL), postgres.AccessChannel, logger)
	if err != nil {
		return err
	}
	in := &intake.Intake{Rules: rules, DailyCap: c.DailyCap, Store: store, Queue: tasks, Logger: logger}
	pages, err := webui.New(webui.Options{
		Door: door, Intake: in, Messages: store, Batches: store, Keys: keys, Webhooks: store, PrivateWebhooks: c.AllowPrivateWebhooks, Pauses: store, Suppressed: store, Senders: senders, Simulated: c.Plivo.Simulated(), Logger: logger,
	})
	if err != nil {
		return err
	}
	hub := live.New(store, logger)
	changes, err := postgres.Listen(ctx, string(c.DatabaseURL), postgres.ChangesChannel, logger)
	if err != nil {
		return err
	}
	registry := newRegistry()
	parts := apiParts{
		config:    c,
		logger:    logger,
		registry:  registry,
		door:      door,
		keys:      keys.cache,
		pages:     pages,
		dashboard: dashboard,
		ready: readyz(store,
			dependency{name: "postgres", ping: store.Ping, required: true},
			dependency{name: "redis", ping: tasks.Ping},
		),
		api: httpapi.New(httpapi.Options{
			Door: door, Keys: keys, KeyRate: c.KeyRate, Intake: in, Messages: store, Batches: store, Webhooks: store, PrivateWebhooks: c.AllowPrivateWebhooks, Live: hub, PublicURL: c.PublicURL, Simulated: c.Plivo.Simulated(),
			SessionCookie: sessionCookie, Logger: logger,
		}),
		webhook: webhook.New(webhook.Options{
			Verifier: plivo.Verifier{Tokens: callbackTokens(c.Plivo), PublicURL: c.PublicURL},
			Inbox:    store,
			Count:    callbackMetric(registry),
			Receipts: receipts.Receipts{Store: store, Duplicates: duplicateMetric(registry)},
			Logger:   logger,
		}),
	}
	logger.InfoContext(ctx, "api started", slog.String("addr", c.Addr), slog.Bool("simulated", c.Plivo.Simulated()))

	defer beside(func(ctx context.Context) { store.Announce(ctx, logger) })() // until the last requests are over

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { hub.Run(ctx, changes); return nil })
	group.Go(func() error { endAccess(ctx, ended, keys.cache, users, hub); return nil })
	group.Go(func() error { return httpkit.Serve(ctx, c.Addr, parts.handler(), logger) })
	group.Go(func() error {
		return httpkit.Serve(ctx, c.MetricsAddr, operationsHandler(registry, parts.ready), logger)
	})
	group.Go(func() error {
		worker.Every(ctx, "removal of old sessions", sessionsSweep, nil, logger, store.Sessions().DeleteExpired)
		return nil
	})
	return group.Wait()
}

// keyStore forgets a key that is revoked here before it says so; the other
// processes hear of it from the database.
type keyStore struct {
	*postgres.Store
	cache *signin.KeyCache
}

// RevokeKey implements httpapi.Keys and webui.Keys.
func (k keyStore) RevokeKey(ctx context.Context, user, id uuid.UUID) error {
	err := k.Store.RevokeKey(ctx, user, id)
	k.cache.Forget(id)
	return err
}

// endAccess has the holders of an access that has ended show again who they are, and
// everybody where word of that may have been missed, until ctx ends.
func endAccess(ctx context.Context, ended <-chan string, keys *signin.KeyCache, users *signin.UserCache, hub *live.Hub) {
	for {
		select {
		case word := <-ended:
			id, _ := uuid.Parse(word) // the empty one, and what cannot be read, are all
			keys.Forget(id)
			users.Forget(id)
			hub.ShowOut(id)
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
	admin, err := identity.NewUser(id, c.AdminEmail, string(c.AdminPassword), identity.Admin)
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

package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// connections are those of a process to Postgres.
type connections struct {
	max       int // in all
	listeners int // of them, beside the pool
}

// openStore waits for the database, up to startTimeout, checks that the process can
// use it, and migrates and checks its schema.
func openStore(ctx context.Context, c config.Shared, n connections, logger *slog.Logger) (*postgres.Store, error) {
	store, err := postgres.Open(string(c.DatabaseURL), n.max-n.listeners, postgres.StatementTimeout)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	store.SetOptOutScope(mms.OptOutScope(c.OptOutScope))
	store.UseMedia(c.Plivo.AuthID, c.MediaCheck == "on")
	err = prepareDatabase(ctx, c, store, n.max, logger)
	if err != nil {
		closeLogged(logger, "the database", store.Close)
		return nil, err
	}
	return store, nil
}

func prepareDatabase(ctx context.Context, c config.Shared, store *postgres.Store, maxConnections int, logger *slog.Logger) error {
	if err := await(ctx, "the database", logger, store.Ping); err != nil {
		return err
	}
	if err := store.CheckSessions(ctx); err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	if err := checkConnectionLimits(ctx, store, maxConnections, logger); err != nil {
		return err
	}
	if err := migrate(ctx, string(c.DatabaseListenURL)); err != nil {
		return fmt.Errorf("%s: %w", listenVariable(c), err)
	}
	return await(ctx, "the database to be writable", logger, store.CheckWritable)
}

// listenVariable is the variable that DatabaseListenURL comes from.
func listenVariable(c config.Shared) string {
	if c.DatabaseListenURL == c.DatabaseURL {
		return "DATABASE_URL"
	}
	return "DATABASE_LISTEN_URL"
}

// migrate uses a store without a statement timeout, because migrating a large
// table may take long. The migrations' lock and LISTEN, which uses the same URL, need
// sessions.
func migrate(ctx context.Context, url string) error {
	store, err := postgres.Open(url, 2, 0)
	if err != nil {
		return err
	}
	err = store.CheckSessions(ctx)
	if err == nil {
		err = postgres.Migrate(ctx, store.DB())
	}
	if err == nil {
		err = postgres.CheckSchema(ctx, store.DB())
	}
	return errors.Join(err, store.Close())
}

// checkConnectionLimits returns an error if the server never allows as many
// connections as this process may open, and logs a warning if it does not allow them
// beside those that are open now.
func checkConnectionLimits(ctx context.Context, store *postgres.Store, maxConnections int, logger *slog.Logger) error {
	limits, err := store.ConnectionLimits(ctx)
	if err != nil {
		return err
	}
	for _, limit := range limits {
		if maxConnections > limit.Max {
			return fmt.Errorf("DATABASE_MAX_CONNECTIONS is %d, more than the server allows (%s): lower it, or raise the server's limit", maxConnections, limit)
		}
		if maxConnections+limit.Open > limit.Max {
			logger.WarnContext(ctx, "the database may run out of connections: lower DATABASE_MAX_CONNECTIONS of the api and the workers so that their sum fits, or raise the server's limit",
				slog.Int("own_maximum", maxConnections), slog.String("limit", limit.Name), slog.Int("max", limit.Max), slog.Int("open", limit.Open))
		}
	}
	return nil
}

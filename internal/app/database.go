package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

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
	// A database that is being set up may refuse the user for a while, too.
	always := func(error) bool { return true }
	if err := await(ctx, "the database", logger, store.Ping, always); err != nil {
		return err
	}
	if err := awaitDatabase(ctx, logger, store.CheckSessions); err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	err := awaitDatabase(ctx, logger, func(ctx context.Context) error {
		return checkConnectionLimits(ctx, store, maxConnections, logger)
	})
	if err != nil {
		return err
	}
	// Migrations are not limited by startTimeout.
	err = awaitDatabase(ctx, logger, func(context.Context) error { return migrate(ctx, string(c.DatabaseListenURL)) })
	if err != nil {
		return fmt.Errorf("%s: %w", listenVariable(c), err)
	}
	return await(ctx, "the database to be writable", logger, store.CheckWritable, always)
}

// startTimeout limits how long each step of the start waits for the database.
const startTimeout = time.Minute

// awaitDatabase calls step until it does not fail because the database is unavailable,
// for at most startTimeout: a failover during the start is no reason to stop.
func awaitDatabase(ctx context.Context, logger *slog.Logger, step func(context.Context) error) error {
	return await(ctx, "the database", logger, step, func(err error) bool { return errors.Is(err, mms.ErrUnavailable) })
}

// await calls step until it succeeds or fails with an error that does not pass, for at
// most startTimeout.
func await(ctx context.Context, name string, logger *slog.Logger, step func(context.Context) error, passes func(error) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for logged := false; ; logged = true {
		err := step(ctx)
		if err == nil || !passes(err) {
			return err
		}
		if !logged {
			logger.WarnContext(ctx, fmt.Sprintf("waiting for %s", name), slog.Any("error", err))
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", name, err)
		}
	}
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

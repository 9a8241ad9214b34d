package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/postcard-mms/postcard/migrations"
)

// ErrOldLayout is returned for a database whose tables were created before version
// 0.1.0. There is no migration from that layout.
var ErrOldLayout = errors.New("this database has the layout of a version before 0.1.0; create a new database")

// Migrate applies the migrations that are missing. Several processes may call it at
// once: a session lock lets one of them apply migrations while the others wait. It
// returns ErrOldLayout, and changes nothing, for a database from before 0.1.0. Call
// CheckSchema afterwards: a migration that was applied once is not looked at again.
func Migrate(ctx context.Context, db *sql.DB) error {
	if err := checkLayout(ctx, db); err != nil {
		return err
	}
	provider, err := newProvider(db)
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return wrapError(err, "applying migrations")
	}
	return nil
}

// MigrateDown reverts all migrations and with that deletes all data. It exists for
// tests.
func MigrateDown(ctx context.Context, db *sql.DB) error {
	provider, err := newProvider(db)
	if err != nil {
		return err
	}
	if _, err := provider.DownTo(ctx, 0); err != nil {
		return fmt.Errorf("reverting migrations: %w", err)
	}
	return nil
}

// isOldLayout selects true if the rate limits have their old table, gates, or if
// migrations were applied that did not create rate_limits, as the first one does now.
const isOldLayout = `
SELECT to_regclass('gates') IS NOT NULL
    OR to_regclass('rate_limits') IS NULL AND EXISTS (SELECT FROM goose_db_version WHERE version_id > 0)`

func checkLayout(ctx context.Context, db *sql.DB) error {
	const doing = "checking the database's layout"
	var migrated, old bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL`).Scan(&migrated); err != nil {
		return wrapError(err, doing)
	}
	if !migrated { // an empty database
		return nil
	}
	if err := db.QueryRowContext(ctx, isOldLayout).Scan(&old); err != nil {
		return wrapError(err, doing)
	}
	if old {
		return ErrOldLayout
	}
	return nil
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 120)) // tries every second for two minutes
	if err != nil {
		return nil, fmt.Errorf("creating the migration lock: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS, goose.WithSessionLocker(locker))
	if err != nil {
		return nil, fmt.Errorf("reading migrations: %w", err)
	}
	return provider, nil
}

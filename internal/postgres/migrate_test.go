package postgres_test

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestOldLayoutIsRefused checks that Migrate neither migrates nor changes a database
// from before 0.1.0.
func TestOldLayoutIsRefused(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]string{
		"version 13":          `CREATE TABLE gates (); INSERT INTO goose_db_version (version_id, is_applied) VALUES (1, true), (13, true)`,
		"version 1":           `CREATE TABLE messages (); INSERT INTO goose_db_version (version_id, is_applied) VALUES (1, true)`,
		"with a table gates":  `CREATE TABLE gates ()`,
		"without rate limits": `INSERT INTO goose_db_version (version_id, is_applied) VALUES (2, true)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := emptyDatabase(t)
			if _, err := db.Exec(setup); err != nil {
				t.Fatal(err)
			}
			before := tables(t, db)
			if err := postgres.Migrate(t.Context(), db); !errors.Is(err, postgres.ErrOldLayout) {
				t.Errorf("got %v, want ErrOldLayout", err)
			}
			if after := tables(t, db); after != before {
				t.Errorf("got tables %s after Migrate, want %s", after, before)
			}
		})
	}
}

// emptyDatabase is a database whose migrations were reverted: it has the table
// goose_db_version, without applied versions.
func emptyDatabase(t *testing.T) *sql.DB {
	t.Helper()
	store := openStore(t, testkit.Database(t), 2, postgres.StatementTimeout)
	if err := postgres.MigrateDown(t.Context(), store.DB()); err != nil {
		t.Fatal(err)
	}
	return store.DB()
}

func tables(t *testing.T, db *sql.DB) (names string) {
	t.Helper()
	err := db.QueryRow(`SELECT coalesce(string_agg(table_name, ' ' ORDER BY table_name), '') FROM information_schema.tables WHERE table_schema = 'public'`).Scan(&names)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestForeignKeysToMessagesAreIndexed checks what the database reads to delete
// messages: a foreign key without an index would scan its whole table per message.
func TestForeignKeysToMessagesAreIndexed(t *testing.T) {
	t.Parallel()
	const messages, deleted = 3_000, 100
	store, workspace := newStore(t)
	for _, statement := range []string{`
WITH m AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, final_at)
    SELECT lpad(to_hex(i), 32, '0')::uuid, $1::uuid, '+14155550100', '+14155550101', '', 'canceled', now() FROM generate_series(1, $2::int) i RETURNING id
), media AS (
    INSERT INTO message_media SELECT id, 1, 'https://example.com/a.jpg' FROM m
), search AS (
    INSERT INTO message_search SELECT id, '', '{}' FROM m
), attempts AS (
    INSERT INTO attempts (message_id, ordinal, token, sender, lease_until, finished_at, outcome)
    SELECT id, 1, 'token-of-message-' || id, '+14155550100', now(), now(), 'permanent_failure' FROM m
), silences AS (
    INSERT INTO silence_retries (message_id, ordinal) SELECT id, 1 FROM m
), keys AS (
    INSERT INTO idempotency_keys SELECT $1::uuid, id::text, decode(repeat('00', 32), 'hex'), id FROM m
), hooks AS (
    INSERT INTO webhooks (id, workspace_id, url, secret) VALUES (gen_random_uuid(), $1::uuid, 'https://example.com', 's') RETURNING id
), hook_events AS (
    INSERT INTO webhook_events (webhook_id, message_id) SELECT hooks.id, m.id FROM hooks, m
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'created', 'queued' FROM m`,
		`UPDATE messages SET resend_of = '00000000-0000-0000-0000-000000000001' WHERE id > '00000000-0000-0000-0000-000000000001' AND $1::uuid IS NOT NULL AND $2::int > 0`,
	} {
		if _, err := store.DB().Exec(statement, workspace, messages); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.DB().Exec(`ANALYZE`); err != nil {
		t.Fatal(err)
	}
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	result, err := tx.Exec(`DELETE FROM messages WHERE id > $1::uuid AND id <= lpad(to_hex($2::int), 32, '0')::uuid`, "00000000-0000-0000-0000-000000000100", 0x100+deleted)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); err != nil || n != deleted {
		t.Fatalf("got %d messages deleted, %v, want %d", n, err, deleted)
	}
	// The DELETE itself may read the table once; a foreign key without an index
	// reads it again for each deleted row.
	rows, err := tx.Query(`SELECT relname, seq_tup_read FROM pg_stat_xact_user_tables WHERE seq_tup_read > $1`, messages)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var table string
		var n int
		if err := rows.Scan(&table, &n); err != nil {
			t.Fatal(err)
		}
		t.Errorf("deleting messages read %d rows of %s sequentially, want an index", n, table)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestForeignKeysToMessagesAreKnown fails for a new reference that
// TestForeignKeysToMessagesAreIndexed does not cover.
func TestForeignKeysToMessagesAreKnown(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	const want = "attempts.message_id idempotency_keys.message_id message_events.message_id message_media.message_id message_search.message_id messages.resend_of silence_retries.message_id webhook_events.message_id"
	var got string
	err := store.DB().QueryRow(`
SELECT string_agg(c.conrelid::regclass || '.' || a.attname, ' ' ORDER BY c.conrelid::regclass::text, a.attname)
FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
WHERE c.contype = 'f' AND c.confrelid = 'messages'::regclass`).Scan(&got)
	if err != nil || got != want {
		t.Errorf("got references to messages from %s, %v, want %s", got, err, want)
	}
}

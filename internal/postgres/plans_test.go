package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/postgres"
)

// TestGenericPlansUseIndexes checks the plans that Postgres keeps for prepared
// statements, with a full table and its statistics, and, where a plan of an empty table
// may serve for a while, with empty tables.
func TestGenericPlansUseIndexes(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	for name, statement := range map[string]struct{ query, args string }{
		"owners":   {postgres.OwnersStatement, "NULL"},
		"versions": {postgres.VersionsStatement, "NULL"},
	} {
		wantIndexes(t, store, name+", empty tables", statement.query, statement.args)
	}
	if _, err := store.DB().Exec(`
WITH m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, plivo_uuid, final_at, attempts)
    SELECT lpad(to_hex(i), 32, '0')::uuid, $1::uuid, '+14155550100', '+14155550101', '', 'delivered', i::text, now(), 1 FROM generate_series(1, 10000) i
    RETURNING id, plivo_uuid
), attempt AS (
    INSERT INTO attempts (message_id, ordinal, token, sender, lease_until, finished_at, outcome, plivo_uuid)
    SELECT id, 1, 'token-of-message-' || id, '+14155550100', now(), now(), 'accepted', plivo_uuid FROM m
)
INSERT INTO message_events (message_id, kind, status)
SELECT id, 'report', status FROM m, unnest(ARRAY['queued', 'sending', 'submitted', 'delivered']) AS status`, owner); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`ANALYZE`); err != nil {
		t.Fatal(err)
	}
	for name, statement := range map[string]struct{ query, args string }{
		"unreported messages": {postgres.TakeUnreportedStatement, "600, 100"},
		"medians":             {postgres.MediansStatement, fmt.Sprintf("7, 2000, '%s'", uuid.New())},
		"owners":              {postgres.OwnersStatement, "NULL"},
		"versions":            {postgres.VersionsStatement, "NULL"},
	} {
		wantIndexes(t, store, name, statement.query, statement.args)
	}
}

func wantIndexes(t *testing.T, store *postgres.Store, name, query, args string) {
	t.Helper()
	ctx := context.Background()
	conn, err := store.DB().Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exec := func(statement string) {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	exec(`SET plan_cache_mode = force_generic_plan`)
	exec(`PREPARE checked AS ` + query)
	defer exec(`DEALLOCATE checked; RESET plan_cache_mode`)
	rows, err := conn.QueryContext(ctx, `EXPLAIN EXECUTE checked(`+args+`)`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		plan.WriteString(line + "\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(plan.String(), "Seq Scan") {
		t.Errorf("%s: got a sequential scan, want indexes:\n%s", name, &plan)
	}
}

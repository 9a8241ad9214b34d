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
	store, workspace := newStoreForLargeTables(t)
	for name, statement := range map[string]struct{ query, args string }{
		"workspaces": {postgres.WorkspacesStatement, "NULL"},
		"versions":   {postgres.VersionsStatement, "NULL"},
	} {
		wantIndexes(t, store, name+", empty tables", statement.query, statement.args)
	}
	if _, err := store.DB().Exec(`
WITH m AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, plivo_uuid, final_at, attempts)
    SELECT lpad(to_hex(i), 32, '0')::uuid, $1::uuid, '+14155550100', '+14155550101', '', 'delivered', i::text, now(), 1 FROM generate_series(1, 10000) i
    RETURNING id, plivo_uuid
), attempt AS (
    INSERT INTO attempts (message_id, ordinal, token, sender, lease_until, finished_at, outcome, plivo_uuid)
    SELECT id, 1, 'token-of-message-' || id, '+14155550100', now(), now(), 'accepted', plivo_uuid FROM m
), media AS (
    INSERT INTO message_media (message_id, position, url, content)
    SELECT id, n, 'https://example.com/a.jpg', CASE WHEN n = 2 THEN sha256(convert_to(id::text, 'UTF8')) END FROM m, generate_series(1, 2) n
)
INSERT INTO message_events (message_id, kind, status)
SELECT id, 'report', status FROM m, unnest(ARRAY['queued', 'sending', 'submitted', 'delivered']) AS status`, workspace); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`ANALYZE`); err != nil {
		t.Fatal(err)
	}
	for name, statement := range map[string]struct{ query, args string }{
		"unreported messages": {postgres.TakeUnreportedStatement, "600, 100"},
		"medians":             {postgres.MediansStatement, fmt.Sprintf("7, 2000, '%s'", uuid.New())},
		"workspaces":          {postgres.WorkspacesStatement, "NULL"},
		"versions":            {postgres.VersionsStatement, "NULL"},
	} {
		wantIndexes(t, store, name, statement.query, statement.args)
	}
	// These read small tables as a whole, but not the large ones.
	for name, statement := range map[string]struct{ query, args string }{
		"task checks":               {postgres.TakeForTaskCheckStatement, "500, false, true, ''"},
		"messages without progress": {postgres.SomeWithoutProgressStatement, "true, ''"},
	} {
		plan := genericPlan(t, store, statement.query, statement.args)
		for _, table := range []string{"messages", "attempts", "message_media"} {
			if strings.Contains(plan, "Seq Scan on "+table) {
				t.Errorf("%s: got a sequential scan of %s, want indexes:\n%s", name, table, plan)
			}
		}
	}
}

// TestMediaPlansUseIndexes has many messages, contents, checks and uploads. Only few messages
// are being prepared or scheduled.
func TestMediaPlansUseIndexes(t *testing.T) {
	t.Parallel()
	store, workspace := newStoreForLargeTables(t)
	for _, statement := range []string{
		`INSERT INTO media_contents (hash, type, bytes, width, height, data, touched_at) SELECT sha256(i::text::bytea), 'image/png', 1, 1, 1, 'x', now() - i * interval '10 seconds' FROM generate_series(1, 10000) i`,
		`UPDATE media_contents SET preview = sha256('1')`,
		`INSERT INTO media_uploads (id, workspace_id, type, bytes, width, height, sent, original, changed, expires_at)
			SELECT gen_random_uuid(), CASE WHEN row_number() OVER () % 100 = 0 THEN '$workspace' ELSE '$other' END::uuid, 'image/png', 1, 1, 1, hash, hash, '{}', touched_at + interval '3 hours' FROM media_contents`,
		`INSERT INTO media_checks (url_hash, result, copy, preview, checked_at) SELECT hash, 'passed', hash, hash, touched_at FROM media_contents`,
		`INSERT INTO media_fitted SELECT hash, 1, hash FROM media_contents`,
		`INSERT INTO plivo_media (content, account, media_id, used, usable_until) SELECT hash, 'MA1', 'm', get_byte(hash, 0) > 5, now() FROM media_contents`,
		`INSERT INTO messages (id, workspace_id, sender, recipient, text, status, plivo_uuid, plivo_code, final_at, attempts)
			SELECT lpad(to_hex(i), 32, '0')::uuid, '$workspace'::uuid, '+14155550100', '+1416' || (2000000 + i), '', CASE WHEN i % 1000 = 0 THEN 'failed' ELSE 'delivered' END, i::text,
			CASE WHEN i % 1000 = 0 THEN '120' ELSE '' END, now(), 1 FROM generate_series(1, 20000) i`,
		`INSERT INTO attempts (message_id, ordinal, token, sender, lease_until, finished_at, outcome, plivo_uuid)
			SELECT id, 1, 'token-of-message-' || id, sender, now(), now(), 'accepted', plivo_uuid FROM messages`,
		`INSERT INTO messages (id, workspace_id, sender, recipient, text, status, next_attempt_at, task_check_at, backlog_state, prepare_at)
			SELECT gen_random_uuid(), '$workspace'::uuid, '+14155550100', '+1437' || (2000000 + i), '', 'queued', now(), 'infinity', 'preparing', now() FROM generate_series(1, 50) i`,
		`INSERT INTO messages (id, workspace_id, sender, recipient, text, status, send_at)
			SELECT gen_random_uuid(), '$workspace'::uuid, '+14155550100', '+1437' || (2000100 + i), '', 'scheduled', now() FROM generate_series(1, 50) i`,
		`INSERT INTO message_media (message_id, position, content, preview) SELECT id, 1, sha256((row_number() OVER () % 10000)::text::bytea), sha256('1') FROM messages`,
		`ANALYZE`,
	} {
		execute(t, store, strings.NewReplacer("$workspace", workspace.String(), "$other", addUser(t, store, uuid.NewString()+"@example.com").String()).Replace(statement))
	}
	id, ids := "'"+uuid.NewString()+"'", "'{"+uuid.NewString()+"}'"
	for name, statement := range map[string]struct{ query, args string }{
		"claim":                {postgres.ClaimMessageStatement, id + `, '', 1, true, 'MA1'`},
		"claim together":       {postgres.ClaimMessagesStatement, ids + `, '{x}', 1, true, 'MA1'`},
		"claim blocker":        {postgres.SelectClaimBlockerStatement, id + `, true, 'MA1'`},
		"create":               {postgres.CreateMessagesStatement, nulls(postgres.CreateMessagesStatement)},
		"create a batch":       {postgres.InsertBatchMessagesStatement, nulls(postgres.InsertBatchMessagesStatement)},
		"queue scheduled":      {postgres.QueueScheduledStatement, `1000, 'MA1', true`},
		"preparations":         {postgres.SelectPreparationsStatement, `1000, 'MA1'`},
		"mark prepared":        {postgres.MarkPreparedStatement, ids + `, '{x}', ` + ids + `, '{1}', '{x}', '{x}'`},
		"postpone preparation": {postgres.PostponePreparationStatement, ids + `, 1`},
		"fail preparation":     {postgres.FailPreparationStatement, ids + `, '', ''`},
		"forget media ids":     {postgres.ForgetPlivoMediaStatement, id + `, 'MA1'`},
		"mark used media ids":  {postgres.MarkUsedPlivoMediaStatement, `'MA1', 1`},
		"media checks":         {postgres.SelectMediaChecksStatement, `'{x}'`},
		"quota":                {postgres.SelectQuotaUsedStatement, id},
		"message picture":      {postgres.SelectMessagePictureStatement, id + `, ` + id + `, 1, true`},
		"delete an upload":     {postgres.DeleteUploadStatement, id + `, ` + id},
		"delete old uploads":   {postgres.DeleteOldUploadsStatement, `100`},
		"delete old checks":    {postgres.DeleteOldMediaChecksStatement, `100`},
		"delete contents":      {postgres.DeleteUnusedContentsStatement, `100`},
		"refit candidates":     {postgres.SelectRefitCandidateStatement, id + `, 100`},
	} {
		plan := genericPlan(t, store, statement.query, statement.args)
		for _, table := range []string{"messages", "message_media", "attempts", "media_", "plivo_media"} {
			if strings.Contains(plan, "Seq Scan on "+table) {
				t.Errorf("%s: got a sequential scan of %s, want indexes:\n%s", name, table, plan)
			}
		}
	}
}

// TestPreparingReadsOnlyItsMessages prepares a few messages of a large batch, with plans that
// Postgres made before it knew of the batch.
func TestPreparingReadsOnlyItsMessages(t *testing.T) {
	t.Parallel()
	const few = `'{00000000-0000-0000-0000-0000000f4300, 00000000-0000-0000-0000-0000000f4400, 00000000-0000-0000-0000-0000000f5000}'`
	store, workspace := newStoreForLargeTables(t)
	store.DB().SetMaxOpenConns(1) // the connection with the prepared statements
	batch := createBatch(t, store, workspace, 0)
	for _, statement := range []string{
		`ALTER TABLE messages SET (autovacuum_enabled = false)`,
		`INSERT INTO messages (id, workspace_id, sender, recipient, text, status, plivo_uuid, final_at, attempts)
			SELECT lpad(to_hex(i), 32, '0')::uuid, '$workspace'::uuid, '+14155550100', '+1416' || (2000000 + i), '', 'delivered', i::text, now(), 1 FROM generate_series(1, 20000) i`,
		`ANALYZE`,
		`SET plan_cache_mode = force_generic_plan`,
		`PREPARE mark_prepared AS ` + postgres.MarkPreparedStatement,
		`PREPARE postpone AS ` + postgres.PostponePreparationStatement,
		`PREPARE fail AS ` + postgres.FailPreparationStatement,
		`EXECUTE mark_prepared('{}', '{}', '{}', '{}', '{}', '{}')`, // makes the plan
		`EXECUTE postpone('{}', 1)`,
		`EXECUTE fail('{}', '', '')`,
		`INSERT INTO messages (id, workspace_id, sender, recipient, text, status, next_attempt_at, task_check_at, backlog_state, prepare_at, batch_id)
			SELECT lpad(to_hex(1000000 + i), 32, '0')::uuid, '$workspace'::uuid, '+14155550100', '+1437' || (2000000 + i), '', 'queued', now(), 'infinity', 'preparing', now(), '$batch' FROM generate_series(1, 20000) i`,
	} {
		execute(t, store, strings.NewReplacer("$workspace", workspace.String(), "$batch", batch.ID.String()).Replace(statement))
	}
	const most = 400 // pages; 200 of them are the system's tables, when a statement first runs
	for _, statement := range []string{`postpone(` + few + `, 1)`, `mark_prepared(` + few + `, '{x, y, z}', '{}', '{}', '{}', '{}')`, `fail(` + few + `, '', '')`} {
		if pages := pagesRead(t, store, `EXECUTE `+statement); pages > most {
			t.Errorf("%s: got %d pages read, want at most %d", statement, pages, most)
		}
	}
}

// nulls are NULL for each parameter of a query.
func nulls(query string) string {
	parameters := 0
	for strings.Contains(query, fmt.Sprintf("$%d", parameters+1)) {
		parameters++
	}
	return strings.TrimSuffix(strings.Repeat("NULL, ", parameters), ", ")
}

func wantIndexes(t *testing.T, store *postgres.Store, name, query, args string) {
	t.Helper()
	if plan := genericPlan(t, store, query, args); strings.Contains(plan, "Seq Scan") {
		t.Errorf("%s: got a sequential scan, want indexes:\n%s", name, plan)
	}
}

// genericPlan returns the plan that Postgres keeps for the prepared query.
func genericPlan(t *testing.T, store *postgres.Store, query, args string) string {
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
	execute := `EXPLAIN EXECUTE checked`
	if args != "" {
		execute += `(` + args + `)`
	}
	rows, err := conn.QueryContext(ctx, execute)
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
	return plan.String()
}

// TestSharedStatementsReadOnlyTheirMessages checks that claiming and recording a few
// messages reads a few pages, whatever the database believes about its tables.
func TestSharedStatementsReadOnlyTheirMessages(t *testing.T) {
	t.Parallel()
	const insertOld, insertQueued, analyze, prepare = "insert old", "insert queued", "analyze", "prepare"
	for name, tt := range map[string]struct {
		steps []string
		most  int // pages; 200 of them are the system's tables, when a statement first runs
	}{
		"statistics of empty tables": {[]string{analyze, insertOld, insertQueued, prepare}, 600},
		"statistics of old messages": {[]string{insertOld, analyze, prepare, insertQueued}, 600},
		// While Postgres believes that the table is empty, all indexes that contain the
		// id cost the same, and the plan may read the whole of one of them.
		"plans for empty tables": {[]string{analyze, prepare, insertOld, insertQueued}, 3000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStoreForLargeTables(t)
			store.DB().SetMaxOpenConns(1) // the connection with the prepared statements
			exec := func(query string, args ...any) {
				t.Helper()
				if _, err := store.DB().Exec(query, args...); err != nil {
					t.Fatal(err)
				}
			}
			setRateLimit(t, store, 0)
			for _, table := range []string{"messages", "attempts", "message_events", "suppressions", "batches"} {
				exec(`ALTER TABLE ` + table + ` SET (autovacuum_enabled = false)`)
			}
			exec(`SET plan_cache_mode = force_generic_plan`)
			for _, step := range tt.steps {
				switch step {
				case insertOld:
					exec(`
WITH m AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, plivo_uuid, final_at, attempts)
    SELECT lpad(to_hex(i), 32, '0')::uuid, $1::uuid, '+14155550100', '+1416' || (2000000 + i), '', 'delivered', i::text, now(), 1 FROM generate_series(1, 20000) i
    RETURNING id, plivo_uuid
)
INSERT INTO attempts (message_id, ordinal, token, sender, lease_until, finished_at, outcome, plivo_uuid)
SELECT id, 1, 'token-of-message-' || id, '+14155550100', now(), now(), 'accepted', plivo_uuid FROM m`, workspace)
					exec(`INSERT INTO suppressions (sender, recipient, reason) SELECT '+14155550100', '+1416' || (2000000 + i), 'recipient' FROM generate_series(1, 20000) i`)
					exec(`INSERT INTO batches (id, workspace_id, name, state) SELECT lpad(to_hex(i), 32, '0')::uuid, $1, '', 'canceled' FROM generate_series(1, 20000) i`, workspace)
				case insertQueued:
					exec(`
INSERT INTO messages (id, workspace_id, sender, recipient, text, status, next_attempt_at, task_check_at)
SELECT lpad(to_hex(1000000 + i), 32, '0')::uuid, $1::uuid, '+14155550100', '+1437' || (2000000 + i), '', 'queued', now(), now() FROM generate_series(1, 5000) i`, workspace)
				case analyze:
					exec(`ANALYZE`)
				case prepare:
					exec(`PREPARE claim_messages AS ` + postgres.ClaimMessagesStatement)
					exec(`PREPARE record_submitted AS ` + postgres.RecordSubmittedStatement)
					exec(`EXECUTE claim_messages('{}', '{}', 12, true, '')`) // makes the plan
					exec(`EXECUTE record_submitted('{}', '{}', '{}', '{}', '{}', '{}')`)
				}
			}

			const few = `'{00000000-0000-0000-0000-0000000f4300, 00000000-0000-0000-0000-0000000f4400, 00000000-0000-0000-0000-0000000f5000}'`
			claims := `EXECUTE claim_messages(` + few + `, ARRAY['` + token() + `', '` + token() + `', '` + token() + `'], 12, true, '')`
			if pages := pagesRead(t, store, claims); pages > tt.most {
				t.Errorf("claim: got %d pages read, want at most %d", pages, tt.most)
			}
			exec(claims)
			if pages := pagesRead(t, store, `EXECUTE record_submitted(`+few+`, '{1, 1, 1}', '{x, y, z}', '{202, 202, 202}', '{a, b, c}', '{submitted, submitted, submitted}')`); pages > tt.most {
				t.Errorf("record: got %d pages read, want at most %d", pages, tt.most)
			}
			if n := count(t, store, `SELECT count(*) FROM attempts WHERE outcome IS NULL`); n != 3 {
				t.Errorf("got %d claimed messages, want 3", n)
			}
		})
	}
}

package postgres_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// insertPreparing inserts n messages of a new batch that are preparing, or of none.
func insertPreparing(t *testing.T, store *postgres.Store, workspace uuid.UUID, inBatch bool, n int) (batch uuid.UUID) {
	t.Helper()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := store.DB().Exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	var batchID *uuid.UUID
	if inBatch {
		batch = uuid.Must(uuid.NewV7())
		batchID = &batch
		exec(`INSERT INTO batches (id, workspace_id, name, state) VALUES ($1, $2, '', 'running')`, batch, workspace)
	}
	exec(`
WITH m AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, next_attempt_at, task_check_at, backlog_state, prepare_at, expires_at, batch_id)
    SELECT gen_random_uuid(), $1, '+14155550100', '+1416' || (2000000 + i), '', 'queued', now(), 'infinity', 'preparing', now(), now() + interval '1 hour', $2
    FROM generate_series(1, $3::int) i RETURNING id
)
INSERT INTO message_media (message_id, position, url) SELECT id, 1, 'https://example.com/' || id FROM m`, workspace, batchID, n)
	return batch
}

// preparationsBy counts the preparations of a page by batch; messages of no batch have none.
func preparationsBy(t *testing.T, store *postgres.Store, limit int) map[uuid.UUID]int {
	t.Helper()
	page, err := store.Preparations(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[uuid.UUID]int{}
	for _, p := range page {
		var batch uuid.NullUUID
		if err := store.DB().QueryRow(`SELECT batch_id FROM messages WHERE id = $1`, p.MessageID).Scan(&batch); err != nil {
			t.Fatal(err)
		}
		counts[batch.UUID]++
	}
	return counts
}

// TestBatchesSharePreparations checks that a batch holds up neither the messages of no
// batch nor other batches, although it has waited for longer.
func TestBatchesSharePreparations(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		batches []int // sizes, the first has waited longest
		alone   int
		want    []int // of a page of 30, by batch and then alone
	}{
		"nothing":                    {nil, 0, []int{0}},
		"one message":                {nil, 1, []int{1}},
		"many messages":              {nil, 100, []int{30}},
		"a batch":                    {[]int{100}, 0, []int{30, 0}},
		"a batch, then a message":    {[]int{100}, 1, []int{29, 1}},
		"a batch, then messages":     {[]int{100}, 100, []int{15, 15}},
		"a large and a small batch":  {[]int{100, 3}, 0, []int{27, 3, 0}},
		"two batches and messages":   {[]int{100, 100}, 100, []int{10, 10, 10}},
		"two small batches":          {[]int{2, 3}, 4, []int{2, 3, 4}},
		"more batches than a page":   {append([]int{100}, slices.Repeat([]int{1}, 40)...), 0, nil},
		"a small batch and messages": {[]int{4}, 100, []int{4, 26}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			var groups []uuid.UUID
			for _, size := range tt.batches {
				groups = append(groups, insertPreparing(t, store, workspace, true, size))
			}
			insertPreparing(t, store, workspace, false, tt.alone)
			got := preparationsBy(t, store, 30)
			if tt.want == nil { // each batch has one
				if len(got) != 30 {
					t.Errorf("got messages of %d batches, want 30: %v", len(got), got)
				}
				return
			}
			for i, group := range append(groups, uuid.Nil) {
				if got[group] != tt.want[i] {
					t.Errorf("group %d: got %d messages, want %d", i, got[group], tt.want[i])
				}
			}
		})
	}
}

// TestPostponedBatchLeavesThePage checks that what is not due takes no share of a page.
func TestPostponedBatchLeavesThePage(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	postponed, due := insertPreparing(t, store, workspace, true, 50), insertPreparing(t, store, workspace, true, 50)
	for _, change := range []string{`prepare_at = now() + interval '1 minute'`, `prepare_at = now(), expires_at = now()`} {
		if _, err := store.DB().Exec(`UPDATE messages SET `+change+` WHERE batch_id = $1`, postponed); err != nil {
			t.Fatal(err)
		}
		if got := preparationsBy(t, store, 30); got[due] != 30 || len(got) != 1 {
			t.Errorf("%s: got %v, want 30 messages of the other batch", change, got)
		}
	}
}

// TestManyMessagesWithOneUpload prepares 10,000 messages that send the same picture: once
// Plivo has it, each statement releases many of them.
func TestManyMessagesWithOneUpload(t *testing.T) {
	t.Parallel()
	const messages, page = 10_000, 1000
	store, workspace := newStoreForLargeTables(t)
	store.UseMedia("MA1", true)
	batch := insertPreparing(t, store, workspace, true, messages)
	content := mms.Content{Hash: mms.ContentHash{1}, PictureInfo: mms.PictureInfo{Type: "image/png", Width: 1, Height: 1}, Data: []byte("picture")}
	if err := store.SaveContent(t.Context(), content); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`UPDATE message_media SET url = NULL, upload_id = gen_random_uuid(), content = $1`, content.Hash[:]); err != nil {
		t.Fatal(err)
	}
	if err := store.SavePlivoMedia(t.Context(), content.Hash, "media-1"); err != nil {
		t.Fatal(err)
	}
	rounds := 0
	for ; ; rounds++ {
		list, err := store.Preparations(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		done := make([]mms.Prepared, len(list))
		for i, p := range list {
			if !p.Media[0].AtPlivo {
				t.Fatalf("message %s: got a picture that Plivo does not have", p.MessageID)
			}
			done[i].MessageID = p.MessageID
		}
		if tasks, err := store.MarkPrepared(t.Context(), done); err != nil || len(tasks) != 0 {
			t.Fatalf("got %d tasks, %v, want the backlog", len(tasks), err)
		}
	}
	if rounds != messages/page {
		t.Errorf("got %d pages, want %d", rounds, messages/page)
	}
	if n := count(t, store, fmt.Sprintf(`SELECT count(*) FROM messages WHERE backlog_state = 'waiting' AND batch_id = '%s'`, batch)); n != messages {
		t.Errorf("got %d waiting messages, want %d", n, messages)
	}
}

// TestPreparationsReadOnlyTheirPage checks that a page reads neither a whole batch nor the
// media of other messages, whatever the database believes about its tables.
func TestPreparationsReadOnlyTheirPage(t *testing.T) {
	t.Parallel()
	const page, most = 100, 1000 // about four database pages for each message
	store, workspace := newStoreForLargeTables(t)
	store.DB().SetMaxOpenConns(1) // the connection with the prepared statement
	exec := func(query string) {
		t.Helper()
		if _, err := store.DB().Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"messages", "message_media"} {
		exec(`ALTER TABLE ` + table + ` SET (autovacuum_enabled = false)`)
	}
	exec(`ANALYZE`)
	insertPreparing(t, store, workspace, true, 20_000)
	insertPreparing(t, store, workspace, false, 200)
	exec(`SET plan_cache_mode = force_generic_plan`)
	exec(`PREPARE preparations AS ` + postgres.PreparationsQuery)
	for _, statistics := range []string{"empty tables", "the tables"} {
		execute := fmt.Sprintf(`EXECUTE preparations(%d, 'MA1')`, page)
		exec(execute) // makes the plan, which reads the system's tables
		if pages := pagesRead(t, store, execute); pages > most {
			t.Errorf("statistics of %s: got %d pages read, want at most %d", statistics, pages, most)
		}
		exec(`ANALYZE`) // makes the plan anew
	}
}

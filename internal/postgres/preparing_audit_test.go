package postgres_test

import "testing"

// TestUnpreparedMessagesAreFound has the audit tell messages that nobody prepares from those
// of a batch that takes long.
func TestUnpreparedMessagesAreFound(t *testing.T) {
	t.Parallel()
	const late = `prepare_at = now() - interval '20 minutes', updated_at = now() - interval '20 minutes'`
	for name, tt := range map[string]struct {
		inBatch bool
		changes []string // of the messages
		want    int      // of 3
	}{
		"just created":                 {false, nil, 0},
		"late":                         {false, []string{late}, 3},
		"late, expired":                {false, []string{late + `, expires_at = now()`}, 0},
		"late, another prepared":       {false, []string{late, `backlog_state = NULL, updated_at = now()`}, 2},
		"batch, late":                  {true, []string{late}, 3},
		"batch, late, one prepared":    {true, []string{late, `backlog_state = 'waiting', updated_at = now()`}, 0},
		"batch, late, one long before": {true, []string{late, `backlog_state = 'waiting'`}, 2},
		"batch, postponed":             {true, []string{late, `prepare_at = now() + interval '5 minutes'`}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			insertPreparing(t, store, workspace, tt.inBatch, 3)
			for i, change := range tt.changes {
				which := []string{`true`, `id = (SELECT min(id::text)::uuid FROM messages)`}[i] // all, then one of them
				if _, err := store.DB().Exec(`UPDATE messages SET ` + change + ` WHERE ` + which); err != nil {
					t.Fatal(err)
				}
			}
			findings, err := store.Audit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range findings {
				if f.What == "messages whose media nobody prepares" && (f.Count != tt.want || f.Broken != (tt.want > 0)) {
					t.Errorf("got %+v, want %d messages", f, tt.want)
				}
			}
		})
	}
}

func TestOpenCountsOfPreparing(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	insertPreparing(t, store, workspace, true, 2)
	insertPreparing(t, store, workspace, false, 1)
	create(t, store, workspace)
	counts, err := store.OpenCounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if counts.Preparing != 3 || counts.Waiting != 0 || counts.Messages["queued"] != 4 {
		t.Errorf("got %+v, want 3 of 4 queued messages preparing", counts)
	}
}

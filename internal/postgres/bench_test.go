package postgres_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// BenchmarkReads measures the reads behind status requests and lists, with 10,000
// messages of one user.
func BenchmarkReads(b *testing.B) {
	store := openStore(b, testkit.Database(b), 10, postgres.StatementTimeout)
	workspace := uuid.Must(uuid.NewV7())
	if err := store.CreateUser(b.Context(), identity.User{
		ID: workspace, Email: "ada@example.com", Role: identity.RoleUser, PasswordHash: identity.PasswordHash(strings.Repeat("x", 60)),
	}); err != nil {
		b.Fatal(err)
	}
	for _, statement := range []string{`
WITH m AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, final_at)
    SELECT lpad(to_hex(i), 32, '0')::uuid, (SELECT id FROM users), '+14155550100', '+14155550101', 'Greetings from place' || i, 'canceled', now()
    FROM generate_series(1, 10000) AS i RETURNING id, text
), search AS (
    INSERT INTO message_search SELECT id, to_tsvector('simple', text), '{}' FROM m
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'created', 'queued' FROM m`, `ANALYZE`} {
		if _, err := store.DB().Exec(statement); err != nil {
			b.Fatal(err)
		}
	}
	id := uuid.MustParse("00000000-0000-0000-0000-000000000100")
	list := func(f mms.Filter) func() error {
		return func() error {
			_, _, err := store.Messages(b.Context(), workspace, mms.Page{Filter: f, Limit: 50})
			return err
		}
	}
	for name, read := range map[string]func() error{
		"version":       func() error { _, err := store.Version(b.Context(), workspace, id); return err },
		"message":       func() error { _, err := store.Message(b.Context(), workspace, id); return err },
		"list":          list(mms.Filter{}),
		"frequent word": list(mms.Filter{Text: "greetings"}),
		"rare word":     list(mms.Filter{Text: "place7"}),
		"overview":      func() error { _, err := store.Overview(b.Context(), workspace, 7); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

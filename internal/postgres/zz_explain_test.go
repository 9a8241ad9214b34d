package postgres_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"postcard/internal/postgres"
	"postcard/internal/testkit"
)



func TestZZExplain(t *testing.T) {
	store, err := postgres.Open(testkit.Database(t), 10, postgres.Patience)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	db := store.DB()
	exec := func(q string, args ...any) {
		if _, err := db.ExecContext(ctx, q, args...); err != nil {
			t.Fatal(err, q)
		}
	}
	if x := os.Getenv("ZZ_PRE"); x != "" {
		exec(x)
	}
	exec(`INSERT INTO users VALUES (gen_random_uuid(), 'a@example.com', repeat('x',60), 'sender')`)
	exec(`INSERT INTO gates (name, seconds, next_at) VALUES ('+14155550100', 0, now())`)
	exec(`WITH m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, next_attempt_at, relay_at, line, expires_at)
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid,
        (SELECT id FROM users LIMIT 1), '+14155550100', '+1416' || (2000000 + i), 'Greetings from the coast', 'queued', now(),
        now() + interval '10 minutes', null, now() + interval '1 day'
    FROM generate_series(1, 40000) AS i RETURNING id
), media AS (
    INSERT INTO message_media (message_id, position, url) SELECT id, 1, 'https://example.com/picture.jpg' FROM m
)
INSERT INTO message_events (message_id, kind, status) SELECT id, 'accepted', 'queued' FROM m`)
	exec(`ANALYZE`)
	var ids []uuid.UUID
	if err := store.ZZSelect(ctx, &ids, `SELECT id FROM messages ORDER BY id`); err != nil {
		t.Fatal(err)
	}
	text := func(q string, args ...any) {
		tx, _ := db.BeginTx(ctx, nil)
		defer tx.Commit()
		rows, err := tx.QueryContext(ctx, "EXPLAIN (ANALYZE, BUFFERS, TIMING ON) "+q, args...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var line string
			rows.Scan(&line)
			fmt.Println(line)
		}
	}
	at := 0
	for _, n := range []int{1, 5, 20, 100} {
		rounds := 30
		var claim, acc time.Duration
		for r := range rounds {
			var a, tok, uu, api []string
			var num, st []int64
			for _, id := range ids[at : at+n] {
				a = append(a, id.String())
				tok = append(tok, uuid.NewString()+uuid.NewString())
				uu = append(uu, uuid.NewString())
				api = append(api, uuid.NewString())
				num = append(num, 1)
				st = append(st, 202)
			}
			at += n
			b := time.Now()
			var rows []postgres.ZZClaimRow
			if r == rounds-1 && n == 20 {
				text(*postgres.ZZClaimGroup, pq.Array(a), pq.Array(tok), 12.0)
			} else if err := store.ZZSelect(ctx, &rows, *postgres.ZZClaimGroup, pq.Array(a), pq.Array(tok), 12.0); err != nil {
				t.Fatal(err)
			}
			claim += time.Since(b)
			b = time.Now()
			if r == rounds-1 && n == 20 {
				text(postgres.ZZAcceptAttempts, pq.Array(a), pq.Array(num), pq.Array(uu), pq.Array(st), pq.Array(api))
			} else {
				exec2 := func() error {
					var rows []struct {
						ID      uuid.UUID `db:"id"`
						Adopted bool      `db:"adopted"`
					}
					return store.ZZSelect(ctx, &rows, postgres.ZZAcceptAttempts, pq.Array(a), pq.Array(num), pq.Array(uu), pq.Array(st), pq.Array(api))
				}
				if err := exec2(); err != nil {
					t.Fatal(err)
				}
			}
			acc += time.Since(b)
		}
		fmt.Printf("n=%d claim %v (%v per row)  accept %v (%v)\n", n, claim/time.Duration(rounds), claim/time.Duration(rounds*n), acc/time.Duration(rounds), acc/time.Duration(rounds*n))
	}
}

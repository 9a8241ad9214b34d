package postgres_test

import (
	"testing"

	"github.com/postcard-mms/postcard/internal/mms"
)

// TestCreateAndClaimAreNotPlannedAnew checks that Postgres keeps the plans of the statements
// that each message needs. If a plan with the values seems cheaper, because they leave out a
// part of the statement or show the length of an array, Postgres plans each execution anew,
// which takes longer than executing it.
func TestCreateAndClaimAreNotPlannedAnew(t *testing.T) {
	t.Parallel()
	const executions, custom = 12, 5 // Postgres compares the plans after five executions
	for name, checks := range map[string]bool{"media URLs are checked": true, "media URLs are not checked": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			store.UseMedia("MA1", checks)
			store.DB().SetMaxOpenConns(1) // the connection with the prepared statements
			setRateLimit(t, store, 0)
			for range executions {
				r := newRequest(workspace)
				if _, err := store.CreateMessage(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				if _, err := store.MarkPrepared(t.Context(), []mms.Prepared{{MessageID: r.ID}}); err != nil {
					t.Fatal(err)
				}
				if _, _, err := store.QueueScheduled(t.Context(), 100); err != nil {
					t.Fatal(err)
				}
				if _, claimed, err := store.Claim(t.Context(), r.ID, token(), lease); err != nil || !claimed {
					t.Fatalf("Claim: got %t, %v, want the message", claimed, err)
				}
				if _, err := store.DB().Exec(`UPDATE messages SET status = 'canceled', final_at = now()`); err != nil { // frees the pair of numbers
					t.Fatal(err)
				}
			}
			rows, err := store.DB().Query(`SELECT left(statement, 300), custom_plans, generic_plans FROM pg_prepared_statements WHERE custom_plans + generic_plans >= $1`, executions)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			statements := 0
			for rows.Next() {
				var statement string
				var customPlans, genericPlans int
				if err := rows.Scan(&statement, &customPlans, &genericPlans); err != nil {
					t.Fatal(err)
				}
				statements++
				if customPlans > custom {
					t.Errorf("got %d plans in %d executions, want %d at most:\n%s", customPlans, customPlans+genericPlans, custom, statement)
				}
			}
			if err := rows.Err(); err != nil || statements != 4 {
				t.Errorf("got %d statements, %v, want 4", statements, err)
			}
		})
	}
}

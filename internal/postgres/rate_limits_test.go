package postgres_test

import (
	"database/sql"
	"maps"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestShorterIntervalTakesEffectImmediately(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	if err := store.SetRateLimit(t.Context(), "+14155550100", 1000*time.Hour); err != nil {
		t.Fatal(err)
	}
	claim(t, store, create(t, store, workspace).ID)
	next := create(t, store, workspace)
	if tryClaim(t, store, next.ID) {
		t.Fatal("got a claim within the interval")
	}
	if err := store.SetRateLimit(t.Context(), "+14155550100", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the next message is claimed", func() bool {
		release(t, store)
		return tryClaim(t, store, next.ID)
	})
}

// TestSendsAreAnIntervalApart has 100 ms pass between any two readings of the
// database's clock, as on a busy machine.
func TestSendsAreAnIntervalApart(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	migrated, err := sql.Open("postgres", database)
	if err != nil {
		t.Fatal(err)
	}
	defer migrated.Close()
	if _, err := migrated.Exec(`
		CREATE SCHEMA slow;
		CREATE SEQUENCE slow.readings;
		CREATE FUNCTION slow.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
			RETURN pg_catalog.clock_timestamp() + nextval('slow.readings') * interval '100 ms';
		DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = slow, pg_catalog, public', current_database()); END $$`); err != nil {
		t.Fatal(err)
	}
	store, workspace := newStoreOn(t, database, postgres.StatementTimeout)
	if err := store.SetRateLimit(t.Context(), "+14155550100", time.Second); err != nil {
		t.Fatal(err)
	}
	claim(t, store, create(t, store, workspace).ID)
	var gap float64
	if err := store.DB().QueryRow(`SELECT extract(epoch FROM next_arrival_at - started_at) FROM rate_limits JOIN attempts ON name = sender`).Scan(&gap); err != nil {
		t.Fatal(err)
	}
	if gap < 0.95 {
		t.Errorf("the next send may start %v s after the first, want at least 0.95", gap)
	}
}

func TestReserveListCallSpacesCalls(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	var waits []time.Duration
	for range 3 {
		wait, err := store.ReserveListCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, wait)
	}
	if waits[0] > 100*time.Millisecond || waits[1] < 2*time.Second || waits[2] < 5*time.Second {
		t.Errorf("got waits %v, want 0, then 3 s more each", waits)
	}
}

// TestSenderIntervals reads the rates of senders, some of which have none yet.
func TestSenderIntervals(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	for sender, interval := range map[mms.PhoneNumber]time.Duration{"+14155550198": 4 * time.Second, "+14155550199": 0} {
		if err := store.SetRateLimit(t.Context(), sender, interval); err != nil {
			t.Fatal(err)
		}
	}
	got, err := store.SenderIntervals(t.Context(), []mms.PhoneNumber{"+14155550197", "+14155550198", "+14155550199"})
	if want := (map[mms.PhoneNumber]time.Duration{"+14155550198": 4 * time.Second, "+14155550199": 0}); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

package e2e

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/devstack"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// ownPostgres is a server of the test's own, to break. It is durable: what it
// has committed it must still have after a kill.
func ownPostgres(t *testing.T) *devstack.Postgres {
	t.Helper()
	server, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{StateDir: testkit.StateDir(t), DieWithUs: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return server
}

// ownRedis is a server of the test's own, to break.
func ownRedis(t *testing.T) *devstack.Redis {
	t.Helper()
	server, err := devstack.StartRedis(t.Context(), devstack.RedisOptions{
		StateDir: testkit.StateDir(t), RequireReal: true, DieWithUs: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Kill(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(o)
	t.Cleanup(func() { client.Close() })
	return client
}

// drained waits until all is final, delivered exactly once, and in order.
func (r *rig) drained(messages []mms.Message) {
	r.t.Helper()
	r.awaitFinal()
	for _, m := range messages {
		r.wantStatus(m, mms.Delivered)
	}
	r.verify(len(messages))
}

func TestAnEmptiedRedisLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	messages := r.accept(200)
	r.worker("").awaitLog("worker started")
	if err := redisClient(t, r.redis).FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	r.drained(messages)
}

func TestARedisThatIsAwayStopsNobodyFromSubmitting(t *testing.T) {
	t.Parallel()
	server := ownRedis(t)
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
	w := r.worker("")
	w.awaitLog("worker started")
	messages := r.accept(3)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	messages = append(messages, r.acceptTo("+14165551901"), r.acceptTo("+14165551902"))
	w.awaitLog("task relay is failing")
	if err := server.Restart(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	r.drained(messages)
}

func TestARedisThatHangsStopsNobodyFromSubmitting(t *testing.T) {
	t.Parallel()
	server := ownRedis(t)
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
	r.worker("").awaitLog("worker started")
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	messages := r.accept(2)
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	r.drained(messages)
}

func TestARedisThatTakesNoMoreIsHealed(t *testing.T) {
	t.Parallel()
	for name, sick := range map[string][2]string{
		"out of memory": {"maxmemory", "1"},
		"read-only":     {"min-replicas-to-write", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := ownRedis(t)
			r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
			admin := redisClient(t, server.URL)
			healthy, err := admin.ConfigGet(t.Context(), sick[0]).Result()
			if err != nil {
				t.Fatal(err)
			}
			if err := admin.ConfigSet(t.Context(), sick[0], sick[1]).Err(); err != nil {
				t.Fatal(err)
			}
			messages := r.accept(3)
			r.worker("").awaitLog("worker started")
			if err := admin.ConfigSet(t.Context(), sick[0], healthy[sick[0]]).Err(); err != nil {
				t.Fatal(err)
			}
			r.drained(messages)
		})
	}
}

// TestATaskThatAsynqForgetsIsFoundAgain takes away the lease of a task whose
// worker is killed: asynq never starts such a task again.
func TestATaskThatAsynqForgetsIsFoundAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	messages := r.accept(1)
	r.worker("worker-dequeued").awaitKilled()
	if n, err := redisClient(t, r.redis).Del(t.Context(), "asynq:{messages}:lease").Result(); err != nil || n != 1 {
		t.Fatalf("removing the leases: %d, %v", n, err)
	}
	r.worker("")
	r.drained(messages)
}

// archiveAll does what an operator's click in asynqmon does.
func archiveAll(t *testing.T, r *rig) {
	t.Helper()
	inspector := asynq.NewInspectorFromRedisClient(redisClient(t, r.redis))
	if n, err := inspector.ArchiveAllPendingTasks(queue.Name); err != nil || n == 0 {
		t.Fatalf("archiving tasks: %d, %v", n, err)
	}
}

func TestAnArchivedTaskDoesNotBlockItsMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	messages := r.accept(1)
	archiveAll(t, r)
	r.worker("")
	r.drained(messages)
}

func TestAPostgresThatIsKilledLosesNothing(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	r := newRigOn(t, plivosim.Config{}, server.URL, testkit.Redis(t))
	w := r.worker("")
	w.awaitLog("worker started")
	messages := r.accept(100)
	testkit.Eventually(t, "some messages are sent", func() bool { return len(r.sim.Ledger()) > 5 })
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	w.awaitLog("releaser is failing")
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.awaitFinal()
	for _, m := range messages {
		r.wantStatus(m, mms.Delivered)
	}
	r.verify(len(messages))
}

func TestAPostgresThatIsRestartedLosesNothing(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	r := newRigOn(t, plivosim.Config{}, server.URL, testkit.Redis(t))
	r.worker("").awaitLog("worker started")
	messages := r.accept(50)
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	messages = append(messages, r.acceptTo("+14165551903"))
	r.drained(messages)
}

// TestAPostgresWithoutConnectionsToSpare lets somebody else take all of them.
func TestAPostgresWithoutConnectionsToSpare(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	r := newRigOn(t, plivosim.Config{}, server.URL, testkit.Redis(t))
	messages := r.accept(30)
	giveBack := takeAllConnections(t, server.URL)
	latecomer, err := postgres.Open(server.URL, 1, postgres.StatementTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { latecomer.Close() })
	if err := latecomer.Ping(t.Context()); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("a connection too many: %v, want ErrUnavailable", err)
	}
	r.worker("").awaitLog("waiting for the database")
	giveBack()
	r.drained(messages)
}

func takeAllConnections(t *testing.T, url string) (giveBack func()) {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	var taken []*sql.Conn
	giveBack = func() {
		for _, connection := range taken {
			connection.Close()
		}
		db.Close()
	}
	for {
		connection, err := db.Conn(t.Context())
		if err != nil {
			return giveBack
		}
		taken = append(taken, connection)
	}
}

// TestASerializableDatabase has Postgres roll back what would have gone well.
func TestASerializableDatabase(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	r := newRigOn(t, plivosim.Config{}, database, testkit.Redis(t))
	if _, err := r.store.DB().Exec(`DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET default_transaction_isolation = serializable'; END $$`); err != nil {
		t.Fatal(err)
	}
	messages := r.accept(60)
	r.worker("")
	r.worker("")
	r.drained(messages)
}

// TestAWorkerOnANewerSchema has been overtaken by a migration that it does not
// know.
func TestAWorkerOnANewerSchema(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	w := r.worker("")
	w.awaitLog("worker started")
	messages := r.accept(20)
	for _, statement := range []string{
		`ALTER TABLE messages ADD COLUMN added_later text`,
		`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`,
	} {
		if _, err := r.store.DB().Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	messages = append(messages, r.acceptTo("+14165551904"))
	r.drained(messages)
	r.worker("").awaitLog("worker started")
	r.drained(append(messages, r.acceptTo("+14165551905")))
}

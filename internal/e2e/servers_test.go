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

// ownPostgres starts a server for one test, to break. It is durable: it keeps
// commits when it is killed.
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

// ownRedis starts a server for one test, to break.
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

// wantAllDelivered waits until all messages are final, then checks that each was
// delivered exactly once and that the invariants hold.
func (r *rig) wantAllDelivered(messages []mms.Message) {
	r.t.Helper()
	r.awaitFinal()
	for _, m := range messages {
		r.wantStatus(m, mms.Delivered)
	}
	r.verify(len(messages))
}

func TestFlushedRedis(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	messages := r.create(200)
	r.worker("").awaitLog("worker started")
	if err := redisClient(t, r.redis).FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	r.wantAllDelivered(messages)
}

func TestRedisIsDown(t *testing.T) {
	t.Parallel()
	server := ownRedis(t)
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
	w := r.worker("")
	w.awaitLog("worker started")
	messages := r.create(3)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	messages = append(messages, r.createTo("+14165551901"), r.createTo("+14165551902"))
	w.awaitLog("task relay is failing")
	if err := server.Restart(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	r.wantAllDelivered(messages)
}

func TestRedisHangs(t *testing.T) {
	t.Parallel()
	server := ownRedis(t)
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
	r.worker("").awaitLog("worker started")
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	messages := r.create(2)
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	r.wantAllDelivered(messages)
}

func TestRedisRefusesWrites(t *testing.T) {
	t.Parallel()
	for name, setting := range map[string][2]string{
		"out of memory": {"maxmemory", "1"},
		"read-only":     {"min-replicas-to-write", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := ownRedis(t)
			r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
			admin := redisClient(t, server.URL)
			original, err := admin.ConfigGet(t.Context(), setting[0]).Result()
			if err != nil {
				t.Fatal(err)
			}
			if err := admin.ConfigSet(t.Context(), setting[0], setting[1]).Err(); err != nil {
				t.Fatal(err)
			}
			messages := r.create(3)
			r.worker("").awaitLog("worker started")
			if err := admin.ConfigSet(t.Context(), setting[0], original[setting[0]]).Err(); err != nil {
				t.Fatal(err)
			}
			r.wantAllDelivered(messages)
		})
	}
}

// TestTaskWithoutLeaseIsRecovered removes the asynq lease of a task whose worker was
// killed: asynq never runs such a task again.
func TestTaskWithoutLeaseIsRecovered(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	messages := r.create(1)
	r.worker("worker-dequeued").awaitKilled()
	if n, err := redisClient(t, r.redis).Del(t.Context(), "asynq:{messages}:lease").Result(); err != nil || n != 1 {
		t.Fatalf("removing the leases: %d, %v", n, err)
	}
	r.worker("")
	r.wantAllDelivered(messages)
}

func TestArchivedTaskIsReplaced(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	messages := r.create(1)
	// On a busy machine the task may be missing: creating a message waits 300 ms for Redis.
	if err := r.queue.Enqueue(t.Context(), mms.Task{MessageID: messages[0].ID, Generation: 1, Priority: messages[0].Priority}); err != nil {
		t.Fatal(err)
	}
	inspector := asynq.NewInspectorFromRedisClient(redisClient(t, r.redis))
	if n, err := inspector.ArchiveAllPendingTasks(queue.MessageQueue); err != nil || n != 1 {
		t.Fatalf("archiving the task, as an operator can in asynqmon: %d, %v", n, err)
	}
	r.worker("")
	r.wantAllDelivered(messages)
}

func TestPostgresIsKilled(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	r := newRigOn(t, plivosim.Config{}, server.URL, testkit.Redis(t))
	w := r.worker("", pollSoon)
	w.awaitLog("worker started")
	messages := r.create(100)
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

func TestPostgresIsRestarted(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	r := newRigOn(t, plivosim.Config{}, server.URL, testkit.Redis(t))
	r.worker("", pollSoon).awaitLog("worker started")
	messages := r.create(50)
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	messages = append(messages, r.createTo("+14165551903"))
	r.wantAllDelivered(messages)
}

// TestPostgresWithoutFreeConnections has another program use all connections.
func TestPostgresWithoutFreeConnections(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	r := newRigOn(t, plivosim.Config{}, server.URL, testkit.Redis(t))
	messages := r.create(30)
	release := takeAllConnections(t, server.URL)
	extra, err := postgres.Open(server.URL, 1, postgres.StatementTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { extra.Close() })
	if err := extra.Ping(t.Context()); !errors.Is(err, mms.ErrUnavailable) {
		t.Errorf("one connection too many: got error %v, want ErrUnavailable", err)
	}
	r.worker("").awaitLog("waiting for the database")
	release()
	r.wantAllDelivered(messages)
}

func takeAllConnections(t *testing.T, url string) (release func()) {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	var connections []*sql.Conn
	release = func() {
		for _, connection := range connections {
			connection.Close()
		}
		db.Close()
	}
	for {
		connection, err := db.Conn(t.Context())
		if err != nil {
			return release
		}
		connections = append(connections, connection)
	}
}

// TestSerializableIsolation has Postgres roll back transactions that succeed at the
// default isolation level.
func TestSerializableIsolation(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	r := newRigOn(t, plivosim.Config{}, database, testkit.Redis(t))
	if _, err := r.store.DB().Exec(`DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET default_transaction_isolation = serializable'; END $$`); err != nil {
		t.Fatal(err)
	}
	messages := r.create(60)
	r.worker("")
	r.worker("")
	r.wantAllDelivered(messages)
}

// TestWorkerOnNewerSchema applies a migration that the worker does not know.
func TestWorkerOnNewerSchema(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	w := r.worker("")
	w.awaitLog("worker started")
	messages := r.create(20)
	for _, statement := range []string{
		`ALTER TABLE messages ADD COLUMN added_later text`,
		`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`,
	} {
		if _, err := r.store.DB().Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	messages = append(messages, r.createTo("+14165551904"))
	r.wantAllDelivered(messages)
	r.worker("").awaitLog("worker started")
	r.wantAllDelivered(append(messages, r.createTo("+14165551905")))
}

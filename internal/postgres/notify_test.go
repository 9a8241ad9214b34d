package postgres_test

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestChangesAreNotified listens in another process, as it were, to every kind of change.
func TestChangesAreNotified(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	store := openStore(t, url, 4, postgres.StatementTimeout)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		store.RunNotifier(ctx, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() { cancel(); <-done })
	notifications, err := postgres.Listen(t.Context(), url, postgres.MessageChangesChannel, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	workspace := addUser(t, store, "ada@example.com")
	if err := store.SetRateLimit(t.Context(), "+14155550100", 0); err != nil {
		t.Fatal(err)
	}
	// RunNotifier may have started after the first change.
	m := create(t, store, workspace)
	testkit.Eventually(t, "a first change is notified", func() bool {
		if err := store.RecordRequeued(t.Context(), []uuid.UUID{m.ID}); err != nil {
			t.Error(err)
		}
		select {
		case ids := <-notifications:
			return strings.Contains(ids, m.ID.String())
		default:
			return false
		}
	})
	for len(notifications) > 0 {
		<-notifications
	}
	var second mms.Message
	for _, step := range []struct {
		name   string
		change func() error
	}{
		{"creation", func() error { second = create(t, store, workspace); return nil }},
		{"waiting", func() error { return store.AddToBacklog(t.Context(), second.ID) }},
		{"expiry", func() error {
			if _, err := store.DB().Exec(`UPDATE messages SET expires_at = now() WHERE id = $1`, second.ID); err != nil {
				return err
			}
			_, err := store.ExpireQueued(t.Context(), 10)
			return err
		}},
		{"a claim and its success", func() error {
			second = create(t, store, workspace)
			c, _ := claim(t, store, second.ID)
			_, err := adopt(t.Context(), store, c.AttemptRef, "u-1")
			return err
		}},
		{"a report", func() error {
			_, err := store.ApplyReport(t.Context(), mms.AttemptRef{MessageID: second.ID, Ordinal: 1}, mms.Report{PlivoUUID: "u-1", State: "sent"}, mms.EventReport)
			return err
		}},
	} {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "a notification after "+step.name, func() bool {
			select {
			case ids := <-notifications:
				return strings.Contains(ids, second.ID.String())
			default:
				return false
			}
		})
	}
	workspaces, err := store.Workspaces(t.Context(), []uuid.UUID{m.ID, second.ID})
	if diff := cmp.Diff([]uuid.UUID{workspace}, workspaces); diff != "" || err != nil {
		t.Errorf("Workspaces() (-want +got):\n%s%v", diff, err)
	}
	versions, err := store.Versions(t.Context(), []uuid.UUID{second.ID, uuid.New()})
	if diff := cmp.Diff(map[uuid.UUID]int64{second.ID: 4}, versions); diff != "" || err != nil {
		t.Errorf("Versions() (-want +got):\n%s%v", diff, err)
	}
}

// notify notifies and reports whether the listener receives it, for a condition.
func notify(t *testing.T, database string, notifications <-chan string) bool {
	t.Helper()
	mustExec(t, otherPool(t, database), `SELECT pg_notify('task_check', 'x')`)
	select {
	case payload := <-notifications:
		return payload == "x"
	default:
		return false
	}
}

// TestListenAgain ends the connection of a listener, and then loses its packets, which
// no end notices by itself. The listener must be told that it may have missed something.
func TestListenAgain(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	proxy := testkit.StartProxy(t, testkit.HostOf(t, database))
	notifications, err := postgres.Listen(t.Context(), proxy.URL(t, database), postgres.TaskCheckChannel, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	admin := otherPool(t, database)
	for name, fault := range map[string]func(){
		"ended":        func() { endSessions(t, admin) },
		"lost packets": func() { proxy.Lose(); proxy.Heal() },
	} {
		testkit.Eventually(t, "a notification arrives before the connection is "+name, func() bool { return notify(t, database, notifications) })
		for len(notifications) > 0 {
			<-notifications
		}
		fault()
		testkit.EventuallyWithin(t, time.Minute, "the listener says that it may have missed something when "+name, func() bool {
			select {
			case payload := <-notifications:
				return payload == ""
			default:
				return false
			}
		})
	}
	testkit.Eventually(t, "a notification arrives again", func() bool { return notify(t, database, notifications) })
}

// TestServerNoticesVanishedListeners reads the settings with which the server notices that a
// listening process has gone.
func TestServerNoticesVanishedListeners(t *testing.T) {
	t.Parallel()
	conn, err := postgres.OpenListener(testkit.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.ExecSimpleQuery(`DO $$ BEGIN
		ASSERT current_setting('tcp_keepalives_idle') = '20';
		ASSERT current_setting('tcp_user_timeout') = '40000';
	END $$`); err != nil {
		t.Error(err)
	}
}

// TestListeningConnectionsAreRenewed expects each of many notifications, in spite of
// connections that are renewed, and no sign of an interruption.
func TestListeningConnectionsAreRenewed(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	store := openOne(t, url)
	received, err := postgres.ListenFor(t.Context(), url, "test", 300*time.Millisecond, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	const listeners = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`
	for n := 0; count(t, store, listeners) < 3; n++ { // old connections stay for some seconds
		payload := strconv.Itoa(n)
		execute(t, store, `NOTIFY test, '`+payload+`'`)
		for !seen[payload] {
			select {
			case got := <-received:
				if got == "" {
					t.Fatal("got a sign of an interruption")
				}
				seen[got] = true
			case <-time.After(20 * time.Second):
				t.Fatalf("notification %s was not received within 20 s", payload)
			}
		}
	}
}

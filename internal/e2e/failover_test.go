package e2e

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// sends sends messages through an api, and remembers which it accepted.
type sends struct {
	caller *caller
	last   atomic.Int64

	mu       sync.Mutex
	accepted []uuid.UUID
}

// send sends a message to a recipient of its own and returns the answer's status and
// headers; 0 if there was no answer.
func (s *sends) send() (int, http.Header) {
	body := fmt.Sprintf(`{"to":"+1416555%04d","text":"Hello","mediaUrl":"https://example.com/a.jpg"}`, 2000+s.last.Add(1))
	response, err := s.caller.http.Post(s.caller.url+"/api/send-mms", "application/json", bytes.NewBufferString(body))
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil
	}
	if response.StatusCode == http.StatusAccepted {
		var message struct{ ID uuid.UUID }
		if err := json.Unmarshal(text, &message); err != nil || message.ID == uuid.Nil {
			s.caller.t.Errorf("got %s with 202, want a message", text)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.accepted = append(s.accepted, message.ID)
	}
	return response.StatusCode, response.Header
}

// sendTogether sends n messages at the same time and returns how many were accepted.
func (s *sends) sendTogether(n int) int {
	var accepted atomic.Int64
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			if status, _ := s.send(); status == http.StatusAccepted {
				accepted.Add(1)
			}
		})
	}
	group.Wait()
	return int(accepted.Load())
}

// pollingWorker starts a worker that polls Plivo soon, because callbacks get lost while
// the database is away.
func (r *rig) pollingWorker() *process {
	r.t.Helper()
	w := r.worker("", pollSoon)
	w.awaitLog("worker started")
	return w
}

// wantDelivered waits until all messages are final, then checks that each accepted one was
// delivered, and that everything stored was delivered exactly once.
func (r *rig) wantDelivered(s *sends) {
	r.t.Helper()
	r.awaitFinal()
	for _, id := range s.accepted {
		if n := r.count(`SELECT count(*) FROM messages WHERE id = $1 AND status = 'delivered'`, id); n != 1 {
			r.t.Errorf("message %s was accepted and is not delivered", id)
		}
	}
	stored := r.count(`SELECT count(*) FROM messages`)
	r.t.Logf("%d messages accepted, %d stored", len(s.accepted), stored)
	r.verify(stored)
}

// readiness returns the status and body of a process' readiness check.
func readiness(p *process) (int, string) {
	p.t.Helper()
	status, body, err := get(p.t.Context(), p.metrics+"/readyz")
	if err != nil {
		return 0, err.Error()
	}
	return status, body
}

func awaitReadiness(p *process, want int, postgres string) {
	p.t.Helper()
	testkit.EventuallyWithin(p.t, time.Minute, fmt.Sprintf("readiness is %d with Postgres %s", want, postgres), func() bool {
		status, body := readiness(p)
		return status == want && strings.Contains(body, `"postgres":"`+postgres+`"`)
	})
}

// pollSoon makes a worker ask Plivo about messages without reports. While the database is
// away, the simulator gives up its callbacks within seconds, as Plivo does within minutes.
const pollSoon = "REPORT_WAIT=2s"

// operator returns a connection that does not belong to Postcard.
func operator(t *testing.T, database string) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	return db
}

func mustExec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// TestReadOnlyRole makes all sessions read-only, as a failover or a full disk does, and
// writable again, while the processes keep the sessions they opened meanwhile.
func TestReadOnlyRole(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	api, url := r.api()
	w := r.pollingWorker()
	s := &sends{caller: loggedIn(t, url)}
	if status, _ := s.send(); status != http.StatusAccepted {
		t.Fatalf("got %d before the fault, want 202", status)
	}
	admin := operator(t, r.database+"&default_transaction_read_only=off")
	set := func(value string) {
		mustExec(t, admin, `DO $$ BEGIN EXECUTE format('ALTER ROLE %I IN DATABASE %I SET default_transaction_read_only = `+value+`', current_user, current_database()); END $$`)
	}
	set("on")
	mustExec(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	for range 3 {
		if status, headers := s.send(); status != http.StatusServiceUnavailable || headers.Get("Retry-After") == "" {
			t.Errorf("read-only: got %d with Retry-After %q, want 503 with Retry-After", status, headers.Get("Retry-After"))
		}
	}
	for _, p := range []*process{api, w} {
		awaitReadiness(p, http.StatusServiceUnavailable, "down")
	}
	if n := s.sendTogether(30); n != 0 { // fills the pool with read-only sessions
		t.Errorf("got %d messages accepted by a read-only database, want none", n)
	}
	set("off")
	if n := s.sendTogether(30); n != 30 {
		t.Errorf("writable again: got %d of 30 messages accepted, want all", n)
	}
	for _, p := range []*process{api, w} {
		awaitReadiness(p, http.StatusOK, "ok")
	}
	r.wantDelivered(s)
}

// TestFailover kills the primary of a streaming pair under load and promotes its standby
// behind the same address. The standby confirms each commit, so nothing accepted is lost.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary := ownPostgres(t)
	standby, err := primary.StartStandby(t.Context(), testkit.StateDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Kill(); err != nil {
			t.Error(err)
		}
	})
	admin := operator(t, primary.URL)
	mustExec(t, admin, `ALTER SYSTEM SET synchronous_standby_names = '*'`)
	mustExec(t, admin, `SELECT pg_reload_conf()`)
	proxy := testkit.StartProxy(t, primary.Addr())
	r := newRigOn(t, plivosim.Config{}, proxy.URL(t, primary.URL), testkit.Redis(t))
	api, url := r.api()
	w := r.pollingWorker()
	s := &sends{caller: loggedIn(t, url)}
	acceptedAfter, stopLoad := load(t, s, 4)
	testkit.Eventually(t, "100 messages are accepted", func() bool { return acceptedAfter(time.Time{}) >= 100 })

	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	proxy.Switch(standby.Addr())
	switched := time.Now()
	testkit.Eventually(t, "a message is accepted", func() bool { return acceptedAfter(switched) > 0 })
	t.Logf("the first message was accepted %v after the switch", time.Since(switched).Round(10*time.Millisecond))
	for _, p := range []*process{api, w} {
		awaitReadiness(p, http.StatusOK, "ok")
	}
	t.Logf("both processes were ready %v after the switch", time.Since(switched).Round(10*time.Millisecond))
	testkit.Eventually(t, "100 more messages are accepted", func() bool { return acceptedAfter(switched) >= 100 })
	stopLoad()
	r.wantDelivered(s)
}

// load sends messages from n clients until stop is called. acceptedAfter returns how many
// were accepted after a time.
func load(t *testing.T, s *sends, n int) (acceptedAfter func(time.Time) int, stop func()) {
	t.Helper()
	var mu sync.Mutex
	var times []time.Time
	var group sync.WaitGroup
	stopped := make(chan struct{})
	for range n {
		group.Go(func() {
			for {
				select {
				case <-stopped:
					return
				default:
				}
				if status, _ := s.send(); status == http.StatusAccepted {
					mu.Lock()
					times = append(times, time.Now())
					mu.Unlock()
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { close(stopped); group.Wait() })
	t.Cleanup(stop)
	return func(start time.Time) (count int) {
		mu.Lock()
		defer mu.Unlock()
		for _, at := range times {
			if at.After(start) {
				count++
			}
		}
		return count
	}, stop
}

// TestLostPackets loses everything that the processes and Postgres send to each other,
// without closing connections, then lets new connections through.
func TestLostPackets(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	proxy := testkit.StartProxy(t, testkit.HostOf(t, database))
	r := newRigOn(t, plivosim.Config{}, database, testkit.Redis(t))
	r.database = proxy.URL(t, database) // for the processes
	api, url := r.api()
	w := r.pollingWorker()
	s := &sends{caller: loggedIn(t, url)}
	if status, _ := s.send(); status != http.StatusAccepted {
		t.Fatalf("got %d before the fault, want 202", status)
	}
	proxy.Lose()
	messages := r.create(20) // by another api, so to speak
	for _, p := range []*process{api, w} {
		awaitReadiness(p, http.StatusServiceUnavailable, "down")
	}
	proxy.Heal()
	healed := time.Now()
	for _, p := range []*process{api, w} {
		awaitReadiness(p, http.StatusOK, "ok")
	}
	t.Logf("both processes were ready %v after the network had healed", time.Since(healed).Round(10*time.Millisecond))
	if n := s.sendTogether(30); n != 30 {
		t.Errorf("after the network has healed: got %d of 30 messages accepted, want all", n)
	}
	for _, p := range []*process{api, w} {
		p.awaitLog("listening to the database was interrupted")
	}
	r.wantDelivered(s)
	for _, m := range messages {
		r.wantStatus(m, mms.Delivered)
	}
}

// TestLockedTable has an operator lock a table for longer than requests last.
func TestLockedTable(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, address := r.api()
	r.pollingWorker()
	s := &sends{caller: loggedIn(t, address)}
	lock, err := operator(t, r.database).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Rollback()
	if _, err := lock.Exec(`LOCK TABLE messages`); err != nil {
		t.Fatal(err)
	}
	response, err := s.caller.http.Get(s.caller.url + "/api/messages")
	if err != nil {
		t.Fatalf("listing messages: got no answer: %v", err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("listing messages: got %d, want 503 with Retry-After", response.StatusCode)
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	if n := s.sendTogether(30); n != 30 {
		t.Errorf("after the lock: got %d of 30 messages accepted, want all", n)
	}
	r.wantDelivered(s)
}

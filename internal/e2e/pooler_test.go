package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestPgBouncer runs an api and a worker behind a PgBouncer with its default settings,
// whose sessions are those of its clients, with as few connections as they can have.
// Messages are sent, and a long poll shows each change.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	vars := []string{"DATABASE_URL=" + testkit.PgBouncer(t, r.database), "DATABASE_MAX_CONNECTIONS=5"}
	_, url := r.api(vars...)
	r.worker("", vars...).awaitLog("worker started")
	c := readContract(t, url)
	key := c.newKey(c.person("grace@example.com"), `"send","read"`)
	const n = 30
	for i := range n {
		created := key.want(http.StatusAccepted, "POST", "/api/send-mms", fmt.Sprintf(`{"to":"+1416%07d","text":"Hello","mediaUrl":"https://example.com/a.jpg"}`, 5551000+i))
		key.awaitFinal("/api/messages/" + fmt.Sprint(created["id"]))
	}
	r.verify(n)
	if open := r.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()`) - r.store.DB().Stats().OpenConnections; open > 10 {
		t.Errorf("got %d connections of an api and a worker with at most 5 each", open)
	}
}

// awaitFinal polls a message, with a request that waits for the next change, until
// nothing more will happen to it.
func (u *user) awaitFinal(path string) {
	u.t.Helper()
	etag := ""
	for range 10 { // a message has fewer changes
		status, header, body := u.do("GET", path+"?wait=30s", "", "If-None-Match", etag)
		if status != http.StatusOK {
			u.t.Fatalf("waiting for %s: got %d %s", path, status, body)
		}
		if strings.Contains(body, `"status":"delivered"`) {
			return
		}
		etag = header.Get("ETag")
	}
	u.t.Errorf("%s is not delivered after 10 changes", path)
}

// TestPgBouncerInTransactionMode checks that both processes refuse a pooler in transaction
// mode, also if only DATABASE_LISTEN_URL leads to it.
func TestPgBouncerInTransactionMode(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	pooled := testkit.PgBouncer(t, r.database, "pool_mode = transaction")
	for _, variable := range []string{"DATABASE_URL", "DATABASE_LISTEN_URL"} {
		for _, program := range []string{"api", "worker"} {
			p := r.start(program, "API_ADDR=127.0.0.1:0", variable+"="+pooled)
			testkit.Eventually(t, program+" exits", p.hasExited)
			p.wantLog(variable + ": the connection pooler in front of Postgres shares sessions between clients (transaction mode)")
			p.wantLog("pool_mode=session")
		}
	}
}

func (p *process) wantLog(text string) {
	p.t.Helper()
	log, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	if !strings.Contains(string(log), text) {
		p.t.Errorf("the log lacks %q:\n%s", text, log)
	}
}

// TestListenURL uses a pooler, and direct connections for LISTEN.
func TestListenURL(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	pooled := "DATABASE_URL=" + testkit.PgBouncer(t, r.database)
	direct := "DATABASE_LISTEN_URL=" + r.database + "&application_name=listening"
	r.api(pooled, direct)
	r.worker("", pooled, direct).awaitLog("worker started")
	testkit.Eventually(t, "api and worker listen on direct connections", func() bool {
		return r.count(`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'listening' AND query LIKE 'LISTEN%' AND datname = current_database()`) == 3
	})
	r.wantAllDelivered([]mms.Message{r.createTo("+14165551000")})
}

// TestMoreConnectionsThanTheServerAllows checks that a process stops at the start when the
// server does not allow its connections.
func TestMoreConnectionsThanTheServerAllows(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{}) // its Postgres has 200, of which 3 are reserved
	tooMany := r.worker("", "DATABASE_MAX_CONNECTIONS=198")
	testkit.Eventually(t, "the worker exits", tooMany.hasExited)
	tooMany.wantLog("DATABASE_MAX_CONNECTIONS is 198, more than the server allows")
	tight := r.worker("", "DATABASE_MAX_CONNECTIONS=197")
	tight.awaitLog("worker started")
	tight.wantLog("the database may run out of connections")
}

// TestPasswordsAreNotLogged has connection strings whose password has a character
// that must be encoded, and servers that cannot be reached.
func TestPasswordsAreNotLogged(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	for url, want := range map[string]string{
		"postgres://ada:12/hush@127.0.0.1:1/postcard":           "write %40 for @",
		"postgres://ada:pa/hush@127.0.0.1:1/postcard":           "write %40 for @",
		"postgres://ada:pa?hush@127.0.0.1:1/postcard":           "write %40 for @",
		"postgres://ada:100%hush@127.0.0.1:1/postcard":          "write %40 for @",
		"postgres://ada:pa@hush@127.0.0.1:1/postcard":           "waiting for the database",
		"postgres://ada:pa#hush@127.0.0.1:1/postcard":           "waiting for the database",
		"host=127.0.0.1 port=1 user=ada password=hush dbname=x": "waiting for the database",
	} {
		for _, program := range []string{"api", "worker"} {
			p := r.start(program, "API_ADDR=127.0.0.1:0", "DATABASE_URL="+url)
			p.awaitLog(want)
			p.end()
			log, err := os.ReadFile(p.log)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(log), "hush") {
				t.Errorf("%s logs a part of the password: %s", program, log)
			}
		}
	}
}

// TestFirstHostGoesAway lists two addresses of a server, and closes the one in use with
// all its connections: the next connections, those that listen included, use the other.
func TestFirstHostGoesAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	u, err := url.Parse(r.database)
	if err != nil {
		t.Fatal(err)
	}
	first, second := newRelay(t, u.Host), newRelay(t, u.Host)
	database := "DATABASE_URL=" + strings.Replace(r.database, u.Host, first.address()+","+second.address(), 1)
	_, address := r.api(database)
	r.worker("", database).awaitLog("worker started")
	c := readContract(t, address)
	key := c.newKey(c.person("grace@example.com"), `"send","read"`)
	send := func(recipient string) {
		t.Helper()
		const body = `{"to":%q,"text":"Hello","mediaUrl":"https://example.com/a.jpg"}`
		var created struct{ ID string }
		testkit.Eventually(t, "a message is created", func() bool {
			status, _, answer := key.do("POST", "/api/send-mms", fmt.Sprintf(body, recipient), "Idempotency-Key", recipient)
			return status == http.StatusAccepted && json.Unmarshal([]byte(answer), &created) == nil
		})
		key.awaitFinal("/api/messages/" + created.ID)
	}
	send("+14165551000")
	if second.accepted.Load() > 0 {
		t.Error("the second host was used while the first was there")
	}
	first.close()
	send("+14165551001")
	testkit.Eventually(t, "api and worker listen again", func() bool {
		return r.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`) == 3
	})
	r.verify(2)
}

// relay forwards connections to a server.
type relay struct {
	listener net.Listener
	accepted atomic.Int32
	mu       sync.Mutex
	open     []net.Conn
}

func newRelay(t *testing.T, server string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener}
	t.Cleanup(r.close)
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			r.accepted.Add(1)
			go r.forward(client, server)
		}
	}()
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

func (r *relay) forward(client net.Conn, address string) {
	server, err := net.Dial("tcp", address)
	if err != nil {
		client.Close()
		return
	}
	r.mu.Lock()
	r.open = append(r.open, client, server)
	r.mu.Unlock()
	go func() { _, _ = io.Copy(server, client); server.Close() }()
	_, _ = io.Copy(client, server)
	client.Close()
}

// close refuses new connections and closes the open ones.
func (r *relay) close() {
	r.listener.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range r.open {
		conn.Close()
	}
}

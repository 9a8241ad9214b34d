package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// answerWithin is the time in which every request must be answered, whatever the
// database does.
const answerWithin = 15 * time.Second

// freezer suspends a Postgres server, all of whose connections stay open.
type freezer struct {
	t          *testing.T
	postmaster int
	suspended  []int // process ids
}

func newFreezer(t *testing.T, database *sql.DB) *freezer {
	t.Helper()
	var dir string
	if err := database.QueryRow(`SHOW data_directory`).Scan(&dir); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	f := &freezer{t: t, postmaster: pid}
	t.Cleanup(f.resume)
	return f
}

// suspend stops the postmaster first, so that it starts no other processes. They are
// not in its process group.
func (f *freezer) suspend() {
	f.t.Helper()
	f.stop(f.postmaster)
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		f.t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		var pid, parent int
		if _, err := fmt.Sscan(line, &pid, &parent); err == nil && parent == f.postmaster {
			f.stop(pid)
		}
	}
}

func (f *freezer) stop(pid int) {
	if syscall.Kill(pid, syscall.SIGSTOP) == nil { // else it has just exited
		f.suspended = append(f.suspended, pid)
	}
}

func (f *freezer) resume() {
	for _, pid := range f.suspended {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	f.suspended = nil
}

// answer is a response of the api, or the error of a connection that ended without one.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

// problem is the part of an error response that says what became of the request.
type problem struct {
	Detail, Outcome, ID string
}

func (a answer) problem() problem {
	var p problem
	_ = json.Unmarshal([]byte(a.body), &p) // a page has none
	return p
}

// apiClient calls the api with an API key, which the api caches, or with a session.
type apiClient struct {
	t    *testing.T
	url  string
	key  string
	http *http.Client
}

// newAPIClient returns a client with a new API key.
func newAPIClient(t *testing.T, c *caller) *apiClient {
	t.Helper()
	status, body, err := c.post("/api/keys", `{"name":"test","scopes":["send","read"]}`)
	var key struct{ Secret string }
	if err != nil || status != http.StatusCreated || json.Unmarshal([]byte(body), &key) != nil {
		t.Fatalf("creating a key: %d %s %v", status, body, err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &apiClient{t: t, url: c.url, key: key.Secret, http: &http.Client{Transport: transport, Timeout: answerWithin}}
}

func (c *apiClient) do(ctx context.Context, method, path, contentType, body string, headers ...string) answer {
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewBufferString(body))
	if err != nil {
		return answer{err: err}
	}
	if c.key != "" {
		request.Header.Set("Authorization", "Bearer "+c.key)
	}
	if body != "" {
		request.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := c.http.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(text), err: err}
}

func (c *apiClient) send(ctx context.Context, n int, headers ...string) answer {
	return c.do(ctx, "POST", "/api/send-mms", "application/json", fmt.Sprintf(`{"to":"+1416%07d","text":"Hello","mediaUrl":"https://example.com/a.jpg"}`, 5552000+n%7000), headers...)
}

// senders send messages one after another until they are told to stop.
type senders struct {
	group sync.WaitGroup
	done  chan struct{}

	mu          sync.Mutex
	answers     []answer
	created     []int // by sender, since the last reset
	unavailable []int
}

func startSenders(c *apiClient, n int) *senders {
	s := &senders{done: make(chan struct{}), created: make([]int, n), unavailable: make([]int, n)}
	var last atomic.Int64
	for i := range n {
		s.group.Go(func() {
			for {
				select {
				case <-s.done:
					return
				default:
				}
				number := int(last.Add(1))
				var headers []string
				if i%2 == 0 {
					headers = []string{"Idempotency-Key", fmt.Sprint("order ", number)}
				}
				s.record(i, c.send(c.t.Context(), number, headers...))
			}
		})
	}
	return s
}

func (s *senders) record(i int, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, a)
	switch a.status {
	case http.StatusAccepted:
		s.created[i]++
	case http.StatusServiceUnavailable:
		s.unavailable[i]++
	}
}

// awaitEach waits until every sender has got another answer of a kind.
func (s *senders) awaitEach(t *testing.T, description string, counts []int) {
	t.Helper()
	s.mu.Lock()
	clear(counts)
	s.mu.Unlock()
	testkit.Eventually(t, description, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, n := range counts {
			if n == 0 {
				return false
			}
		}
		return true
	})
}

// wantTrueAnswers checks each answer against what is stored: a 202 is stored, a 503 says if it
// may be, and nothing else is stored.
func (s *senders) wantTrueAnswers(t *testing.T, r *rig, c *apiClient) {
	t.Helper()
	close(s.done)
	s.group.Wait()
	testkit.Eventually(t, "no statement is running", func() bool {
		return r.count(`SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%WITH input AS MATERIALIZED%'`) == 0
	})
	stored := map[string]bool{}
	rows, err := r.store.DB().Query(`SELECT id FROM messages`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		stored[id] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, a := range s.answers {
		var created struct{ ID string }
		p := a.problem()
		switch {
		case a.err != nil:
			t.Errorf("got error %v, want an answer within %v", a.err, answerWithin)
		case a.status == http.StatusAccepted:
			if json.Unmarshal([]byte(a.body), &created) != nil || !stored[created.ID] {
				t.Errorf("answered 202, not stored: %s", a.body)
			}
			delete(stored, created.ID)
			counts["created"]++
		case a.status == http.StatusServiceUnavailable && p.Outcome == "unknown":
			got := c.do(t.Context(), "GET", "/api/messages/"+p.ID, "", "")
			if p.ID == "" || got.status != http.StatusOK && (got.status != http.StatusNotFound || stored[p.ID]) || a.header.Get("Retry-After") == "" {
				t.Errorf("unknown outcome: got %d for message %q, stored %t: %s", got.status, p.ID, stored[p.ID], a.body)
			}
			delete(stored, p.ID)
			counts["unknown"]++
		case a.status == http.StatusServiceUnavailable:
			if a.header.Get("Retry-After") == "" || p.Detail == "" {
				t.Errorf("got 503 without Retry-After or detail: %s", a.body)
			}
			counts["unavailable"]++
		default:
			t.Errorf("got %d %s, want 202 or 503", a.status, a.body)
		}
	}
	if len(stored) > 0 {
		t.Errorf("%d messages are stored although their submitters were told otherwise", len(stored))
	}
	t.Logf("answers: %v", counts)
}

// TestPostgresHangs suspends Postgres under load.
func TestPostgresHangs(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	r := newRigOn(t, plivosim.Config{}, server.URL, testkit.Redis(t))
	freezer := newFreezer(t, r.store.DB())
	_, url := r.api()
	session := loggedIn(t, url)
	c := newAPIClient(t, session)
	senders := startSenders(c, 12)
	senders.awaitEach(t, "every sender has created a message", senders.created)
	freezer.suspend()
	others := startOtherRequests(t, session)
	senders.awaitEach(t, "every sender is told that the service is unavailable", senders.unavailable)
	others()
	freezer.resume()
	senders.awaitEach(t, "every sender creates messages again", senders.created)
	senders.wantTrueAnswers(t, r, c)
}

// startOtherRequests sends requests of other kinds. The returned function waits for their
// answers and checks them.
func startOtherRequests(t *testing.T, session *caller) (wait func()) {
	t.Helper()
	c := &apiClient{t: t, url: session.url, http: &http.Client{
		Jar: session.http.Jar, Timeout: answerWithin, Transport: &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	form := url.Values{"to": {"4165551000"}, "mediaUrl": {"https://example.com/a.jpg"}, "idempotencyKey": {"click"}}.Encode()
	answers := map[string]answer{}
	var mu sync.Mutex
	var group sync.WaitGroup
	for _, request := range [][4]string{
		{"GET", "/api/messages", "", ""},
		{"GET", "/messages", "", ""},
		{"POST", "/api/login", "application/json", `{"email":"admin@example.com","password":"correct horse"}`},
		{"POST", "/messages/new", "application/x-www-form-urlencoded", form},
		{"POST", "/login", "application/x-www-form-urlencoded", "email=admin@example.com&password=x"},
		{"POST", "/api/batches", "application/json", `{"mediaUrl":"https://example.com/a.jpg","rows":[{"to":"+14165551000"}]}`},
	} {
		group.Go(func() {
			a := c.do(t.Context(), request[0], request[1], request[2], request[3])
			mu.Lock()
			defer mu.Unlock()
			answers[request[0]+" "+request[1]] = a
		})
	}
	return func() {
		t.Helper()
		group.Wait()
		for name, a := range answers {
			if a.err != nil || a.status != http.StatusServiceUnavailable {
				t.Errorf("%s: got %d, error %v, want 503: %.300s", name, a.status, a.err, a.body)
			}
		}
	}
}

// TestLockedMessages locks the whole table, as some changes of a schema do.
func TestLockedMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	c := newAPIClient(t, loggedIn(t, url))
	senders := startSenders(c, 12)
	senders.awaitEach(t, "every sender has created a message", senders.created)
	operator := begin(t, r, `LOCK TABLE messages IN ACCESS EXCLUSIVE MODE`)
	senders.awaitEach(t, "every sender is told that the service is unavailable", senders.unavailable)
	if err := operator.Rollback(); err != nil {
		t.Fatal(err)
	}
	senders.awaitEach(t, "every sender creates messages again", senders.created)
	senders.wantTrueAnswers(t, r, c)
}

// begin begins an operator's transaction with a statement whose locks it keeps.
func begin(t *testing.T, r *rig, statement string, args ...any) *sql.Tx {
	t.Helper()
	tx, err := r.store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	if _, err := tx.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
	return tx
}

// TestLockedMessage locks one message, as an operator's UPDATE does, and changes it in all
// ways.
func TestLockedMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	c := newAPIClient(t, loggedIn(t, url))
	var m struct{ ID string }
	if a := c.send(t.Context(), 0); a.status != http.StatusAccepted || json.Unmarshal([]byte(a.body), &m) != nil {
		t.Fatalf("got %+v, want 202", a)
	}
	if a := c.do(t.Context(), "POST", "/api/messages/"+m.ID+"/cancel", "", ""); a.status != http.StatusOK {
		t.Fatalf("got %+v, want 200", a)
	}
	operator := begin(t, r, `UPDATE messages SET updated_at = now() WHERE id = $1`, m.ID)
	var canceled, resent answer
	var group sync.WaitGroup
	group.Go(func() { canceled = c.do(t.Context(), "POST", "/api/messages/"+m.ID+"/cancel", "", "") })
	group.Go(func() {
		resent = c.do(t.Context(), "POST", "/api/messages/"+m.ID+"/resend", "", "", "Idempotency-Key", "once")
	})
	if a := c.send(t.Context(), 1); a.status != http.StatusAccepted {
		t.Errorf("another message: got %+v, want 202", a)
	}
	group.Wait()
	if resent.status != http.StatusServiceUnavailable {
		t.Errorf("resend: got %+v, want 503", resent)
	}
	// Whether canceling a canceled message waits for the lock does not matter.
	if canceled.status != http.StatusServiceUnavailable && canceled.status != http.StatusOK {
		t.Errorf("cancel: got %+v, want 503 or 200", canceled)
	}
	if err := operator.Rollback(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the message is resent with the same key", func() bool {
		return c.do(t.Context(), "POST", "/api/messages/"+m.ID+"/resend", "", "", "Idempotency-Key", "once").status == http.StatusAccepted
	})
	if n := r.count(`SELECT count(*) FROM messages WHERE resend_of = $1`, m.ID); n != 1 {
		t.Errorf("got %d resent messages, want 1", n)
	}
}

// TestStopWhilePostgresHangs tells the api to stop while requests wait for a suspended
// Postgres. They are answered before it exits.
func TestStopWhilePostgresHangs(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	r := newRigOn(t, plivosim.Config{}, server.URL, testkit.Redis(t))
	freezer := newFreezer(t, r.store.DB())
	api, url := r.api()
	c := newAPIClient(t, loggedIn(t, url))
	if a := c.send(t.Context(), 0); a.status != http.StatusAccepted { // the api caches the key
		t.Fatalf("got %+v, want 202", a)
	}
	freezer.suspend()
	answers := make(chan answer)
	for i := range 5 {
		go func() { answers <- c.send(t.Context(), i+1) }()
	}
	testkit.Eventually(t, "the api handles all requests", func() bool {
		_, goroutines, err := get(t.Context(), api.metrics+"/debug/pprof/goroutine?debug=2")
		return err == nil && strings.Count(goroutines, "intake.(*Intake).CreateMessage(") >= 5
	})
	api.signal(syscall.SIGTERM)
	for range 5 {
		if a := <-answers; a.err != nil || a.status != http.StatusServiceUnavailable {
			t.Errorf("got %d, error %v, want 503: %s", a.status, a.err, a.body)
		}
	}
	testkit.Eventually(t, "the api has exited", api.hasExited)
}

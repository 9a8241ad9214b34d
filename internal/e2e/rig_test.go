// Package e2e tests the delivery guarantees from outside: real api and worker
// processes on real servers, which it kills, against a simulator of Plivo that keeps
// a ledger. It must not call into the processes under test.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/devstack"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/maintenance"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestMain raises the number of parallel tests, unless -parallel sets it: most of
// their time they wait, for a lease to expire or a check to become due.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	testkit.Main(m, func() {
		if binariesDir != "" {
			os.RemoveAll(binariesDir)
		}
	})
}

const (
	authID    = "MATESTTESTTESTTEST01"
	authToken = "test_auth_token_0001"
	sender    = "+14155550100"
)

// binaries builds the programs once, with failpoints and without debug information,
// which makes linking faster. TestMain removes binariesDir.
var binaries = sync.OnceValues(func() (string, error) {
	var err error
	if binariesDir, err = os.MkdirTemp("", "postcard-binaries-"); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-tags", "failpoints", "-ldflags=-s -w", "-o", binariesDir, "github.com/postcard-mms/postcard/cmd/api", "github.com/postcard-mms/postcard/cmd/worker").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	return binariesDir, nil
})

var binariesDir string

// rig is the environment of the processes under test. It creates messages through
// its own intake and receives Plivo's callbacks itself, so that a test decides which
// processes run.
type rig struct {
	t         *testing.T
	database  string
	redis     string
	store     *postgres.Store
	queue     *queue.Client
	intake    *intake.Intake
	sim       *plivosim.Simulator
	plivoURL  string
	callback  *httptest.Server
	process   uuid.UUID // of callback, among the api processes
	workspace uuid.UUID
	logs      atomic.Int32

	build func() (string, error) // builds the programs and returns their directory

	// callbackFault handles the next callbacks instead of Postcard, while it is set.
	callbackFault atomic.Pointer[http.HandlerFunc]
}

func newRig(t *testing.T, config plivosim.Config) *rig {
	t.Helper()
	return newRigOn(t, config, testkit.Database(t), testkit.Redis(t))
}

// newRigOn is newRig on servers that the test starts itself, to break them.
func newRigOn(t *testing.T, config plivosim.Config, database, redisURL string) *rig {
	t.Helper()
	r := &rig{t: t, database: database, redis: redisURL, workspace: uuid.Must(uuid.NewV7()), build: binaries}
	var err error
	if r.store, err = postgres.Open(database, 10, postgres.StatementTimeout); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.store.Close() })
	if err := postgres.Migrate(t.Context(), r.store.DB()); err != nil {
		t.Fatal(err)
	}
	connection, err := queue.Connect(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	r.queue = queue.NewClient(connection)
	r.intake = &intake.Intake{
		Rules: mms.Rules{Countries: []string{"US", "CA"}, Senders: []mms.PhoneNumber{sender}},
		Store: r.store, Queue: r.queue, Logger: slog.New(slog.DiscardHandler),
	}
	user := identity.User{ID: r.workspace, Email: "ada@example.com", Role: identity.RoleUser, PasswordHash: identity.PasswordHash(strings.Repeat("x", 60))}
	if err := r.store.CreateUser(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	r.startSimulator(config)
	r.startCallback()
	go r.store.RunNotifier(t.Context(), slog.New(slog.DiscardHandler))
	return r
}

func (r *rig) startSimulator(config plivosim.Config) {
	config.AuthID, config.AuthToken = authID, authToken
	config.RequestRate, config.MaxConcurrent = -1, -1
	if config.TimeScale == 0 {
		config.TimeScale = 0.02
	}
	r.sim = plivosim.New(config)
	server := httptest.NewServer(r.sim)
	r.plivoURL = server.URL
	r.t.Cleanup(server.Close)
	r.t.Cleanup(r.sim.Close)
}

func (r *rig) startCallback() {
	verifier := plivo.Verifier{Tokens: []string{authToken}}
	r.callback = httptest.NewUnstartedServer(nil)
	verifier.CallbackURL = "http://" + r.callback.Listener.Addr().String()
	logger := slog.New(slog.DiscardHandler)
	r.process = uuid.New()
	health := callback.NewHealth(r.store, r.process, logger)
	if err := health.Beat(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	go maintenance.Run(r.t.Context(), maintenance.CallbackHeartbeat(health.Beat), logger)
	r.callback.Config.Handler = health.Middleware(r.breakable(callback.New(callback.Options{
		Verifier: verifier, Reports: callback.Reports{Store: r.store, OnDuplicate: func() {}}, Inbox: r.store, Count: func(string) {}, Logger: logger,
	})))
	r.callback.Start()
	r.t.Cleanup(r.callback.Close)
}

// breakable lets callbackFault replace the handler.
func (r *rig) breakable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if fault := r.callbackFault.Load(); fault != nil {
			(*fault)(w, request)
			return
		}
		next.ServeHTTP(w, request)
	})
}

// process is an api or worker process.
type process struct {
	t       *testing.T
	command *exec.Cmd
	exited  chan struct{}
	log     string
	metrics string // URL of the metrics and readiness listener
}

// start starts a program. It is killed at the end of the test, which prints the end
// of its log on failure.
func (r *rig) start(program string, vars ...string) *process {
	r.t.Helper()
	dir, err := r.build()
	if err != nil {
		r.t.Fatal(err)
	}
	port, err := devstack.FreePort()
	if err != nil {
		r.t.Fatal(err)
	}
	p := &process{t: r.t, exited: make(chan struct{}), metrics: fmt.Sprintf("http://127.0.0.1:%d", port), log: filepath.Join(r.t.TempDir(), fmt.Sprintf("%s-%d.log", program, r.logs.Add(1)))}
	log, err := os.Create(p.log)
	if err != nil {
		r.t.Fatal(err)
	}
	p.command = exec.Command(filepath.Join(dir, program))
	p.command.Dir = r.t.TempDir() // has no .env
	p.command.Stdout, p.command.Stderr = log, log
	p.command.Env = append([]string{
		"DATABASE_URL=" + r.database, "REDIS_URL=" + r.redis, "LOG_FORMAT=text",
		"PLIVO_AUTH_ID=" + authID, "PLIVO_AUTH_TOKEN=" + authToken, "PLIVO_SENDER_NUMBER=" + sender, "PLIVO_BASE_URL=" + r.plivoURL,
		"PUBLIC_URL=" + r.callback.URL, "SENDER_RATE=0", "SEND_TIMEOUT=3s", "DOUBT_WAIT=3s",
		fmt.Sprintf("API_METRICS_ADDR=127.0.0.1:%d", port), fmt.Sprintf("WORKER_METRICS_ADDR=127.0.0.1:%d", port),
	}, vars...)
	if err := devstack.StartBound(p.command); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait() // tests that need it read ProcessState
		log.Close()
		close(p.exited)
	}()
	r.t.Cleanup(p.end)
	return p
}

// worker starts a worker, with a failpoint that kills it unless at is "".
func (r *rig) worker(at string, vars ...string) *process {
	r.t.Helper()
	if at != "" {
		vars = append(vars, "POSTCARD_FAILPOINT="+at)
	}
	return r.start("worker", vars...)
}

func (p *process) end() {
	_ = p.command.Process.Kill()
	<-p.exited
	if p.t.Failed() {
		if log, err := os.ReadFile(p.log); err == nil {
			p.t.Logf("%s:\n%s", filepath.Base(p.log), lastLines(string(log), 25))
		}
	}
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.command.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// awaitKilled waits until the failpoint has killed the process.
func (p *process) awaitKilled() {
	p.t.Helper()
	testkit.Eventually(p.t, "the process is killed at its failpoint", p.hasExited)
	if status, ok := p.command.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		p.t.Fatalf("got process state %v, want killed", p.command.ProcessState)
	}
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// awaitLog waits until the process has logged the text.
func (p *process) awaitLog(text string) {
	p.t.Helper()
	testkit.Eventually(p.t, fmt.Sprintf("the process logs %q", text), func() bool {
		log, err := os.ReadFile(p.log)
		return err == nil && strings.Contains(string(log), text)
	})
}

// create creates n messages to n recipients.
func (r *rig) create(n int) []mms.Message {
	r.t.Helper()
	var messages []mms.Message
	for i := range n {
		messages = append(messages, r.createTo(fmt.Sprintf("+1416%07d", 5551000+i)))
	}
	return messages
}

func (r *rig) createTo(recipient string) mms.Message {
	r.t.Helper()
	m, err := r.intake.CreateMessage(r.t.Context(), mms.Submitter{Workspace: r.workspace}, mms.CreateParams{To: recipient, Text: "Hello", MediaURL: "https://example.com/a.jpg"})
	if err != nil {
		r.t.Fatal(err)
	}
	return m.Message
}

func (r *rig) count(query string, args ...any) int {
	r.t.Helper()
	var n int
	if err := r.store.DB().QueryRowContext(context.WithoutCancel(r.t.Context()), query, args...).Scan(&n); err != nil {
		return -1 // the database may be down; callers that wait retry
	}
	return n
}

// awaitFinal waits until every message has a final status.
func (r *rig) awaitFinal() {
	r.t.Helper()
	defer r.logUnfinished()
	testkit.EventuallyWithin(r.t, drainTimeout, "all messages are final", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE final_at IS NULL`) == 0
	})
}

// logUnfinished logs the events of some messages that are not final, if the test has failed.
func (r *rig) logUnfinished() {
	if !r.t.Failed() {
		return
	}
	var messages []string
	const unfinished = `
	SELECT m.id || ' ' || m.status || ' ' || (SELECT string_agg(to_char(e.at, 'HH24:MI:SS.MS ') || e.kind || ' ' || e.detail, ', ' ORDER BY e.id) FROM message_events e WHERE e.message_id = m.id)
	FROM messages m WHERE m.final_at IS NULL LIMIT 5`
	if err := sqlx.NewDb(r.store.DB(), "postgres").Select(&messages, unfinished); err != nil {
		r.t.Log(err)
	}
	for _, m := range messages {
		r.t.Log(m)
	}
}

// wantStatus checks a message's status and returns its history.
func (r *rig) wantStatus(m mms.Message, want mms.Status) mms.History {
	r.t.Helper()
	h, err := r.store.Message(r.t.Context(), r.workspace, m.ID)
	if err != nil {
		r.t.Fatal(err)
	}
	if h.Status != want {
		r.t.Errorf("got status %s, want %s; events: %s", h.Status, want, eventLog(h))
	}
	return h
}

func eventLog(h mms.History) string {
	var list []string
	for _, e := range h.Events {
		list = append(list, fmt.Sprintf("%s>%s(%s)", e.Kind, e.Status, e.Detail))
	}
	return strings.Join(list, " ")
}

// verify checks all invariants and the number of messages that Plivo has.
func (r *rig) verify(atPlivo int) {
	r.t.Helper()
	findings, err := r.store.Audit(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	var provider []audit.LedgerEntry
	for _, e := range r.sim.Ledger() {
		provider = append(provider, audit.LedgerEntry{PlivoUUID: e.UUID, Token: strings.TrimPrefix(filepath.Base(e.CallbackURL), "."), State: string(e.State)})
	}
	compared, err := audit.CompareLedger(r.t.Context(), r.store, provider)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range append(findings, compared...) {
		if f.Broken {
			r.t.Errorf("invariant %s is broken: %d %s", f.Invariant, f.Count, f.What)
		}
	}
	if len(provider) != atPlivo {
		r.t.Errorf("got %d messages at Plivo, want %d", len(provider), atPlivo)
	}
}

// get returns the status and body of a URL.
func get(ctx context.Context, url string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// sendDirectly sends a message through the account without Postcard.
func sendDirectly(t *testing.T, r *rig, recipient mms.PhoneNumber) {
	t.Helper()
	client, err := plivo.New(plivo.Options{AuthID: authID, AuthToken: authToken, BaseURL: r.plivoURL, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	answer := client.Send(t.Context(), mms.Submission{
		Sender: sender, Recipient: recipient, Text: "Hello", MediaURLs: []string{"https://example.com/a.jpg"},
		MayWrite: func() bool { return true },
	})
	if mms.Judge(answer).Outcome != mms.Accepted {
		t.Fatalf("sending directly: %+v", answer)
	}
}

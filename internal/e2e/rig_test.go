// Package e2e proves the promises from outside: real api and worker processes
// on real servers, killed for real, against a simulator that keeps a ledger.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/devstack"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	authID    = "MATESTTESTTESTTEST01"
	authToken = "test_auth_token_0001"
	sender    = "+14155550100"
)

// binaries builds the programs once, with failpoints.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "postcard-binaries-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-tags", "failpoints", "-o", dir, "github.com/postcard-mms/postcard/cmd/api", "github.com/postcard-mms/postcard/cmd/worker").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	return dir, nil
})

// rig is what surrounds the processes under test. Messages come in through an
// intake of its own and reports through a webhook of its own, so that a test
// decides which processes run.
type rig struct {
	t        *testing.T
	database string
	redis    string
	store    *postgres.Store
	queue    *queue.Client
	intake   *intake.Intake
	sim      *plivosim.Simulator
	plivoURL string
	webhook  *httptest.Server
	owner    uuid.UUID
	logs     atomic.Int32
}

func newRig(t *testing.T, config plivosim.Config) *rig {
	t.Helper()
	return newRigOn(t, config, testkit.Database(t), testkit.Redis(t))
}

// newRigOn is newRig on servers that the test brings itself, to break them.
func newRigOn(t *testing.T, config plivosim.Config, database, redisURL string) *rig {
	t.Helper()
	r := &rig{t: t, database: database, redis: redisURL, owner: uuid.Must(uuid.NewV7())}
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
	user := identity.User{ID: r.owner, Email: "ada@example.com", Role: identity.RoleUser, PasswordHash: identity.PasswordHash(strings.Repeat("x", 60))}
	if err := r.store.CreateUser(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	r.startSimulator(config)
	r.startWebhook()
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

func (r *rig) startWebhook() {
	verifier := plivo.Verifier{Tokens: []string{authToken}}
	r.webhook = httptest.NewUnstartedServer(nil)
	verifier.PublicURL = "http://" + r.webhook.Listener.Addr().String()
	r.webhook.Config.Handler = callback.New(callback.Options{
		Verifier: verifier, Reports: callback.Reports{Store: r.store, OnDuplicate: func() {}}, Inbox: r.store, Count: func(string) {}, Logger: slog.New(slog.DiscardHandler),
	})
	r.webhook.Start()
	r.t.Cleanup(r.webhook.Close)
}

// process is an api or worker process.
type process struct {
	t       *testing.T
	command *exec.Cmd
	ended   chan struct{}
	log     string
	metrics string // the URL of the listener for operators
}

// start starts a program with more variables than all need. It is ended with
// the test, at the latest; its log is shown when the test fails.
func (r *rig) start(program string, vars ...string) *process {
	r.t.Helper()
	dir, err := binaries()
	if err != nil {
		r.t.Fatal(err)
	}
	port, err := devstack.FreePort()
	if err != nil {
		r.t.Fatal(err)
	}
	p := &process{t: r.t, ended: make(chan struct{}), metrics: fmt.Sprintf("http://127.0.0.1:%d", port), log: filepath.Join(r.t.TempDir(), fmt.Sprintf("%s-%d.log", program, r.logs.Add(1)))}
	log, err := os.Create(p.log)
	if err != nil {
		r.t.Fatal(err)
	}
	p.command = exec.Command(filepath.Join(dir, program))
	p.command.Dir = r.t.TempDir() // where there is no .env
	p.command.Stdout, p.command.Stderr = log, log
	p.command.Env = append([]string{
		"DATABASE_URL=" + r.database, "REDIS_URL=" + r.redis, "LOG_FORMAT=text",
		"PLIVO_AUTH_ID=" + authID, "PLIVO_AUTH_TOKEN=" + authToken, "PLIVO_SENDER_NUMBER=" + sender, "PLIVO_BASE_URL=" + r.plivoURL,
		"PUBLIC_URL=" + r.webhook.URL, "SENDER_RATE=0", "SEND_TIMEOUT=3s", "DOUBT_WAIT=3s",
		fmt.Sprintf("API_METRICS_ADDR=127.0.0.1:%d", port), fmt.Sprintf("WORKER_METRICS_ADDR=127.0.0.1:%d", port),
	}, vars...)
	if err := devstack.StartBound(p.command); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait() // how it ended is asked for by the tests that care
		log.Close()
		close(p.ended)
	}()
	r.t.Cleanup(p.end)
	return p
}

// worker starts a worker that is killed at the failpoint, or at none.
func (r *rig) worker(at string, vars ...string) *process {
	r.t.Helper()
	if at != "" {
		vars = append(vars, "POSTCARD_FAILPOINT="+at)
	}
	return r.start("worker", vars...)
}

func (p *process) end() {
	_ = p.command.Process.Kill()
	<-p.ended
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

// awaitKilled waits until the process has been killed by its failpoint.
func (p *process) awaitKilled() {
	p.t.Helper()
	testkit.Eventually(p.t, "the process is killed at its failpoint", p.hasEnded)
	if status, ok := p.command.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		p.t.Fatalf("the process ended as %v, want it killed", p.command.ProcessState)
	}
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// awaitLog waits until the process has logged the words.
func (p *process) awaitLog(words string) {
	p.t.Helper()
	testkit.Eventually(p.t, fmt.Sprintf("the process logs %q", words), func() bool {
		log, err := os.ReadFile(p.log)
		return err == nil && strings.Contains(string(log), words)
	})
}

// accept takes on n messages to as many recipients.
func (r *rig) accept(n int) []mms.Message {
	r.t.Helper()
	var messages []mms.Message
	for i := range n {
		messages = append(messages, r.acceptTo(fmt.Sprintf("+1416%07d", 5551000+i)))
	}
	return messages
}

func (r *rig) acceptTo(recipient string) mms.Message {
	r.t.Helper()
	m, err := r.intake.CreateMessage(r.t.Context(), mms.Submitter{User: r.owner}, mms.CreateParams{To: recipient, Text: "Hello", MediaURL: "https://example.com/a.jpg"})
	if err != nil {
		r.t.Fatal(err)
	}
	return m.Message
}

func (r *rig) count(query string, args ...any) int {
	r.t.Helper()
	var n int
	if err := r.store.DB().QueryRowContext(context.WithoutCancel(r.t.Context()), query, args...).Scan(&n); err != nil {
		return -1 // the database may be away; whoever waits asks again
	}
	return n
}

// awaitFinal waits until every message has a final status.
func (r *rig) awaitFinal() {
	r.t.Helper()
	testkit.EventuallyWithin(r.t, drainPatience, "all messages are final", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE final_at IS NULL`) == 0
	})
}

// wantStatus checks where a message stands, and shows its story if elsewhere.
func (r *rig) wantStatus(m mms.Message, want mms.Status) mms.History {
	r.t.Helper()
	h, err := r.store.Message(r.t.Context(), r.owner, m.ID)
	if err != nil {
		r.t.Fatal(err)
	}
	if h.Status != want {
		r.t.Errorf("message is %s, want %s; events: %s", h.Status, want, story(h))
	}
	return h
}

func story(h mms.History) string {
	var list []string
	for _, e := range h.Events {
		list = append(list, fmt.Sprintf("%s>%s(%s)", e.Kind, e.Status, e.Detail))
	}
	return strings.Join(list, " ")
}

// verify checks all invariants, and that the simulator has exactly so many
// messages.
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
			r.t.Errorf("%s is broken: %d %s", f.Invariant, f.Count, f.What)
		}
	}
	if len(provider) != atPlivo {
		r.t.Errorf("Plivo has %d messages, want %d", len(provider), atPlivo)
	}
}

// get asks for a URL and returns status and body.
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
	return response.StatusCode, string(body), errors.Join(err)
}

// sendByHand sends through the account past Postcard.
func sendByHand(t *testing.T, r *rig, recipient mms.PhoneNumber) {
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
		t.Fatalf("sending by hand: %+v", answer)
	}
}

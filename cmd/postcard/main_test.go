package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	sender = "+14155550100"
	secret = "correct horse"
)

// newDatabase creates a database, sets DATABASE_URL to it and opens a store on it. Tests
// that use it cannot run in parallel, because they set environment variables.
func newDatabase(t *testing.T) *postgres.Store {
	t.Helper()
	url := testkit.Database(t)
	t.Setenv("DATABASE_URL", url)
	store, err := postgres.Open(url, 2, postgres.StatementTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// call runs the command line with the given standard input and returns its output.
func call(t *testing.T, in, args string) (string, error) {
	t.Helper()
	var out strings.Builder
	err := run(t.Context(), strings.Fields(args), strings.NewReader(in), &out)
	return out.String(), err
}

func TestChangedPasswordThatIsSwitchedOff(t *testing.T) {
	newDatabase(t)
	for _, args := range []string{"migrate", "user add ada@example.com"} {
		if _, err := call(t, secret, args); err != nil {
			t.Fatal(err)
		}
	}
	for value, want := range map[string]bool{"": false, "true": false, "false": true} {
		t.Setenv("PASSWORD_LOGIN", value)
		out, err := call(t, secret, "user passwd ada@example.com")
		if got := strings.Contains(out, "PASSWORD_LOGIN is false"); err != nil || got != want {
			t.Errorf("PASSWORD_LOGIN=%s: got %q, %v, want the hint: %t", value, out, err, want)
		}
	}
}

func TestUserCommands(t *testing.T) {
	store := newDatabase(t)
	for _, step := range []struct{ args, in, wantOut, wantErr string }{
		{args: "migrate", wantOut: "up to date"},
		{args: "user add Ada@Example.com", in: secret + "\n", wantOut: "Added ada@example.com as user"},
		{args: "user add ada@example.com", in: secret, wantErr: "already exists"},
		{args: "user add root@example.com --admin", in: secret + "\r\n", wantOut: "as admin"},
		{args: "user add x@example.com", in: "", wantErr: "standard input"},
		{args: "user add x@example.com", in: "short\n", wantErr: "password"},
		{args: "user add nonsense", in: secret, wantErr: "email"},
		{args: "user add x@example.com", in: "\xff\xfec\x00o\x00r\x00r\x00e\x00c\x00t\x00\r\x00\n\x00", wantErr: "not in UTF-8"},
		{args: "user add x@example.com", in: "Gr\xfc\xdfe und K\xfcsse\n", wantErr: "not in UTF-8"},
		{args: "user passwd ADA@example.com", in: "\ufeffanother secret\n", wantOut: "Changed the password"},
		{args: "user passwd ada@example.com", in: "short\n", wantErr: "password"},
		{args: "user passwd nobody@example.com", in: secret, wantErr: "no"},
		{args: "user reset-2fa ADA@example.com", wantOut: "Removed the user's second factors"},
		{args: "user reset-2fa nobody@example.com", wantErr: "no such user"},
		{args: "help", wantOut: "Usage"},
		{args: "--version", wantOut: "postcard 0.1.0"},
	} {
		out, err := call(t, step.in, step.args)
		if (err != nil) != (step.wantErr != "") || !strings.Contains(out, step.wantOut) || err != nil && !strings.Contains(err.Error(), step.wantErr) {
			t.Errorf("postcard %s = %q, %v; want output containing %q, error containing %q", step.args, out, err, step.wantOut, step.wantErr)
		}
		if err != nil && step.in != "" && strings.Contains(err.Error(), strings.TrimSpace(step.in)) {
			t.Errorf("postcard %s: the error contains the password: %v", step.args, err)
		}
	}
	user, err := store.UserByEmail(t.Context(), "ada@example.com")
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{"another secret": true, secret: false} {
		if got, err := user.PasswordHash.Matches(password); err != nil || got != want {
			t.Errorf("password %q matches: got %v, %v, want %v", password, got, err, want)
		}
	}
}

func TestUnknownArgumentsReturnUsageError(t *testing.T) {
	for _, args := range []string{"", "nonsense", "migrate now", "user", "user add", "user add a b c", "user add a@example.com --root", "user reset-2fa", "verify --simulator", "verify --plivo", "healthcheck"} {
		if _, err := call(t, secret, args); !errors.Is(err, errUsage) {
			t.Errorf("postcard %s: got error %v, want errUsage", args, err)
		}
	}
}

func TestMissingDatabaseURLIsReported(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	if _, err := call(t, "", "verify"); err == nil || !strings.Contains(err.Error(), "DATABASE_URL is missing") {
		t.Errorf("postcard verify: got error %v, want one that names DATABASE_URL", err)
	}
}

// TestDatabaseErrors checks that errors say what to change, and show no part of the password.
func TestDatabaseErrors(t *testing.T) {
	store := newDatabase(t)
	u, err := url.Parse(os.Getenv("DATABASE_URL"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec("CREATE ROLE excluded LOGIN PASSWORD 'secret' CONNECTION LIMIT 0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = store.DB().Exec("DROP ROLE excluded") })
	pooled := testkit.PgBouncer(t, u.String(), "pool_mode = transaction")
	excluded := *u
	excluded.User = url.UserPassword("excluded", "secret")
	for name, tt := range map[string]struct{ url, listenURL, want string }{
		"no free connection":          {excluded.String(), "", "the server has no free connection; lower DATABASE_MAX_CONNECTIONS"},
		"pooler in transaction mode":  {pooled, "", "use the pooler's session mode"},
		"not encoded":                 {"postgres://ada:pa/ss@localhost/postcard", "", "write %40 for @"},
		"direct connection is no URL": {pooled, "pa/ss", "DATABASE_LISTEN_URL must be a URL"},
	} {
		t.Setenv("DATABASE_URL", tt.url)
		t.Setenv("DATABASE_LISTEN_URL", tt.listenURL)
		if _, err := call(t, "", "verify"); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "ss@") {
			t.Errorf("%s: got error %v, want one that says %q", name, err, tt.want)
		}
	}
	t.Setenv("DATABASE_URL", pooled)
	t.Setenv("DATABASE_LISTEN_URL", u.String())
	if _, err := call(t, "", "verify"); err != nil {
		t.Errorf("with a direct connection: %v", err)
	}
}

func TestHealthcheck(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	if _, err := call(t, "", "healthcheck "+server.URL); err != nil {
		t.Errorf("healthcheck of a healthy server: got error %v, want none", err)
	}
	status = http.StatusServiceUnavailable
	if _, err := call(t, "", "healthcheck "+server.URL); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("healthcheck of an unhealthy server: got error %v, want one with status 503", err)
	}
	server.Close()
	if _, err := call(t, "", "healthcheck "+server.URL); err == nil {
		t.Error("healthcheck of a closed port: got no error, want one")
	}
}

// fixture is a database and a simulator to compare it with.
type fixture struct {
	t         *testing.T
	store     *postgres.Store
	sim       *plivosim.Simulator
	plivo     *plivo.Client
	url       string
	workspace uuid.UUID
	sent      int
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, store: newDatabase(t)}
	f.sim = plivosim.New(plivosim.Config{AuthID: "MATESTTESTTESTTEST01", AuthToken: "token", TimeScale: 0.001})
	server := httptest.NewServer(f.sim)
	t.Cleanup(server.Close)
	t.Cleanup(f.sim.Close)
	f.url = server.URL
	for name, value := range map[string]string{
		"PLIVO_AUTH_ID": "MATESTTESTTESTTEST01", "PLIVO_AUTH_TOKEN": "token", "PLIVO_SENDER_NUMBER": sender, "PLIVO_BASE_URL": server.URL,
	} {
		t.Setenv(name, value)
	}
	var err error
	if f.plivo, err = plivo.New(plivo.Options{AuthID: "MATESTTESTTESTTEST01", AuthToken: "token", BaseURL: server.URL, MaxConns: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, secret, "user add ada@example.com"); err != nil {
		t.Fatal(err)
	}
	user, err := f.store.UserByEmail(t.Context(), "ada@example.com")
	if err != nil {
		t.Fatal(err)
	}
	f.workspace = user.ID
	if err := f.store.SetRateLimit(t.Context(), sender, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

// send creates a message and sends it as a worker would, and returns the attempt's
// verdict without recording it.
func (f *fixture) send() (mms.AttemptRef, mms.Verdict) {
	f.t.Helper()
	f.sent++
	m, err := f.store.CreateMessage(f.t.Context(), mms.CreateRequest{Message: mms.Message{
		ID: uuid.Must(uuid.NewV7()), Workspace: f.workspace, Sender: sender, Recipient: mms.PhoneNumber(fmt.Sprintf("+1416555%04d", f.sent)),
		Text: "Hi", MediaURLs: []string{"https://example.com/a.jpg"}, ValidFor: time.Hour, Priority: mms.Normal,
	}})
	if err != nil {
		f.t.Fatal(err)
	}
	token := strings.Repeat("t", 40) + fmt.Sprint(f.sent)
	claim, claimed, err := f.store.Claim(f.t.Context(), m.ID, token, mms.ListSkew)
	if err != nil || !claimed {
		f.t.Fatalf("Claim = %v, %v, want true", claimed, err)
	}
	answer := f.plivo.Send(f.t.Context(), mms.Submission{
		Sender: claim.Sender, Recipient: claim.Recipient, Text: claim.Text, MediaURLs: claim.MediaURLs,
		CallbackURL: "http://127.0.0.1:1/" + token, MayWrite: func() bool { return true },
	})
	return claim.AttemptRef, mms.Judge(answer)
}

func (f *fixture) submit(ref mms.AttemptRef, v mms.Verdict) {
	f.t.Helper()
	if got, err := f.store.RecordSubmitted(f.t.Context(), ref, v, mms.EventSubmitted); err != nil || got != mms.Adopted {
		f.t.Fatalf("RecordSubmitted = %v, %v, want Adopted", got, err)
	}
}

func (f *fixture) verify(args string) (string, error) { return call(f.t, "", "verify "+args) }

func TestVerifyPassesWhenRecordsAgree(t *testing.T) {
	f := newFixture(t)
	f.submit(f.send())
	f.submit(f.send())
	for _, args := range []string{"", "--simulator " + f.url, "--plivo 1h"} {
		if out, err := f.verify(args); err != nil || !strings.Contains(out, "All invariants hold") || !strings.Contains(out, "DOUBT_SILENCE cannot be used: fewer than 50 messages") {
			t.Errorf("verify %s: got error %v, want none; output:\n%s", args, err, out)
		}
	}
	if _, err := f.verify("--plivo yesterday"); err == nil || !strings.Contains(err.Error(), "24h") {
		t.Errorf("verify --plivo yesterday: got error %v, want one with an example duration", err)
	}
}

// TestVerifyChecksTheQueue pauses a queue, overwrites a key, and stops Redis.
func TestVerifyChecksTheQueue(t *testing.T) {
	f := newFixture(t)
	url := testkit.Redis(t)
	t.Setenv("REDIS_URL", url)
	c, err := queue.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if out, err := f.verify(""); err != nil || !strings.Contains(out, "All invariants hold") {
		t.Errorf("verify: got error %v, want none; output:\n%s", err, out)
	}
	if err := c.Set(t.Context(), "asynq:{messages-bulk}:paused", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if out, err := f.verify(""); err != nil || !strings.Contains(out, "paused queues: messages-bulk") {
		t.Errorf("verify with a paused queue: got error %v, want none; output:\n%s", err, out)
	}
	if err := c.Set(t.Context(), "asynq:{messages}:pending", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if out, err := f.verify(""); err == nil || !strings.Contains(out, "asynq:{messages}:pending  VIOLATED") {
		t.Errorf("verify with a key of the wrong type: got error %v, want one; output:\n%s", err, out)
	}
	t.Setenv("REDIS_URL", "redis://127.0.0.1:1/0")
	if out, err := f.verify(""); err == nil || !strings.Contains(out, "All invariants hold") {
		t.Errorf("verify without Redis: got error %v, want one after the findings; output:\n%s", err, out)
	}
}

// TestVerifyReportsViolations corrupts one record at a time.
func TestVerifyReportsViolations(t *testing.T) {
	for name, tt := range map[string]struct {
		corrupt func(*fixture)
		args    string
		finding string // matches the line of the finding
	}{
		"second message at Plivo without an attempt": {func(f *fixture) { f.submit(f.send()); f.sendDirectly() }, "--simulator", `I2 .*without an attempt`},
		"recorded as rejected but accepted by Plivo": {func(f *fixture) {
			ref, v := f.send()
			v.Outcome = mms.PermanentFailure
			if _, err := f.store.RecordPermanentFailure(f.t.Context(), ref, v, mms.ReasonRejected); err != nil {
				f.t.Fatal(err)
			}
		}, "--simulator", `I2 .*not recorded as accepted`},
		"recorded as accepted but unknown to Plivo": {func(f *fixture) {
			ref, v := f.send()
			v.PlivoUUID = "00000000-0000-0000-0000-000000000000"
			f.submit(ref, v)
		}, "--simulator", `I2 .*accepted attempts that are not in the ledger`},
		"accepted an hour ago but not listed": {func(f *fixture) {
			ref, v := f.send()
			v.PlivoUUID = "00000000-0000-0000-0000-000000000000"
			f.submit(ref, v)
			f.exec(`UPDATE attempts SET started_at = started_at - interval '1 hour'`)
		}, "--plivo 2h", `I2 .*that Plivo does not list`},
		"missing event": {func(f *fixture) { f.submit(f.send()); f.exec(`UPDATE messages SET version = version + 1`) }, "", `I4 .*messages with missing events`},
		"sending with an expired lease": {func(f *fixture) {
			f.send()
			f.exec(`UPDATE attempts SET lease_until = now() - interval '1 hour'`)
		}, "", `I1 .*without a current lease`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			tt.corrupt(f)
			args := strings.Replace(tt.args, "--simulator", "--simulator "+f.url, 1)
			out, err := f.verify(args)
			if err == nil || !isViolated(out, tt.finding) {
				t.Errorf("verify %s: got error %v, want a line %s marked VIOLATED; output:\n%s", args, err, tt.finding, out)
			}
		})
	}
}

// isViolated reports whether the output marks a line that matches finding as violated.
func isViolated(out, finding string) bool {
	return regexp.MustCompile(`(?m)^` + finding + `.*VIOLATED$`).MatchString(out)
}

// sendDirectly sends a message to Plivo that Postcard knows nothing of.
func (f *fixture) sendDirectly() {
	f.t.Helper()
	answer := f.plivo.Send(context.WithoutCancel(f.t.Context()), mms.Submission{
		Sender: sender, Recipient: "+14165559999", Text: "Hi", MediaURLs: []string{"https://example.com/a.jpg"},
		CallbackURL: "http://127.0.0.1:1/nobody", MayWrite: func() bool { return true },
	})
	if mms.Judge(answer).Outcome != mms.Accepted {
		f.t.Fatalf("sending directly: got answer %+v, want accepted", answer)
	}
}

func (f *fixture) exec(statement string) {
	f.t.Helper()
	if _, err := f.store.DB().ExecContext(f.t.Context(), statement); err != nil {
		f.t.Fatal(err)
	}
}

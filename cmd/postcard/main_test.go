package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	sender = "+14155550100"
	secret = "correct horse"
)

// database is a fresh one that the tool finds in its environment, with the store
// that sees what the tool did. Its tests run one after the other: they share the
// environment.
func database(t *testing.T) *postgres.Store {
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

// call runs the tool with the words and what it reads from standard input.
func call(t *testing.T, in, words string) (string, error) {
	t.Helper()
	var out strings.Builder
	err := run(t.Context(), strings.Fields(words), strings.NewReader(in), &out)
	return out.String(), err
}

func TestUsersAndPasswords(t *testing.T) {
	store := database(t)
	for _, step := range []struct{ words, in, says, fails string }{
		{words: "migrate", says: "up to date"},
		{words: "user add Ada@Example.com", in: secret + "\n", says: "Added ada@example.com as user"},
		{words: "user add ada@example.com", in: secret, fails: "exists already"},
		{words: "user add root@example.com --admin", in: secret + "\r\n", says: "as admin"},
		{words: "user add x@example.com", in: "", fails: "standard input"},
		{words: "user add x@example.com", in: "short\n", fails: "password"},
		{words: "user add nonsense", in: secret, fails: "email"},
		{words: "user passwd ADA@example.com", in: "another secret\n", says: "changed"},
		{words: "user passwd ada@example.com", in: "short\n", fails: "password"},
		{words: "user passwd nobody@example.com", in: secret, fails: "no"},
		{words: "help", says: "Usage"},
	} {
		out, err := call(t, step.in, step.words)
		if (err != nil) != (step.fails != "") || !strings.Contains(out, step.says) || err != nil && !strings.Contains(err.Error(), step.fails) {
			t.Errorf("postcard %s: %q, %v; want %q or an error with %q", step.words, out, err, step.says, step.fails)
		}
		if err != nil && step.in != "" && strings.Contains(err.Error(), strings.TrimSpace(step.in)) {
			t.Errorf("postcard %s: the error shows the password: %v", step.words, err)
		}
	}
	user, err := store.UserByEmail(t.Context(), "ada@example.com")
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{"another secret": true, secret: false} {
		if got, err := user.PasswordHash.Matches(password); err != nil || got != want {
			t.Errorf("the user's password is %q: %v, %v; want %v", password, got, err, want)
		}
	}
}

func TestWhatIsNotUnderstood(t *testing.T) {
	for _, words := range []string{"", "nonsense", "migrate now", "user", "user add", "user add a b c", "user add a@example.com --root", "verify --simulator", "verify --plivo", "healthcheck"} {
		if _, err := call(t, secret, words); !errors.Is(err, errUsage) {
			t.Errorf("postcard %s = %v, want the usage", words, err)
		}
	}
}

func TestADatabaseThatIsNotGiven(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	if _, err := call(t, "", "verify"); err == nil || !strings.Contains(err.Error(), "DATABASE_URL is missing") {
		t.Errorf("postcard verify = %v, want the missing variable named", err)
	}
}

func TestHealthcheck(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	if _, err := call(t, "", "healthcheck "+server.URL); err != nil {
		t.Errorf("healthcheck of what is healthy: %v", err)
	}
	status = http.StatusServiceUnavailable
	if _, err := call(t, "", "healthcheck "+server.URL); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("healthcheck of what is not: %v", err)
	}
	server.Close()
	if _, err := call(t, "", "healthcheck "+server.URL); err == nil {
		t.Error("healthcheck of nothing at all succeeds")
	}
}

// books is a database beside a simulator.
type books struct {
	t     *testing.T
	store *postgres.Store
	sim   *plivosim.Simulator
	plivo *plivo.Client
	url   string
	owner uuid.UUID
	sent  int
}

func newBooks(t *testing.T) *books {
	t.Helper()
	b := &books{t: t, store: database(t)}
	b.sim = plivosim.New(plivosim.Config{AuthID: "MATESTTESTTESTTEST01", AuthToken: "token", TimeScale: 0.001})
	server := httptest.NewServer(b.sim)
	t.Cleanup(server.Close)
	t.Cleanup(b.sim.Close)
	b.url = server.URL
	for name, value := range map[string]string{
		"PLIVO_AUTH_ID": "MATESTTESTTESTTEST01", "PLIVO_AUTH_TOKEN": "token", "PLIVO_SENDER_NUMBER": sender, "PLIVO_BASE_URL": server.URL,
	} {
		t.Setenv(name, value)
	}
	var err error
	if b.plivo, err = plivo.New(plivo.Options{AuthID: "MATESTTESTTESTTEST01", AuthToken: "token", BaseURL: server.URL, MaxConns: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, secret, "user add ada@example.com"); err != nil {
		t.Fatal(err)
	}
	user, err := b.store.UserByEmail(t.Context(), "ada@example.com")
	if err != nil {
		t.Fatal(err)
	}
	b.owner = user.ID
	if err := b.store.SetRateLimit(t.Context(), sender, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// send does a worker's work on one new message, and returns the verdict before
// it is recorded.
func (b *books) send() (mms.AttemptRef, mms.Verdict) {
	b.t.Helper()
	b.sent++
	m, err := b.store.CreateMessage(b.t.Context(), mms.CreateRequest{Message: mms.Message{
		ID: uuid.Must(uuid.NewV7()), Owner: b.owner, Sender: sender, Recipient: mms.PhoneNumber(fmt.Sprintf("+1416555%04d", b.sent)),
		Text: "Hi", MediaURLs: []string{"https://example.com/a.jpg"}, ValidFor: time.Hour, Priority: mms.Normal,
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	token := strings.Repeat("t", 40) + fmt.Sprint(b.sent)
	claim, claimed, err := b.store.Claim(b.t.Context(), m.ID, token, mms.ListSkew)
	if err != nil || !claimed {
		b.t.Fatalf("claiming: %v, %v", claimed, err)
	}
	answer := b.plivo.Send(b.t.Context(), mms.Submission{
		Sender: claim.Sender, Recipient: claim.Recipient, Text: claim.Text, MediaURLs: claim.MediaURLs,
		CallbackURL: "http://127.0.0.1:1/" + token, MayWrite: func() bool { return true },
	})
	return claim.AttemptRef, mms.Judge(answer)
}

func (b *books) submit(ref mms.AttemptRef, v mms.Verdict) {
	b.t.Helper()
	if got, err := b.store.RecordSubmitted(b.t.Context(), ref, v, mms.EventSubmitted); err != nil || got != mms.Adopted {
		b.t.Fatalf("submitting: %v, %v", got, err)
	}
}

func (b *books) verify(words string) (string, error) { return call(b.t, "", "verify "+words) }

func TestVerifyHoldsTheBooksAgainstEachOther(t *testing.T) {
	b := newBooks(t)
	b.submit(b.send())
	b.submit(b.send())
	for _, words := range []string{"", "--simulator " + b.url, "--plivo 1h"} {
		if out, err := b.verify(words); err != nil || !strings.Contains(out, "All promises are kept") {
			t.Errorf("verify %s on books that agree: %v\n%s", words, err, out)
		}
	}
	if _, err := b.verify("--plivo yesterday"); err == nil || !strings.Contains(err.Error(), "24h") {
		t.Errorf("verify --plivo yesterday = %v, want an example of what is right", err)
	}
}

// TestVerifyFindsWhatIsWrong makes one entry wrong at a time.
func TestVerifyFindsWhatIsWrong(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*books)
		words string
		finds string
	}{
		"a double that nobody noticed": {func(b *books) { b.submit(b.send()); b.plivoOnly() }, "--simulator", "without an attempt of ours"},
		"taken for refused, but there": {func(b *books) {
			ref, v := b.send()
			v.Outcome = mms.PermanentFailure
			if _, err := b.store.RecordPermanentFailure(b.t.Context(), ref, v, mms.ReasonRejected); err != nil {
				b.t.Fatal(err)
			}
		}, "--simulator", "taken for not accepted"},
		"taken for accepted, but not there": {func(b *books) {
			ref, v := b.send()
			v.PlivoUUID = "00000000-0000-0000-0000-000000000000"
			b.submit(ref, v)
		}, "--simulator", "taken for accepted"},
		"accepted an hour ago, and not listed": {func(b *books) {
			ref, v := b.send()
			v.PlivoUUID = "00000000-0000-0000-0000-000000000000"
			b.submit(ref, v)
			b.exec(`UPDATE attempts SET started_at = started_at - interval '1 hour'`)
		}, "--plivo 2h", "not listed by Plivo"},
		"an event that was never written": {func(b *books) { b.submit(b.send()); b.exec(`UPDATE messages SET version = version + 1`) }, "", "events are not complete"},
		"a message nobody looks after": {func(b *books) {
			b.send()
			b.exec(`UPDATE attempts SET lease_until = now() - interval '1 hour'`)
		}, "", "sent by nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t)
			tt.spoil(b)
			words := strings.Replace(tt.words, "--simulator", "--simulator "+b.url, 1)
			out, err := b.verify(words)
			if err == nil || !strings.Contains(out, tt.finds) || !brokenLine(out, tt.finds) {
				t.Errorf("verify %s = %v, want %q marked as broken:\n%s", words, err, tt.finds, out)
			}
		})
	}
}

func brokenLine(out, finds string) bool {
	for line := range strings.Lines(out) {
		if strings.Contains(line, finds) && strings.Contains(line, "BROKEN") {
			return true
		}
	}
	return false
}

// plivoOnly sends past Postcard.
func (b *books) plivoOnly() {
	b.t.Helper()
	answer := b.plivo.Send(context.WithoutCancel(b.t.Context()), mms.Submission{
		Sender: sender, Recipient: "+14165559999", Text: "Hi", MediaURLs: []string{"https://example.com/a.jpg"},
		CallbackURL: "http://127.0.0.1:1/nobody", MayWrite: func() bool { return true },
	})
	if mms.Judge(answer).Outcome != mms.Accepted {
		b.t.Fatalf("sending past Postcard: %+v", answer)
	}
}

func (b *books) exec(statement string) {
	b.t.Helper()
	if _, err := b.store.DB().ExecContext(b.t.Context(), statement); err != nil {
		b.t.Fatal(err)
	}
}

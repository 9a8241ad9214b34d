package e2e

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestStreamEndsWithAccess opens streams at one api process, by an API key and by
// sessions, and revokes their access at another.
func TestStreamEndsWithAccess(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, here := r.api()
	_, there := r.api()
	c := readContract(t, here)
	ada, bob := c.person("ada.lovelace@example.com"), c.person("bob@example.com")
	created := ada.want(http.StatusCreated, "POST", "/api/keys", `{"name":"lost","scopes":["read"]}`)
	key := c.user(fmt.Sprint(created["secret"]))
	byKey, bySession, other := key.openStream(there), ada.openStream(there), bob.openStream(there)

	ada.want(http.StatusNoContent, "DELETE", "/api/keys/"+fmt.Sprint(created["id"]), "")
	byKey.wantClosed("of a revoked key")
	bySession.wantClosed("of the key's user, who may reconnect")
	key.url = there
	if status, _, _ := key.do("GET", "/api/messages", ""); status != http.StatusUnauthorized {
		t.Errorf("list with the revoked key: got %d, want 401", status)
	}
	bySession = ada.openStream(there)
	ada.want(http.StatusNoContent, "POST", "/api/logout", "")
	bySession.wantClosed("of a session that logged out")
	other.wantOpen()
}

// stream is an open event stream.
type stream struct {
	t      *testing.T
	closed chan struct{}
}

// openStream opens a stream at an api, as this user.
func (u *user) openStream(api string) *stream {
	u.t.Helper()
	ctx, cancel := context.WithCancel(u.t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/api/messages/stream", nil)
	if err != nil {
		u.t.Fatal(err)
	}
	if u.key != "" {
		request.Header.Set("Authorization", "Bearer "+u.key)
	}
	response, err := (&http.Client{Jar: u.http.Jar}).Do(request) //nolint:bodyclose // the cleanup closes it
	if err != nil {
		u.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		u.t.Fatalf("opening a stream: %s", response.Status)
	}
	s := &stream{t: u.t, closed: make(chan struct{})}
	go func() {
		defer close(s.closed)
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		}
	}()
	u.t.Cleanup(func() { cancel(); <-s.closed; response.Body.Close() })
	return s
}

func (s *stream) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

func (s *stream) wantClosed(name string) {
	s.t.Helper()
	testkit.Eventually(s.t, "the stream "+name+" is closed", s.isClosed)
}

func (s *stream) wantOpen() {
	s.t.Helper()
	if s.isClosed() {
		s.t.Error("the other user's stream was closed")
	}
}

// TestStoppingWorkerNotifies stops a worker during a call to Plivo: the resulting
// status change is notified like every other.
func TestStoppingWorkerNotifies(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	changes, err := postgres.Listen(t.Context(), r.database, postgres.MessageChangesChannel, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.StallBeforeHeaders}); err != nil {
		t.Fatal(err)
	}
	m := r.createTo("+14165551000")
	// A listener reads the message on each notification and must see each status.
	await := func(status mms.Status) {
		t.Helper()
		testkit.Eventually(t, string(status)+" is notified", func() bool {
			select {
			case ids := <-changes:
				return strings.Contains(ids, m.ID.String()) && r.count(`SELECT count(*) FROM messages WHERE status = $1`, status) == 1
			default:
				return false
			}
		})
	}
	await(mms.Queued)
	worker := r.worker("")
	await(mms.Sending)
	worker.signal(syscall.SIGTERM)
	await(mms.InDoubt)
	testkit.Eventually(t, "the worker has exited", worker.hasExited)
}

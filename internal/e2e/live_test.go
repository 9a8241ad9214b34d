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

// TestAStreamEndsWithItsAccess follows at one api process by two keys and a session,
// which are ended at another.
func TestAStreamEndsWithItsAccess(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, here := r.api()
	_, there := r.api()
	c := readContract(t, here)
	ada, bob := c.person("ada.lovelace@example.com"), c.person("bob@example.com")
	made := ada.want(http.StatusCreated, "POST", "/api/keys", `{"name":"lost","scopes":["read"]}`)
	key := c.user(fmt.Sprint(made["secret"]))
	byKey, bySession, bobs := there+"/api/messages/stream", ada.follow(there), bob.follow(there)
	lost := key.follow(there)

	ada.want(http.StatusNoContent, "DELETE", "/api/keys/"+fmt.Sprint(made["id"]), "")
	lost.wantEnd("by a key that was revoked")
	bySession.wantEnd("by the key's user, who may come back")
	key.url = there
	if status, _, _ := key.do("GET", "/api/messages", ""); status != http.StatusUnauthorized {
		t.Errorf("%s with the revoked key: %d", byKey, status)
	}
	bySession = ada.follow(there)
	ada.want(http.StatusNoContent, "POST", "/api/logout", "")
	bySession.wantEnd("by a session that was ended")
	bobs.wantOpen()
}

// followed is a stream that somebody reads.
type followed struct {
	t     *testing.T
	ended chan struct{}
}

// follow opens a stream at an api, as this user.
func (u *user) follow(api string) *followed {
	u.t.Helper()
	ctx, cancel := context.WithCancel(u.t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/api/messages/stream", nil)
	if err != nil {
		u.t.Fatal(err)
	}
	if u.key != "" {
		request.Header.Set("Authorization", "Bearer "+u.key)
	}
	response, err := (&http.Client{Jar: u.http.Jar}).Do(request)
	if err != nil {
		u.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		u.t.Fatalf("opening a stream: %s", response.Status)
	}
	f := &followed{t: u.t, ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		}
	}()
	u.t.Cleanup(func() { cancel(); <-f.ended; response.Body.Close() })
	return f
}

func (f *followed) over() bool {
	select {
	case <-f.ended:
		return true
	default:
		return false
	}
}

func (f *followed) wantEnd(whose string) {
	f.t.Helper()
	testkit.Eventually(f.t, "the stream "+whose+" ends", f.over)
}

func (f *followed) wantOpen() {
	f.t.Helper()
	if f.over() {
		f.t.Error("the stream of somebody else has ended")
	}
}

// TestWhatAStoppingWorkerDoesIsNews sends a worker away in the middle of a call: what
// becomes of it is announced like everything before.
func TestWhatAStoppingWorkerDoesIsNews(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	heard, err := postgres.Listen(t.Context(), r.database, postgres.MessageChangesChannel, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.StallBeforeHeaders}); err != nil {
		t.Fatal(err)
	}
	m := r.acceptTo("+14165551000")
	// Whoever is told reads the message, and shall come to know each status.
	await := func(status mms.Status) {
		t.Helper()
		testkit.Eventually(t, string(status)+" is announced", func() bool {
			select {
			case ids := <-heard:
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
	testkit.Eventually(t, "the worker ends", worker.hasEnded)
}

//go:build soak

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// movedClock is the environment variable with the seconds by which the clock of a program
// with a movable clock is ahead.
const movedClock = "POSTCARD_TEST_CLOCK_AHEAD"

// movableClock is a file that is added to the standard library's package time.
const movableClock = `package time

import "syscall"

// clockAhead is how many seconds this program's clock is ahead.
var clockAhead = func() int64 {
	value, _ := syscall.Getenv("` + movedClock + `")
	seconds, sign := int64(0), int64(1)
	for _, c := range value {
		if c == '-' {
			sign = -1
			continue
		}
		seconds = 10*seconds + int64(c-'0')
	}
	return sign * seconds
}()
`

// movableBinaries builds the programs with a movable clock. Preloaded libraries do not
// move the clock of a Go program, so the standard library is built with another time.Now,
// which the programs' modules use too.
var movableBinaries = sync.OnceValues(func() (string, error) {
	base, err := binaries()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, "movable")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("finding the standard library: %w", err)
	}
	timeDir := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(timeDir, "time.go"))
	if err != nil {
		return "", err
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if !strings.Contains(string(source), now) {
		return "", fmt.Errorf("time.Now of this Go does not begin as expected: adapt movableBinaries")
	}
	moved := strings.Replace(string(source), now, now+"\tsec += clockAhead\n", 1)
	replace := map[string]string{}
	for name, content := range map[string]string{"time.go": moved, "movable.go": movableClock} {
		replace[filepath.Join(timeDir, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-overlay", overlayFile, "-tags", "failpoints", "-ldflags=-s -w", "-o", dir, "github.com/postcard-mms/postcard/cmd/api", "github.com/postcard-mms/postcard/cmd/worker").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the programs with a movable clock: %w\n%s", err, out)
	}
	return dir, nil
})

// newMovableRig is newRig with programs whose clocks ahead moves.
func newMovableRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, plivosim.Config{})
	r.build = movableBinaries
	return r
}

// ahead is the environment of a program whose clock is ahead by some seconds.
func ahead(seconds int) string { return fmt.Sprintf("%s=%d", movedClock, seconds) }

// TestWorkerWithWrongClock has a worker whose clock is wrong schedule retries in Redis, by
// its clock. When it has gone, another worker must send the messages when they are due by
// the database's clock.
func TestWorkerWithWrongClock(t *testing.T) {
	for name, seconds := range map[string]int{"ahead": hour, "behind": -hour} {
		t.Run(name, func(t *testing.T) {
			r := newMovableRig(t)
			messages := r.rejectOnce(func() *process { return r.worker("", ahead(seconds)) })
			r.worker("")
			r.wantAllDelivered(messages)
			if n := r.count(`SELECT max(attempts) FROM messages`); n > 2 {
				t.Errorf("got a message with %d attempts, want 2: a retry must wait until it is due", n)
			}
		})
	}
}

// TestWorkersWithDifferentClocks has three workers whose clocks are an hour apart share
// the queue, while Plivo rejects some calls.
func TestWorkersWithDifferentClocks(t *testing.T) {
	r := newMovableRig(t)
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.RateLimitedNoHint, Probability: 0.2}); err != nil {
		t.Fatal(err)
	}
	r.worker("", ahead(hour)).awaitLog("worker started")
	r.worker("", ahead(-hour)).awaitLog("worker started")
	r.worker("").awaitLog("worker started")
	r.wantAllDelivered(r.create(200))
}

// TestAPIWithWrongClock creates a message through an api whose clock is wrong, now and
// later, twice with one key, and lists it by time.
func TestAPIWithWrongClock(t *testing.T) {
	for name, seconds := range map[string]int{"ahead": hour, "behind": -hour} {
		t.Run(name, func(t *testing.T) {
			r := newMovableRig(t)
			_, url := r.api(ahead(seconds))
			c := loggedIn(t, url)
			now, err := r.store.Now(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			later := now.Add(5 * time.Second).UTC().Format(time.RFC3339)
			for _, body := range []string{greeting, `{"to":"+14165551001","mediaUrl":"https://example.com/a.jpg","sendAt":"` + later + `"}`} {
				if status, text, err := c.post("/api/send-mms", body); err != nil || status != http.StatusAccepted {
					t.Errorf("got %d %s (error %v), want 202", status, text, err)
				}
			}
			since := now.Add(-time.Minute).UTC().Format(time.RFC3339)
			until := now.Add(time.Minute).UTC().Format(time.RFC3339)
			response, err := c.http.Get(url + "/api/messages?since=" + since + "&until=" + until)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			var page struct{ Messages []struct{ ID string } }
			if err := json.NewDecoder(response.Body).Decode(&page); err != nil || len(page.Messages) != 2 {
				t.Errorf("got %d messages of the last minute (error %v), want 2", len(page.Messages), err)
			}
			r.worker("")
			r.awaitFinal()
			r.verify(2)
			if n := r.count(`SELECT count(*) FROM messages WHERE status = 'delivered'`); n != 2 {
				t.Errorf("got %d messages delivered, want 2", n)
			}
			var valid time.Duration
			if err := r.store.DB().QueryRow(`SELECT (extract(epoch FROM max(expiry) - now()) * 1e9)::bigint FROM sessions`).Scan(&valid); err != nil || (valid-14*24*time.Hour).Abs() > 10*time.Minute {
				t.Errorf("got a session that is valid for %v (error %v), want 14 days", valid, err)
			}
		})
	}
}

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// endpoint is a user's webhook endpoint that can be made to stall.
type endpoint struct {
	webhook  webhook.Endpoint
	stalling atomic.Bool
	answered atomic.Int32
	stalled  atomic.Int32 // calls that were made to wait
	given    atomic.Int32 // stalled calls that the caller gave up
}

// endpointOf adds a webhook of a new user, whose endpoint runs until the test ends.
func (r *rig) endpointOf(email string) *endpoint {
	r.t.Helper()
	user := identity.User{ID: uuid.Must(uuid.NewV7()), Email: email, Role: identity.RoleUser, PasswordHash: identity.PasswordHash(strings.Repeat("x", 60))}
	if err := r.store.CreateUser(r.t.Context(), user); err != nil {
		r.t.Fatal(err)
	}
	e := &endpoint{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body) // otherwise the server does not notice that the caller gives up
		if !e.stalling.Load() {
			e.answered.Add(1)
			return
		}
		e.stalled.Add(1)
		<-q.Context().Done()
		e.given.Add(1)
	}))
	r.t.Cleanup(server.Close)
	r.t.Cleanup(server.CloseClientConnections)
	var err error
	if e.webhook, _, err = webhook.Create(r.t.Context(), r.store, user.ID, webhook.Params{URL: server.URL}, true); err != nil {
		r.t.Fatal(err)
	}
	return e
}

// addEvents adds n pending events to the webhook.
func (r *rig) addEvents(e *endpoint, n int) {
	r.t.Helper()
	if _, err := r.store.DB().Exec(`INSERT INTO webhook_events (webhook_id) SELECT $1 FROM generate_series(1, $2)`, e.webhook.ID, n); err != nil {
		r.t.Fatal(err)
	}
}

// TestStalledWebhooksDelayNobodyElse has users whose endpoints stall, each with hundreds
// of events, and one whose endpoint answers. Its events must arrive before the first of
// the stalled calls has ended.
func TestStalledWebhooksDelayNobodyElse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		workers, bad   int
		answeredBefore int // events that each bad endpoint answers before it stalls
	}{
		"endpoints that have always stalled":              {1, 6, 0},
		"endpoints that have always stalled, two workers": {2, 6, 0},
		"endpoints that turn bad at once":                 {1, 6, 12},
		"endpoints that turn bad at once, two workers":    {2, 6, 12},
		"many endpoints that turn bad at once":            {1, 30, 12},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plivosim.Config{})
			healthy := r.endpointOf("healthy@example.com")
			var bad []*endpoint
			for i := range tt.bad {
				bad = append(bad, r.endpointOf(fmt.Sprintf("bad%d@example.com", i)))
			}
			for range tt.workers {
				r.worker("", "ALLOW_PRIVATE_WEBHOOKS=true")
			}
			for _, e := range bad {
				r.addEvents(e, tt.answeredBefore)
			}
			testkit.Eventually(t, "the endpoints have answered", func() bool {
				return r.count(`SELECT count(*) FROM webhook_events WHERE state = 'pending'`) == 0
			})
			for _, e := range bad {
				e.stalling.Store(true)
				r.addEvents(e, 500)
			}
			testkit.Eventually(t, "every bad endpoint stalls", func() bool {
				for _, e := range bad {
					if e.stalled.Load() == 0 {
						return false
					}
				}
				return true
			})
			const events = 100
			r.addEvents(healthy, events)
			testkit.EventuallyWithin(t, drainTimeout, "the healthy endpoint has its events", func() bool { return healthy.answered.Load() >= events })
			for i, e := range bad {
				if n := e.given.Load(); n != 0 {
					t.Errorf("bad endpoint %d: %d of %d calls ended before the healthy endpoint had its events, want 0", i, n, e.stalled.Load())
				}
			}
		})
	}
}

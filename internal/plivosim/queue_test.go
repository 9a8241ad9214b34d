package plivosim_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

func TestQueueIsFIFO(t *testing.T) {
	t.Parallel()
	const interval = 20 * time.Millisecond
	b := start(t, func(c *plivosim.Config) { c.AccountRate = 0.05 })
	for i := range 5 {
		b.send(params(fmt.Sprintf("1415555010%d", i)))
	}
	var all []plivosim.Entry
	eventually(t, "the end of all", func() bool {
		all = b.sim.Ledger()
		return !slices.ContainsFunc(all, func(e plivosim.Entry) bool { return e.State != plivosim.StateDelivered })
	})
	// A busy machine may delay any of them, so only the earliest time of each is certain.
	for i, e := range all {
		sent := e.History[1].At
		if wait := sent.Sub(all[0].AcceptedAt); wait < time.Duration(i)*interval {
			t.Errorf("message %d of the queue was sent after %v, before its turn", i, wait)
		}
	}
}

// The first message leaves the queue immediately; the next would wait 100 s, longer than
// the expiry of some.
func TestQueuedMessageExpires(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*plivosim.Config){
		"account": func(c *plivosim.Config) { c.AccountRate = 0.01 },
		"number":  func(c *plivosim.Config) { c.NumberRate = 0.01 },
	}
	for name, rate := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := newClock()
			b := start(t, rate, func(c *plivosim.Config) { c.Now = clock.now })
			b.send(params(plain))
			b.send(params(plain, map[string]any{"message_expiry": 99}))
			b.send(params(plain, map[string]any{"message_expiry": 101}))
			eventually(t, "the end of all", func() bool {
				for _, e := range b.sim.Ledger() {
					if e.State == plivosim.StateQueued || e.State == plivosim.StateSent {
						return false
					}
				}
				return true
			})
			var got []string
			for _, e := range b.sim.Ledger() {
				got = append(got, string(e.State)+e.ErrorCode)
			}
			if diff := cmp.Diff([]string{"delivered", "failed420", "delivered"}, got); diff != "" {
				t.Errorf("mismatch (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNumbersHaveSeparateQueues(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) { c.NumberRate = 1e-6 })
	b.send(params(plain))
	b.send(params(plain, map[string]any{"src": "14155550198"}))
	eventually(t, "both", func() bool {
		all := b.sim.Ledger()
		return all[0].State == plivosim.StateDelivered && all[1].State == plivosim.StateDelivered
	})
}

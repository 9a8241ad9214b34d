package plivosim_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

func TestQueueIsFIFO(t *testing.T) {
	t.Parallel()
	b, h := start(t, func(c *plivosim.Config) { c.AccountRate = 0.05 }), listen(t) // one in 20 ms
	var want []string
	for i := range 5 {
		to := fmt.Sprintf("1415555010%d", i)
		b.send(params(to, h.url()))
		want = append(want, to)
	}
	h.waitFor(t, 15)
	var sent []string
	for _, c := range h.all() {
		if c.fields.Get("Status") == "sent" {
			sent = append(sent, c.fields.Get("To"))
		}
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
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

package plivosim_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) { c.MaxConcurrent = -1 })
	h := listen(t)
	const senders, each = 10, 5
	var work sync.WaitGroup
	for range senders {
		work.Go(func() {
			for range each {
				b.send(params(plain, h.url()))
				b.sim.Ledger()
				b.sim.Requests()
				_ = b.sim.SetFault(plivosim.Fault{Scenario: plivosim.CallbacksDuplicated, Count: 1})
				b.listed("")
			}
		})
	}
	work.Wait()
	eventually(t, "delivery of all", func() bool {
		delivered := 0
		for _, e := range b.sim.Ledger() {
			if e.State == plivosim.StateDelivered {
				delivered++
			}
		}
		return delivered == senders*each
	})
}

func TestLedgerReturnsCopy(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.send(params(plain))
	mine := b.sim.Ledger()[0]
	mine.MediaURLs[0], mine.History[0].State = "changed", "changed"
	if again := b.sim.Ledger()[0]; again.MediaURLs[0] == "changed" || again.History[0].State == "changed" {
		t.Errorf("got changed ledger %+v", again)
	}
}

func TestLogsContainNoPersonalData(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer // read after Close, when nobody writes
	b := start(t, func(c *plivosim.Config) { c.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
	h := listen(t)
	b.send(params(plain, h.url()))
	b.send(params("14155550120", h.url()))
	eventually(t, "callbacks on record", func() bool { return len(b.sim.Ledger()[0].Callbacks) == 3 })
	b.sim.Close()
	b.server.Close()
	if !strings.Contains(out.String(), string(plivosim.RefusedDestination)) {
		t.Errorf("the scenario is missing in the log:\n%s", &out)
	}
	for _, secret := range []string{"4155550", "hello", "cat.jpg", "3f1c9b7e", authToken, authID} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("got %q in the log:\n%s", secret, &out)
		}
	}
}

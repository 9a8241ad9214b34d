//go:build soak

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

const (
	soakMessages = 20_000
	soakWorkers  = 3
)

// soakFaults are Plivo's faults during a soak. Unclear answers to messages that were
// not accepted are rare, because each costs calls to the message list, which Plivo
// limits to 20 a minute.
var soakFaults = []plivosim.Fault{
	{Scenario: plivosim.AcceptThenDrop, Probability: 0.01},
	{Scenario: plivosim.AcceptThen500, Probability: 0.01},
	{Scenario: plivosim.AcceptThenCut, Probability: 0.01},
	{Scenario: plivosim.AcceptThenStall, Probability: 0.001},
	{Scenario: plivosim.RateLimitedNoHint, Probability: 0.02},
	{Scenario: plivosim.CallbacksDuplicated, Probability: 0.03},
	{Scenario: plivosim.CallbacksOutOfOrder, Probability: 0.03},
	{Scenario: plivosim.CallbackBeforeResponse, Probability: 0.02},
	{Scenario: plivosim.CallbacksLost, Probability: 0.02},
	{Scenario: plivosim.SignatureV2Only, Probability: 0.02},
	{Scenario: plivosim.DropBeforeAccept, Probability: 0.001},
	{Scenario: plivosim.ServerError, Probability: 0.001},
	{Scenario: plivosim.AcceptThenDropSilently, Probability: 0.0005},
	{Scenario: plivosim.RefusedUnauthorized, Probability: 0.0002},
}

// TestSoak sends many messages while everything breaks at random, then ends all
// faults and compares Postgres with the simulator's ledger.
func TestSoak(t *testing.T) {
	postgres, redis := ownPostgres(t), ownRedis(t)
	seed := soakSeed(t)
	r := newRigOn(t, plivosim.Config{ListRate: -1, Seed: seed}, postgres.URL, redis.URL)
	for _, fault := range soakFaults {
		if err := r.sim.SetFault(fault); err != nil {
			t.Fatal(err)
		}
	}
	var workers []*process
	for range soakWorkers {
		workers = append(workers, r.worker("", "REPORT_WAIT=5s"))
	}
	var created atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		createMany(t, r, &created)
	}()
	breakThings(t, r, seed, workers, done, func(round int) {
		switch round % 6 {
		case 2:
			if err := redisClient(t, r.redis).FlushAll(t.Context()).Err(); err != nil {
				t.Error(err)
			}
		case 4:
			if err := redis.Restart(t.Context(), false); err != nil {
				t.Error(err)
			}
		case 5:
			if err := postgres.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	r.sim.ClearFaults()
	t.Logf("created %d messages; the faults have ended", created.Load())
	testkit.EventuallyWithin(t, 20*time.Minute, "all messages are final", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE final_at IS NULL`) == 0
	})
	if n := r.count(`SELECT count(*) FROM messages`); int64(n) < created.Load() {
		t.Errorf("got %d stored messages, want at least the %d created", n, created.Load())
	}
	doubts := r.count(`SELECT count(DISTINCT message_id) FROM message_events WHERE kind = 'in_doubt'`)
	t.Logf("%d attempts for %d messages, %d in doubt, %d at Plivo", r.count(`SELECT count(*) FROM attempts`),
		r.count(`SELECT count(*) FROM messages`), doubts, len(r.sim.Ledger()))
	r.verify(len(r.sim.Ledger()))
}

// soakSeed returns the seed of the random faults. POSTCARD_SEED repeats a soak, as
// far as the machine's timing allows.
func soakSeed(t *testing.T) uint64 {
	seed := rand.Uint64()
	if given := os.Getenv("POSTCARD_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("POSTCARD_SEED: %v", err)
		}
	}
	t.Logf("POSTCARD_SEED=%d", seed)
	return seed
}

// TestFlushedRedisWithTenThousandMessages expects every task to be back in the queue,
// or processed, within a minute.
func TestFlushedRedisWithTenThousandMessages(t *testing.T) {
	r := newRigOn(t, plivosim.Config{}, ownPostgres(t).URL, ownRedis(t).URL)
	const messages = 10_000
	var group sync.WaitGroup
	for start := range 8 {
		group.Go(func() {
			for n := start; n < messages; n += 8 {
				params := mms.CreateParams{To: fmt.Sprintf("+1416%03d%04d", 212+n/10000, n%10000), MediaURL: "https://example.com/a.jpg"}
				if _, err := r.intake.CreateMessage(t.Context(), mms.Submitter{Workspace: r.workspace}, params); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	redis := redisClient(t, r.redis)
	if n := redis.LLen(t.Context(), "asynq:{messages}:pending").Val(); n != messages {
		t.Fatalf("got %d tasks in the queue, want %d", n, messages)
	}
	if err := redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	flushed := time.Now()
	r.worker("", "REPORT_WAIT=5s")
	testkit.EventuallyWithin(t, time.Minute, "all messages are queued again", func() bool {
		return r.count(`SELECT count(*) FROM messages m WHERE status = 'queued' AND NOT EXISTS (
			SELECT FROM message_events e WHERE e.message_id = m.id AND e.kind = 'requeued')`) == 0
	})
	t.Logf("all queued again %v after Redis was flushed", time.Since(flushed).Round(time.Millisecond))
	testkit.EventuallyWithin(t, 10*time.Minute, "all messages are final", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE final_at IS NULL`) == 0
	})
	r.verify(messages)
}

// createMany creates messages concurrently. It does not retry those that fail while
// the database is down.
func createMany(t *testing.T, r *rig, created *atomic.Int64) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for n := next.Add(1); n <= soakMessages; n = next.Add(1) {
				recipient := fmt.Sprintf("+1416%03d%04d", 212+n/10000, n%10000)
				_, err := r.intake.CreateMessage(t.Context(), mms.Submitter{Workspace: r.workspace}, mms.CreateParams{To: recipient, MediaURL: "https://example.com/a.jpg"})
				if err == nil {
					created.Add(1)
				}
			}
		})
	}
	group.Wait()
}

// breakThings kills workers and breaks servers until the messages are created and
// most are sent, for at least a minute.
func breakThings(t *testing.T, r *rig, seed uint64, workers []*process, created <-chan struct{}, more func(round int)) {
	random := rand.New(rand.NewPCG(seed, 0))
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for round := 0; round < 60; round++ {
		<-ticker.C
		victim := random.IntN(len(workers))
		workers[victim].end()
		workers[victim] = r.worker("", "REPORT_WAIT=5s")
		more(round)
		select {
		case <-created:
			if round > 12 && len(r.sim.Ledger()) > soakMessages*3/4 {
				return
			}
		default:
		}
	}
}

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

// soakFaults are how Plivo misbehaves during a soak, by their probability. What
// is not accepted and gives no clear answer costs questions to Plivo's list,
// of which there are 20 a minute, so it is rare.
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

// TestSoak sends many messages while everything breaks at random, then lets all
// faults end and holds the books against each other.
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
	var accepted atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		acceptMany(t, r, &accepted)
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
	t.Logf("accepted %d messages; the faults are over", accepted.Load())
	testkit.EventuallyWithin(t, 20*time.Minute, "all messages are final", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE final_at IS NULL`) == 0
	})
	if n := r.count(`SELECT count(*) FROM messages`); int64(n) < accepted.Load() {
		t.Errorf("%d messages were accepted, and %d are there", accepted.Load(), n)
	}
	doubts := r.count(`SELECT count(DISTINCT message_id) FROM message_events WHERE kind = 'in_doubt'`)
	t.Logf("%d attempts for %d messages, %d in doubt, %d at Plivo", r.count(`SELECT count(*) FROM attempts`),
		r.count(`SELECT count(*) FROM messages`), doubts, len(r.sim.Ledger()))
	r.verify(len(r.sim.Ledger()))
}

// soakSeed decides which faults come and whom they hit. POSTCARD_SEED plays a
// soak again, as far as the machine's own timing allows.
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

// TestTenThousandQueuedMessagesAndAnEmptiedRedis has all of them back in the
// queue, or past it, within a minute.
func TestTenThousandQueuedMessagesAndAnEmptiedRedis(t *testing.T) {
	r := newRigOn(t, plivosim.Config{}, ownPostgres(t).URL, ownRedis(t).URL)
	const messages = 10_000
	var group sync.WaitGroup
	for side := range 8 {
		group.Go(func() {
			for n := side; n < messages; n += 8 {
				draft := mms.CreateParams{To: fmt.Sprintf("+1416%03d%04d", 200+n/10000, n%10000), MediaURL: "https://example.com/a.jpg"}
				if _, err := r.intake.CreateMessage(t.Context(), mms.Submitter{User: r.owner}, draft); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	redis := redisClient(t, r.redis)
	if n := redis.LLen(t.Context(), "asynq:{messages}:pending").Val(); n != messages {
		t.Fatalf("%d tasks are in the queue, want %d", n, messages)
	}
	if err := redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	emptied := time.Now()
	r.worker("", "REPORT_WAIT=5s")
	testkit.EventuallyWithin(t, time.Minute, "all messages are on their way again", func() bool {
		return r.count(`SELECT count(*) FROM messages m WHERE status = 'queued' AND NOT EXISTS (
			SELECT FROM message_events e WHERE e.message_id = m.id AND e.kind = 'requeued')`) == 0
	})
	t.Logf("all on their way %v after Redis was emptied", time.Since(emptied).Round(time.Millisecond))
	testkit.EventuallyWithin(t, 10*time.Minute, "all messages are final", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE final_at IS NULL`) == 0
	})
	r.verify(messages)
}

// acceptMany takes messages on from several sides. What the store refuses while
// it is away was not accepted, and is given up.
func acceptMany(t *testing.T, r *rig, accepted *atomic.Int64) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for n := next.Add(1); n <= soakMessages; n = next.Add(1) {
				recipient := fmt.Sprintf("+1416%03d%04d", 200+n/10000, n%10000)
				_, err := r.intake.CreateMessage(t.Context(), mms.Submitter{User: r.owner}, mms.CreateParams{To: recipient, MediaURL: "https://example.com/a.jpg"})
				if err == nil {
					accepted.Add(1)
				}
			}
		})
	}
	group.Wait()
}

// breakThings kills workers and breaks servers until the messages are accepted
// and most are sent, at least for a minute.
func breakThings(t *testing.T, r *rig, seed uint64, workers []*process, accepted <-chan struct{}, more func(round int)) {
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
		case <-accepted:
			if round > 12 && len(r.sim.Ledger()) > soakMessages*3/4 {
				return
			}
		default:
		}
	}
}

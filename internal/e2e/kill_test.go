package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/failpoint"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// drainPatience covers a lapsed lease (12 s), the first look for evidence (5 s)
// and the waiting time for it, on a busy machine.
const drainPatience = 90 * time.Second

// TestAKilledWorkerLosesAndDoublesNothing kills a worker at every step of a
// message's way and lets another go on.
func TestAKilledWorkerLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	for _, place := range []string{
		failpoint.WorkerDequeued, failpoint.WorkerClaimed, failpoint.WorkerConnected,
		failpoint.WorkerWritten, failpoint.WorkerAnswered, failpoint.WorkerRecorded,
	} {
		for _, reports := range []plivosim.Scenario{plivosim.Delivered, plivosim.CallbacksLost} {
			if place == failpoint.WorkerRecorded && reports == plivosim.CallbacksLost {
				continue // nothing is in doubt, and only a report would bring the end
			}
			t.Run(place+"/"+string(reports), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, plivosim.Config{})
				if err := r.sim.SetFault(plivosim.Fault{Scenario: reports, Count: 1}); err != nil {
					t.Fatal(err)
				}
				m := r.acceptTo("+14165551000")
				r.worker(place).awaitKilled()
				r.worker("")
				testkit.EventuallyWithin(t, drainPatience, "the message is on its way or done", func() bool {
					return r.count(`SELECT count(*) FROM messages WHERE status IN ('submitted', 'sent', 'delivered')`) == 1
				})
				if reports == plivosim.Delivered {
					r.awaitFinal()
					r.wantStatus(m, mms.Delivered)
				}
				r.verify(1)
			})
		}
	}
}

// TestAStoppedWorkerCanNeitherSendNorOverwrite stops a worker just before it
// writes, until another has sent the message, and lets it go on.
func TestAStoppedWorkerCanNeitherSendNorOverwrite(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	m := r.acceptTo("+14165551000")
	stopped := r.worker(failpoint.WorkerConnected + ":stop")
	testkit.Eventually(t, "the attempt has begun", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE status = 'sending'`) == 1
	})
	r.worker("")
	r.awaitFinal()
	stopped.signal(syscall.SIGCONT)
	stopped.awaitLog("attempt was already resolved")
	r.wantStatus(m, mms.Delivered)
	r.verify(1)
}

func TestAKilledResolverLeavesTheDoubtToAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.AcceptThenDropSilently, Count: 1}); err != nil {
		t.Fatal(err)
	}
	m := r.acceptTo("+14165551000")
	r.worker(failpoint.ReconcilerListed).awaitKilled()
	r.worker("")
	r.awaitFinal()
	r.wantStatus(m, mms.Delivered)
	r.verify(1)
}

func TestAKilledRelayLeavesItsMessagesToAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	messages := r.accept(5)
	if err := redisClient(t, r.redis).FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	r.worker(failpoint.TaskRelayTaken).awaitKilled()
	r.worker("")
	r.awaitFinal()
	for _, m := range messages {
		r.wantStatus(m, mms.Delivered)
	}
	r.verify(len(messages))
}

// TestSIGTERMFinishesWhatIsUnderWay sends a worker away under load.
func TestSIGTERMFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	messages := r.accept(60)
	first := r.worker("")
	testkit.Eventually(t, "some messages are sent", func() bool { return len(r.sim.Ledger()) > 10 })
	first.signal(syscall.SIGTERM)
	testkit.Eventually(t, "the worker has ended", first.hasEnded)
	if n := r.count(`SELECT count(*) FROM messages WHERE status IN ('sending', 'in_doubt')`); n != 0 {
		t.Errorf("%d messages were left in the middle of an attempt", n)
	}
	if code := first.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the worker ended with %d, want 0", code)
	}
	r.worker("")
	r.awaitFinal()
	r.verify(len(messages))
}

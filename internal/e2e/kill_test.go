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

// drainTimeout covers an expired lease (12 s), the first check for evidence (5 s)
// and DOUBT_WAIT, on a busy machine.
const drainTimeout = 90 * time.Second

// TestKilledWorker kills a worker at every step of an attempt. Another worker takes
// over, and the message is neither lost nor duplicated.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	for _, point := range []string{
		failpoint.WorkerDequeued, failpoint.WorkerClaimed, failpoint.WorkerConnected,
		failpoint.WorkerWritten, failpoint.WorkerAnswered, failpoint.WorkerRecorded,
	} {
		for _, reports := range []plivosim.Scenario{plivosim.Delivered, plivosim.CallbacksLost} {
			if point == failpoint.WorkerRecorded && reports == plivosim.CallbacksLost {
				continue // without doubt, only a report makes the message final
			}
			t.Run(point+"/"+string(reports), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, plivosim.Config{})
				if err := r.sim.SetFault(plivosim.Fault{Scenario: reports, Count: 1}); err != nil {
					t.Fatal(err)
				}
				m := r.createTo("+14165551000")
				r.worker(point).awaitKilled()
				r.worker("")
				testkit.EventuallyWithin(t, drainTimeout, "the message is submitted", func() bool {
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

// TestSuspendedWorkerDoesNotSend suspends a worker (SIGSTOP) just before it writes
// its request and continues it after another worker has sent the message.
func TestSuspendedWorkerDoesNotSend(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	m := r.createTo("+14165551000")
	suspended := r.worker(failpoint.WorkerConnected + ":stop")
	testkit.Eventually(t, "the attempt has started", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE status = 'sending'`) == 1
	})
	r.worker("")
	r.awaitFinal()
	suspended.signal(syscall.SIGCONT)
	suspended.awaitLog("attempt was already resolved")
	r.wantStatus(m, mms.Delivered)
	r.verify(1)
}

func TestKilledReconciler(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.AcceptThenDropSilently, Count: 1}); err != nil {
		t.Fatal(err)
	}
	m := r.createTo("+14165551000")
	r.worker(failpoint.ReconcilerListed).awaitKilled()
	r.worker("")
	r.awaitFinal()
	r.wantStatus(m, mms.Delivered)
	r.verify(1)
}

func TestKilledTaskRelay(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	messages := r.create(5)
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

// TestSIGTERMFinishesAttempts stops a worker under load.
func TestSIGTERMFinishesAttempts(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	messages := r.create(60)
	first := r.worker("")
	testkit.Eventually(t, "some messages are sent", func() bool { return len(r.sim.Ledger()) > 10 })
	first.signal(syscall.SIGTERM)
	testkit.Eventually(t, "the worker has exited", first.hasExited)
	if n := r.count(`SELECT count(*) FROM messages WHERE status IN ('sending', 'in_doubt')`); n != 0 {
		t.Errorf("got %d messages in an unfinished attempt, want 0", n)
	}
	if code := first.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
	r.worker("")
	r.awaitFinal()
	r.verify(len(messages))
}

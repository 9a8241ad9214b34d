//go:build failpoints

package failpoint

import (
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Variable is the environment variable that selects a failpoint. "worker-claimed"
// kills the process when it reaches that point; "worker-claimed:stop" suspends it there
// (SIGSTOP).
const Variable = "POSTCARD_FAILPOINT"

var stopped atomic.Bool

// stopDelay gives SIGSTOP time to reach all threads. It elapses while the process
// is stopped.
const stopDelay = 200 * time.Millisecond

// Hit kills the process with SIGKILL, or stops it with SIGSTOP, if Variable
// selects the failpoint. It stops the process only once.
func Hit(name string) {
	selected, action, _ := strings.Cut(os.Getenv(Variable), ":")
	if selected != name {
		return
	}
	signal := syscall.SIGKILL
	if action == "stop" {
		if !stopped.CompareAndSwap(false, true) {
			return
		}
		signal = syscall.SIGSTOP
	}
	_ = syscall.Kill(os.Getpid(), signal)
	if signal == syscall.SIGKILL {
		select {} // do nothing until the signal arrives
	}
	time.Sleep(stopDelay)
}

//go:build failpoints

package failpoint

import (
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Variable names the place where the process is to end, as a value like
// "worker-claimed", or to be stopped, as a value like "worker-claimed:stop".
const Variable = "POSTCARD_FAILPOINT"

var stopped atomic.Bool

// stopTime is what a stop may take to reach all threads; the clock runs on
// while the process is stopped.
const stopTime = 200 * time.Millisecond

// Hit ends or stops the process, as kill -9 and kill -STOP do, when it is at
// the place that the environment names. It is stopped once only.
func Hit(place string) {
	wanted, how, _ := strings.Cut(os.Getenv(Variable), ":")
	if wanted != place {
		return
	}
	signal := syscall.SIGKILL
	if how == "stop" {
		if !stopped.CompareAndSwap(false, true) {
			return
		}
		signal = syscall.SIGSTOP
	}
	_ = syscall.Kill(os.Getpid(), signal)
	if signal == syscall.SIGKILL {
		select {} // the signal is on its way; nothing may happen before it arrives
	}
	time.Sleep(stopTime)
}

package devstack

import (
	"runtime"
	"sync"
	"syscall"
)

// dieWithParent makes the kernel kill the child when the thread that started it
// ends; see onStableThread.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// starter is a thread that lives as long as the process: the death signal of
// Linux follows the starting thread, and Go ends threads as it likes.
var starter = sync.OnceValue(func() chan func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func onStableThread(f func() error) error {
	result := make(chan error)
	starter() <- func() { result <- f() }
	return <-result
}

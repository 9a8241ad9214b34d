package devstack

import (
	"runtime"
	"sync"
	"syscall"
)

// dieWithParent makes the kernel kill the child when the thread that started it
// exits; see onStableThread.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// starter is a thread that lives as long as the process. Linux sends the parent
// death signal when the starting thread exits, and Go exits threads at will.
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

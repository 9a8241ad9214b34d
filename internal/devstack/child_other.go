//go:build !linux

package devstack

import "syscall"

// dieWithParent does nothing: this kernel has no parent death signal. The next
// start finds and stops a server that outlived a killed launcher.
func dieWithParent(*syscall.SysProcAttr) {}

func onStableThread(f func() error) error { return f() }

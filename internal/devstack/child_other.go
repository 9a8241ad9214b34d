//go:build !linux

package devstack

import "syscall"

// dieWithParent does nothing where the kernel offers nothing: a server that
// outlives a killed launcher is found and stopped at the next start.
func dieWithParent(*syscall.SysProcAttr) {}

func onStableThread(f func() error) error { return f() }

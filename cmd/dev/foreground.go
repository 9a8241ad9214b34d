package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// takeForeground moves the process into a process group of its own and makes it
// the terminal's foreground group, as a shell does with a job. Ctrl-C then
// reaches dev alone: make, which would exit with an error when interrupted,
// waits for dev and exits with dev's status. The returned function gives the
// terminal back. Without a terminal, or in a group of its own already, it does
// nothing.
func takeForeground() (restore func()) {
	terminal := int(os.Stdin.Fd())
	group := syscall.Getpgrp()
	foreground, err := unix.IoctlGetInt(terminal, unix.TIOCGPGRP)
	if err != nil || foreground != group || group == os.Getpid() {
		return func() {}
	}
	if err := syscall.Setpgid(0, 0); err != nil {
		return func() {}
	}
	// SIGTTOU would stop a background group that changes the foreground one.
	// Ctrl-Z would suspend dev but not make, so no shell would take over the
	// terminal.
	signal.Ignore(syscall.SIGTTOU, syscall.SIGTSTP)
	set := func(group int) { _ = unix.IoctlSetPointerInt(terminal, unix.TIOCSPGRP, group) }
	set(os.Getpid())
	return func() { set(group) }
}

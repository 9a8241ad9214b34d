package postgres

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setUserTimeout ends a connection whose data is not acknowledged for userTimeout.
// Keepalive does not notice that: it is silent while data is unacknowledged, which the
// kernel repeats for a quarter of an hour.
func setUserTimeout(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		// A Unix socket has no such option and needs none.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}

package devstack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock reserves a state directory for this process. The kernel releases the lock
// when the process exits, even if it is killed.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the state directory: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		file.Close()
		return nil, fmt.Errorf("another Postcard is running from %s; stop it first", filepath.Dir(path))
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("locking the state directory: %w", err)
	}
	return func() { file.Close() }, nil
}

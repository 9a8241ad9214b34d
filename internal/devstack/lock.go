package devstack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock takes a state folder for this process. The kernel lets go of it when the
// process ends, however it ends.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("taking the state folder: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		file.Close()
		return nil, fmt.Errorf("another Postcard runs from %s; stop it first", filepath.Dir(path))
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("taking the state folder: %w", err)
	}
	return func() { file.Close() }, nil
}

// Package devstack finds, installs or starts what development and tests need:
// Postgres, PgBouncer, Redis, Chromium and a C compiler. The api and the worker must not
// link it, and it must not import other packages of the project.
package devstack

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// readyTimeout limits the wait for a server that has just been started.
const readyTimeout = time.Minute

// The ports that FreePort chooses from. They are below the range from which Linux
// and macOS give ports to outgoing connections, so that such a connection does not
// take one before the caller listens.
const (
	firstPort = 20000
	lastPort  = 32000
)

// handedOut are the ports that FreePort has returned. On a busy machine it takes seconds until
// the program that gets one listens.
var handedOut sync.Map

// FreePort returns a random free TCP port of the loopback interface, which it returns only
// once. Another process may still take it before the caller listens.
func FreePort() (int, error) {
	var err error
	for range 50 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if _, taken := handedOut.LoadOrStore(port, true); taken {
			continue
		}
		var l net.Listener
		l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("looking for a free port: %w", err)
}

// StateDir returns the directory in which the servers of a project keep their
// data: .postcard in the project. For root it is below /var/lib, because servers
// then run as another user, who may not be able to reach the project.
func StateDir(projectDir string) (string, error) {
	if os.Geteuid() != 0 {
		return filepath.Join(projectDir, ".postcard"), nil
	}
	absolute, err := filepath.Abs(projectDir)
	if err != nil {
		return "", fmt.Errorf("finding the project's directory: %w", err)
	}
	sum := sha256.Sum256([]byte(absolute))
	return fmt.Sprintf("/var/lib/postcard-dev/%x", sum[:4]), nil
}

// TempStateDir creates a state directory for one run. The caller removes it.
func TempStateDir() (string, error) {
	base := ""
	if os.Geteuid() == 0 {
		base = "/var/tmp"
	}
	return makeStateDir(base)
}

// memoryDir is a file system in memory on Linux. Servers of all test packages that
// run at the same time have needed up to 0.4 GiB of it.
const (
	memoryDir     = "/dev/shm"
	minFreeMemory = 2 << 30 // bytes
)

// MemoryStateDir is TempStateDir in memory, if the machine has room there: creating a
// database takes half as long.
func MemoryStateDir() (string, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memoryDir, &fs); err != nil || uint64(fs.Bavail)*uint64(fs.Bsize) < minFreeMemory {
		return TempStateDir()
	}
	return makeStateDir(memoryDir)
}

func makeStateDir(base string) (string, error) {
	dir, err := os.MkdirTemp(base, "postcard-")
	if err != nil {
		return "", fmt.Errorf("creating a temporary directory: %w", err)
	}
	return dir, nil
}

// find returns the path of a program: the first match in the directories (glob
// patterns), else the one on PATH, else "".
func find(name string, dirs ...string) string {
	for _, pattern := range dirs {
		matches, err := filepath.Glob(filepath.Join(pattern, name))
		if err != nil {
			continue
		}
		slices.Sort(matches)
		slices.Reverse(matches) // newest version first
		for _, path := range matches {
			if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 && !info.IsDir() {
				return path
			}
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// programDirs are the directories in which macOS and Linux keep programs that are
// not always on PATH.
var programDirs = []string{"/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "/usr/sbin"}

// FindChromium returns the path of a Chromium or Chrome: CHROME_PATH if set, else
// the first one installed.
func FindChromium() (string, error) {
	if path := os.Getenv("CHROME_PATH"); path != "" {
		return path, nil
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path := find(name, programDirs...); path != "" {
			return path, nil
		}
	}
	for _, path := range []string{
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
		"/Applications/Chromium.app/Contents/MacOS/Chromium",
	} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("Chromium is not installed; " + advice("chromium", "--cask chromium"))
}

// advice returns the command that installs a package.
func advice(apt, brew string) string {
	return fmt.Sprintf("install it with: sudo apt-get install %s   (or: brew install %s)", apt, brew)
}

// await calls ready until it succeeds, ctx ends, or readyTimeout expires.
func await(ctx context.Context, name string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(25 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", name, errors.Join(err, ctx.Err()))
		}
	}
}

// tail returns the last lines of a server's log, for an error message.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// Package devstack finds or starts the servers that Postcard needs, Postgres
// and Redis, on a machine where nothing is prepared. It serves the launcher and
// the tests; the api and the worker must not link it.
package devstack

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// readyTimeout bounds the wait for a server that has just been started.
const readyTimeout = time.Minute

// FreePort returns a port of the loopback interface that nobody listens on at
// the moment. Whoever uses it may find it taken, and asks again.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// StateDir returns the folder in which the servers of a project keep their
// data. Servers of root run as another user, who may not be able to reach the
// project's folder, so root's data lives elsewhere.
func StateDir(projectDir string) (string, error) {
	if os.Geteuid() != 0 {
		return filepath.Join(projectDir, ".postcard"), nil
	}
	absolute, err := filepath.Abs(projectDir)
	if err != nil {
		return "", fmt.Errorf("finding the project's folder: %w", err)
	}
	sum := sha256.Sum256([]byte(absolute))
	return fmt.Sprintf("/var/lib/postcard-dev/%x", sum[:4]), nil
}

// TempStateDir makes a state folder for one run, to be removed by the caller.
func TempStateDir() (string, error) {
	base := ""
	if os.Geteuid() == 0 {
		base = "/var/tmp"
	}
	dir, err := os.MkdirTemp(base, "postcard-")
	if err != nil {
		return "", fmt.Errorf("making a temporary folder: %w", err)
	}
	return dir, nil
}

// find returns the first program of that name in the folders, in their order,
// then on the PATH; "" when there is none.
func find(name string, folders ...string) string {
	for _, pattern := range folders {
		matches, err := filepath.Glob(filepath.Join(pattern, name))
		if err != nil {
			continue
		}
		slices.Sort(matches)
		slices.Reverse(matches) // the newest version first
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

// usualFolders are those in which macOS and Linux keep programs that are not
// always on the PATH.
var usualFolders = []string{"/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "/usr/sbin"}

// FindChromium returns the path of a Chromium or Chrome: CHROME_PATH if set,
// else one in a usual place.
func FindChromium() (string, error) {
	if path := os.Getenv("CHROME_PATH"); path != "" {
		return path, nil
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path := find(name, usualFolders...); path != "" {
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
	return "", errors.New("no Chromium was found; " + advice("chromium", "--cask chromium"))
}

// advice is the command that installs a package.
func advice(apt, brew string) string {
	return fmt.Sprintf("install it with: sudo apt-get install %s   (or: brew install %s)", apt, brew)
}

// await calls ready until it succeeds, ctx ends, or readyTimeout is over.
func await(ctx context.Context, what string, ready func(context.Context) error) error {
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
			return fmt.Errorf("waiting for %s: %w", what, errors.Join(err, ctx.Err()))
		}
	}
}

// tail returns the end of a server's log, for the error of a server that did
// not start.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

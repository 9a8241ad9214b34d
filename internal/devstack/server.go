package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a server running as a child process.
type server struct {
	command *exec.Cmd
	ended   chan struct{} // closed when the process has exited
	logPath string
}

// account is the unprivileged user that servers run as when the launcher is root;
// nil when the launcher itself is unprivileged.
type account struct{ uid, gid int }

// serverAccount returns the account for servers. Postgres refuses to run as root.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			continue
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			continue
		}
		return &account{uid, gid}, nil
	}
	return nil, errors.New("servers cannot run as root, and this machine has neither a user postgres nor a user nobody to run them as")
}

// ownDir creates a directory that belongs to the account.
func (a *account) ownDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("creating the state directory: %w", err)
	}
	if a == nil {
		return nil
	}
	// The account must be able to traverse the parent, which belongs to root.
	if err := os.Chmod(filepath.Dir(path), 0o711); err != nil {
		return fmt.Errorf("making the state directory traversable: %w", err)
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("changing the owner of the state directory: %w", err)
	}
	return nil
}

// writeFile writes a file that only the account may read.
func (a *account) writeFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	if a == nil {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("changing the owner of %s: %w", filepath.Base(path), err)
	}
	return nil
}

// command prepares a program to run as the account, in a process group of its
// own: Ctrl-C must not stop the servers before the processes that use them.
func (a *account) command(dieWithUs bool, path string, args ...string) *exec.Cmd {
	command := exec.Command(path, args...) //nolint:noctx // a server outlives the context of its start
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	if dieWithUs {
		dieWithParent(command.SysProcAttr)
	}
	return command
}

// StartBound starts a program that is killed when this process exits (on Linux
// only; elsewhere it is a plain start).
func StartBound(command *exec.Cmd) error {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	dieWithParent(command.SysProcAttr)
	return onStableThread(command.Start)
}

// launch starts a server and appends its output to the log file.
func launch(command *exec.Cmd, logPath string) (*server, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening a server's log: %w", err)
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	s := &server{command: command, ended: make(chan struct{}), logPath: logPath}
	if err := onStableThread(command.Start); err != nil {
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(command.Path), err)
	}
	go func() {
		_ = command.Wait() // the log says why it exited
		close(s.ended)
	}()
	return s, nil
}

// awaitReady waits until ready succeeds or the server has exited.
func (s *server) awaitReady(ctx context.Context, name string, ready func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := await(ctx, name, ready); err != nil {
		return fmt.Errorf("%w; its log ends:\n%s", err, tail(s.logPath))
	}
	return nil
}

// stop sends the signal and waits for the server to exit. It kills the server when
// ctx ends first.
func (s *server) stop(ctx context.Context, signal syscall.Signal) error {
	if err := s.signal(signal); err != nil {
		return err
	}
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("stopping %s: %w", filepath.Base(s.command.Path), ctx.Err()), s.kill())
	}
}

// kill sends SIGKILL to the server's process group and waits for it to exit.
func (s *server) kill() error {
	err := syscall.Kill(-s.command.Process.Pid, syscall.SIGKILL)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("killing %s: %w", filepath.Base(s.command.Path), err)
	}
	select {
	case <-s.ended:
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("killing %s: the process is still running", filepath.Base(s.command.Path))
	}
}

func (s *server) signal(signal syscall.Signal) error {
	err := s.command.Process.Signal(signal)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signalling %s: %w", filepath.Base(s.command.Path), err)
	}
	return nil
}

// runs reports whether the process with this id is the program with the directory
// in its command line. The id in an old pid file may belong to another process by
// now. It uses ps, which Linux and macOS have.
func runs(ctx context.Context, pid int, program, dir string) bool {
	out, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), program) && strings.Contains(string(out), dir)
}

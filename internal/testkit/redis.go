package testkit

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/devstack"
)

// RedisServer is a redis-server process with a configuration of a test's own.
type RedisServer struct {
	Port int
	Dir  string // its working directory, which has redis.conf and redis.log

	encrypted bool // it speaks TLS
	command   *exec.Cmd
	ended     chan struct{}
}

// StartRedisServer starts redis-server with the lines of a configuration, in which PORT
// stands for its port. It listens on a free port of 127.0.0.1 and keeps no data. The test
// may kill it; otherwise it is killed at the end of the test.
func StartRedisServer(t testing.TB, lines ...string) *RedisServer {
	t.Helper()
	return startRedisServer(t, nil, lines)
}

// StartSentinel is StartRedisServer for Redis Sentinel.
func StartSentinel(t testing.TB, lines ...string) *RedisServer {
	t.Helper()
	return startRedisServer(t, []string{"--sentinel"}, lines)
}

// startRedisServer tries several ports: another process may take the port first, or the
// one 10,000 above it, which a server of a cluster also listens on.
func startRedisServer(t testing.TB, args, lines []string) *RedisServer {
	t.Helper()
	for range 5 {
		s := launchRedisServer(t, args, lines)
		if s.awaitReady(t) {
			return s
		}
	}
	t.Fatal("redis-server exited on each of five ports")
	return nil
}

func launchRedisServer(t testing.TB, args, lines []string) *RedisServer {
	t.Helper()
	port, err := devstack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := &RedisServer{Port: port, Dir: StateDir(t), encrypted: strings.Contains(strings.Join(lines, "\n"), "tls-port"), ended: make(chan struct{})}
	config := filepath.Join(s.Dir, "redis.conf")
	head := []string{"bind 127.0.0.1", "dir " + s.Dir, "logfile " + filepath.Join(s.Dir, "redis.log"), `save ""`, "port PORT"}
	content := strings.ReplaceAll(strings.Join(append(head, lines...), "\n"), "PORT", strconv.Itoa(port))
	if err := os.WriteFile(config, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.command = exec.Command("redis-server", append([]string{config}, args...)...) //nolint:noctx // a cleanup ends it
	if err := devstack.StartBound(s.command); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.command.Wait() // its log says why it exited
		close(s.ended)
	}()
	t.Cleanup(s.Kill)
	return s
}

// awaitReady returns false if the server has exited instead.
func (s *RedisServer) awaitReady(t testing.TB) (ready bool) {
	t.Helper()
	Eventually(t, "Redis answers or has exited", func() bool {
		select {
		case <-s.ended:
			return true
		default:
			ready = s.answers(t.Context())
			return ready
		}
	})
	return ready
}

// answers reports whether the server answers anything. That it accepts a connection is not
// enough: it does so before it listens on its second port, without which it exits.
func (s *RedisServer) answers(ctx context.Context) bool {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return false
	}
	defer c.Close()
	if s.encrypted {
		return tls.Client(c, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) == nil //nolint:gosec // only asks whether it answers
	}
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err == nil
}

// Addr returns the server's host and port.
func (s *RedisServer) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// Kill sends SIGKILL to the server and waits until it has ended.
func (s *RedisServer) Kill() {
	_ = s.command.Process.Kill() // it may have ended
	<-s.ended
}

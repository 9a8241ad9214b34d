package queue

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/testkit"
)

// process runs a command through the hook, which gets the error from Redis.
func (h *health) process(command string, err error) error {
	next := func(context.Context, redis.Cmder) error { return err }
	return h.ProcessHook(next)(context.Background(), redis.NewCmd(context.Background(), command))
}

func TestCommandsAreHeldBackWhileAllFail(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want int // attempts in 10 s of one call per millisecond
	}{
		"wrong password": {redisError("WRONGPASS invalid username-password pair"), 9},
		"loading":        {redisError("LOADING Redis is loading the dataset in memory"), 9},
		"network":        {&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, 9},
		"one command":    {redisError("NOPERM this user has no permissions"), 10_000},
		"the caller's":   {context.DeadlineExceeded, 10_000},
		"no answer":      {redis.Nil, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h, attempts := newHealth(slog.New(slog.DiscardHandler)), 0
				for range 10_000 {
					if err := h.process("evalsha", tt.err); !errors.Is(err, errHeldBack) {
						attempts++
					}
					time.Sleep(time.Millisecond)
				}
				if attempts != tt.want {
					t.Errorf("got %d attempts, want %d", attempts, tt.want)
				}
				time.Sleep(maxPause)
				for range 2 {
					if err := h.process("evalsha", nil); err != nil {
						t.Errorf("after a success: %v", err)
					}
				}
			})
		})
	}
}

// Subscriptions dial without a command.
func TestDialsAreHeldBackWhileAllFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, dials := newHealth(slog.New(slog.DiscardHandler)), 0
		dial := h.DialHook(func(context.Context, string, string) (net.Conn, error) {
			dials++
			return nil, errors.New("connection refused")
		})
		for range 10_000 {
			_, _ = dial(t.Context(), "tcp", "127.0.0.1:1")
			time.Sleep(time.Millisecond)
		}
		if dials != 9 {
			t.Errorf("got %d dials in 10 s, want 9", dials)
		}
	})
}

func TestProblemIsLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := newHealth(slog.New(slog.NewTextHandler(&log, nil)))
		want := func(texts ...string) {
			t.Helper()
			lines := slices.Collect(strings.Lines(log.String()))
			log.Reset()
			if len(lines) != len(texts) {
				t.Fatalf("got %d records, want %d: %v", len(lines), len(texts), lines)
			}
			for i, text := range texts {
				if !strings.Contains(lines[i], text) {
					t.Errorf("got %s, want %s", lines[i], text)
				}
			}
		}
		readOnly := redisError("READONLY You can't write")
		for range 100 {
			_ = h.process("evalsha", redisError("WRONGPASS invalid"))
			time.Sleep(time.Second)
		}
		want("level=ERROR msg=\"Redis rejects the user name or the password")
		_ = h.process("evalsha", nil)
		want("Redis works again")
		for range 10 {
			_ = h.process("evalsha", redisError("NOPERM no permissions to run the 'evalsha' command"))
			_ = h.process("publish", redisError("NOPERM no permissions to run the 'publish' command"))
			_ = h.process("get", nil) // says nothing about the others
			time.Sleep(time.Second)
		}
		want("lacks a permission", "lacks a permission")
		for range 10 { // a script that only reads succeeds in between
			_ = h.process("evalsha", readOnly)
			_ = h.process("evalsha", nil)
			time.Sleep(time.Second)
		}
		want("level=WARN msg=\"Redis is read-only", "Redis works again") // scripts are permitted again
		time.Sleep(quietPeriod)
		_ = h.process("evalsha", nil)
		want("Redis works again")
		if !h.failing() { // publish still lacks its permission
			t.Error("got no problem, want one")
		}
		for range 10 { // comes and goes
			_ = h.process("evalsha", readOnly)
			time.Sleep(quietPeriod)
			_ = h.process("evalsha", nil)
		}
		want()
		time.Sleep(repeatInterval)
		_ = h.process("evalsha", readOnly)
		_ = h.process("set", readOnly) // is not repeated
		want("Redis is read-only")
		time.Sleep(quietPeriod)
		_ = h.process("evalsha", nil)
		_ = h.process("publish", nil)
		want("Redis works again", "Redis works again")
		if h.failing() {
			t.Error("got a problem, want none")
		}
	})
}

// oneAddress is a server in front of two others: connections of the first answer with
// an error, and connections made after it has been replaced work.
type oneAddress struct {
	listener net.Listener
	answer   atomic.Pointer[string] // to connections that are made now

	mu    sync.Mutex
	stale int // commands that the first server has received
}

func newOneAddress(t *testing.T) *oneAddress {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s := &oneAddress{listener: listener}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.serve(conn, s.answer.Load())
		}
	}()
	return s
}

func (s *oneAddress) serve(conn net.Conn, answer *string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		words, err := readCommand(in)
		if err != nil {
			return
		}
		reply := "+OK\r\n"
		switch {
		case strings.EqualFold(words[0], "hello"):
			reply = "-ERR unknown command 'HELLO'\r\n"
		case answer != nil && *answer != "":
			s.mu.Lock()
			s.stale++
			s.mu.Unlock()
			reply = "-" + *answer + "\r\n"
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}

func readCommand(in *bufio.Reader) ([]string, error) {
	number := func() (int, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number()
	if err != nil {
		return nil, err
	}
	words := make([]string, n)
	for i := range words {
		size, err := number()
		if err != nil {
			return nil, err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words[i] = string(word[:size])
	}
	return words, nil
}

func TestUnusableConnectionsAreDiscarded(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"LOADING Redis is loading the dataset in memory",
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
		"CLUSTERDOWN The cluster is down",
		"READONLY You can't write against a read only replica.",
		"ERR Error running script (call to f_1): @user_script:4: -READONLY You can't write against a read only replica.",
		"NOREPLICAS Not enough good replicas to write.",
		"MISCONF Redis is configured to save RDB snapshots",
		"NOAUTH Authentication required.",
	} {
		t.Run(strings.Fields(answer)[0], func(t *testing.T) {
			t.Parallel()
			server := newOneAddress(t)
			server.answer.Store(&answer)
			c, err := Open("redis://"+server.listener.Addr().String(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			all := func() (failed int) {
				var group sync.WaitGroup
				var n atomic.Int64
				for range 8 {
					group.Go(func() {
						if c.Set(t.Context(), "key", "1", 0).Err() != nil {
							n.Add(1)
						}
					})
					group.Go(func() {
						pipeline := c.Pipeline()
						pipeline.Set(t.Context(), "key", "1", 0)
						pipeline.Set(t.Context(), "key", "1", 0)
						if _, err := pipeline.Exec(t.Context()); err != nil {
							n.Add(1)
						}
					})
				}
				group.Wait()
				return int(n.Load())
			}
			if failed := all(); failed != 16 {
				t.Errorf("got %d errors from the first server, want 16", failed)
			}
			ok := ""
			server.answer.Store(&ok)
			stale := func() int {
				server.mu.Lock()
				defer server.mu.Unlock()
				return server.stale
			}
			testkit.Eventually(t, "all commands go to the second server", func() bool {
				before, failed := stale(), 0
				for range 5 {
					failed += all()
				}
				return failed == 0 && stale() == before
			})
		})
	}
}

func TestSetupWarnings(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		info string
		want []string
	}{
		"in order":       {"redis_version:6.2.0\r\nrole:master\r\ncluster_enabled:0\r\nmaxmemory_policy:noeviction\r\n", nil},
		"valkey":         {"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.0\r\n", nil},
		"fields missing": {"# Server\r\n", nil},
		"evicts":         {"maxmemory_policy:volatile-ttl\r\n", []string{"maxmemory-policy is volatile-ttl"}},
		"replica":        {"role:slave\r\n", []string{"is a replica"}},
		"cluster":        {"cluster_enabled:1\r\n", []string{"Cluster, which is not supported"}},
		"old":            {"redis_version:6.0.16\r\n", []string{"Redis 6.0.16 is too old"}},
		"old and evicts": {"redis_version:5.0\r\nmaxmemory_policy:allkeys-lru\r\n", []string{"allkeys-lru", "5.0 is too old"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := setupWarnings(parseInfo(tt.info))
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i, text := range tt.want {
				if !strings.Contains(got[i], text) {
					t.Errorf("got %q, want %q", got[i], text)
				}
			}
		})
	}
}

func TestAsynqIsQuietWhileRedisFails(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	failing := true
	l := asynqLogger{Logger: slog.New(slog.NewTextHandler(&log, nil)), failing: func() bool { return failing }}
	l.Error("Dequeue error: NOAUTH")
	failing = false
	l.Error("another error")
	if got := log.String(); strings.Contains(got, "NOAUTH") || !strings.Contains(got, "level=ERROR msg=\"another error\"") {
		t.Errorf("got log %s", got)
	}
}

func TestRedisLogger(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	l := redisLogger{slog.New(slog.NewTextHandler(&log, nil))}
	l.Printf(t.Context(), "sentinel: new master=%q addr=%q", "m", "a")
	l.Printf(t.Context(), "redis: connection pool: failed to dial after %d attempts: %v", 1, io.EOF)
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=INFO") || !strings.Contains(got, fmt.Sprintf("new master=%s", `\"m\"`)) {
		t.Errorf("got log %s", got)
	}
}

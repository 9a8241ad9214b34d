package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// redisDatabase is the path of the Redis URL. Like database, its number is the
// layout's, so that no worker picks up tasks of an older layout.
const redisDatabase = "/2"

// RedisOptions configure StartRedis.
type RedisOptions struct {
	URL         string // of an existing server; empty: start a private one
	StateDir    string // where a private server keeps its data
	AOF         bool   // keep the data across restarts
	RequireReal bool   // fail instead of falling back to miniredis
	Databases   int    // number of logical databases; 0: 16
	DieWithUs   bool   // kill the server when this process exits (Linux)
	Logger      *slog.Logger
}

// Redis is a running Redis.
type Redis struct {
	URL     string
	Source  string // where it comes from, for display
	Durable bool   // whether its data survives a restart

	options RedisOptions
	account *account
	dir     string
	port    int
	server  *server // nil unless the server is private
	unlock  func()
	mini    *miniredis.Miniredis // nil unless it replaces a real Redis
}

func redisProgram() string {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path := find(name, programDirs...); path != "" {
			return path
		}
	}
	return ""
}

// StartRedis waits for the server at o.URL. Without a URL it starts a private
// server on a free loopback port, or miniredis in this process if no Redis is
// installed.
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	r := &Redis{URL: o.URL, options: o}
	if o.URL != "" {
		r.Source, r.Durable = "the server at REDIS_URL", true
		return r, await(ctx, "the Redis at REDIS_URL", r.ping)
	}
	if redisProgram() == "" {
		if o.RequireReal {
			return nil, errors.New("Redis is not installed; " + advice("redis-server", "redis"))
		}
		return r, r.startMini()
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if err := r.startOnPort(ctx); err != nil {
		r.unlock()
		return nil, err
	}
	r.Durable = o.AOF
	r.Source = fmt.Sprintf("a private server in %s, port %d", r.dir, r.port)
	return r, nil
}

// prepare locks the state directory and chooses a port.
func (r *Redis) prepare(ctx context.Context) (err error) {
	if r.account, err = serverAccount(); err != nil {
		return err
	}
	r.dir = filepath.Join(r.options.StateDir, "redis")
	if err := r.account.ownDir(r.dir); err != nil {
		return err
	}
	if r.unlock, err = lock(filepath.Join(r.options.StateDir, "redis.lock")); err != nil {
		return err
	}
	if err = r.stopLeftover(ctx); err == nil {
		r.port, err = FreePort()
	}
	if err != nil {
		r.unlock()
	}
	return err
}

func (r *Redis) startMini() error {
	r.mini = miniredis.NewMiniRedis()
	if err := r.mini.Start(); err != nil {
		return fmt.Errorf("starting miniredis: %w", err)
	}
	r.URL = "redis://" + r.mini.Addr() + redisDatabase
	r.Source = "miniredis in this process, because redis-server is not installed; its data is lost on exit"
	return nil
}

func (r *Redis) startOnPort(ctx context.Context) error {
	r.URL = "redis://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) + redisDatabase
	args := []string{
		"--pidfile", r.pidFile(), "--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--protected-mode", "yes", "--dir", r.dir, "--save", "",
		"--set-proc-title", "no", // stopLeftover recognizes the server by its directory
		"--appendonly", yesNo(r.options.AOF), "--appendfsync", "everysec", "--databases", strconv.Itoa(cmp.Or(r.options.Databases, 16)),
	}
	command := r.account.command(r.options.DieWithUs, redisProgram(), args...)
	var err error
	if r.server, err = launch(command, filepath.Join(r.options.StateDir, "redis.log")); err != nil {
		return err
	}
	if err := r.server.awaitReady(ctx, "Redis", r.ping); err != nil {
		return errors.Join(err, r.server.kill())
	}
	return nil
}

func (r *Redis) pidFile() string { return filepath.Join(r.dir, "redis.pid") }

// stopLeftover stops a server that a killed launcher left running: two servers
// must not write to the same files.
func (r *Redis) stopLeftover(ctx context.Context) error {
	content, err := os.ReadFile(r.pidFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for a leftover Redis: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	running := func() bool { return runs(ctx, pid, filepath.Base(redisProgram()), r.dir) }
	if err != nil || !running() {
		return nil // it has exited
	}
	r.options.Logger.InfoContext(ctx, "stopping a Redis that an earlier run left running")
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping a leftover Redis: %w", err)
	}
	return await(ctx, "a leftover Redis to exit", func(context.Context) error {
		if running() {
			return errors.New("it is still running")
		}
		return nil
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// ping does not try Redis behind Sentinel, for which the worker waits.
func (r *Redis) ping(ctx context.Context) error {
	scheme, rest, _ := strings.Cut(r.URL, "://")
	switch scheme {
	case "redis-sentinel", "rediss-sentinel":
		return nil
	case "redis-socket":
		scheme = "unix"
	}
	o, err := redis.ParseURL(scheme + "://" + rest)
	if err != nil {
		return errors.New("the Redis URL is not valid; want redis://host:port/database")
	}
	client := redis.NewClient(o)
	defer client.Close()
	return client.Ping(ctx).Err()
}

// Stop stops a private server and unlocks its state directory. It does nothing to
// the server at options.URL.
func (r *Redis) Stop(ctx context.Context) error {
	if r.mini != nil {
		r.mini.Close()
	}
	if r.server == nil {
		return nil
	}
	defer r.unlock()
	return r.server.stop(ctx, syscall.SIGTERM)
}

// Kill sends SIGKILL to the server, for fault tests.
func (r *Redis) Kill() error { return r.server.kill() }

// Restart restarts the server on the same port, with or without its data, for
// fault tests.
func (r *Redis) Restart(ctx context.Context, keepData bool) error {
	if err := r.server.stop(ctx, syscall.SIGTERM); err != nil {
		return err
	}
	if !keepData {
		if err := os.RemoveAll(filepath.Join(r.dir, "appendonlydir")); err != nil {
			return fmt.Errorf("removing Redis' data: %w", err)
		}
	}
	return r.startOnPort(ctx)
}

// Pause suspends the server's process (SIGSTOP) until Resume.
func (r *Redis) Pause() error { return r.server.signal(syscall.SIGSTOP) }

// Resume continues a paused server.
func (r *Redis) Resume() error { return r.server.signal(syscall.SIGCONT) }

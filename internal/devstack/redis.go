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

// RedisOptions say where Redis comes from.
type RedisOptions struct {
	URL         string // of a server that is there already; empty: bring one
	StateDir    string // where a server of our own keeps its data
	AOF         bool   // keep data over a restart
	RequireReal bool   // fail rather than stand in with miniredis
	Databases   int    // how many logical ones; 0 for the usual 16
	DieWithUs   bool   // let the server end when this process does
	Logger      *slog.Logger
}

// Redis is a running Redis.
type Redis struct {
	URL     string
	Source  string // in plain words, for the greeting
	Durable bool   // its data survives a restart

	options RedisOptions
	account *account
	dir     string
	port    int
	server  *server // nil where the server is not ours
	unlock  func()
	mini    *miniredis.Miniredis // nil where Redis is real
}

func redisProgram() string {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path := find(name, usualFolders...); path != "" {
			return path
		}
	}
	return ""
}

// StartRedis waits for the server at options.URL, or starts a private one on a
// free loopback port, or stands in for it in this process.
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	r := &Redis{URL: o.URL, options: o}
	if o.URL != "" {
		r.Source, r.Durable = "the one that REDIS_URL names", true
		return r, await(ctx, "the Redis of REDIS_URL", r.ping)
	}
	if redisProgram() == "" {
		if o.RequireReal {
			return nil, errors.New("no Redis server was found; " + advice("redis-server", "redis"))
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
	r.Source = fmt.Sprintf("a private one in %s, port %d", r.dir, r.port)
	return r, nil
}

// prepare takes the state folder and chooses a port.
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
	r.URL = "redis://" + r.mini.Addr() + "/0"
	r.Source = "an in-process stand-in (no redis-server was found): good for trying things out, and it forgets everything at the end"
	return nil
}

func (r *Redis) startOnPort(ctx context.Context) error {
	r.URL = "redis://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) + "/0"
	args := []string{
		"--pidfile", r.pidFile(), "--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--protected-mode", "yes", "--dir", r.dir, "--save", "",
		"--set-proc-title", "no", // so that stopLeftover knows it by its folder
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

// stopLeftover stops a server that a killed launcher left behind on our data:
// two must not write to the same files.
func (r *Redis) stopLeftover(ctx context.Context) error {
	content, err := os.ReadFile(r.pidFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for a Redis left behind: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	left := func() bool { return runs(pid, filepath.Base(redisProgram()), r.dir) }
	if err != nil || !left() {
		return nil // long gone
	}
	r.options.Logger.InfoContext(ctx, "stopping a Redis that an earlier run left behind")
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping a Redis left behind: %w", err)
	}
	return await(ctx, "the end of a Redis left behind", func(context.Context) error {
		if left() {
			return errors.New("it still runs")
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

func (r *Redis) ping(ctx context.Context) error {
	o, err := redis.ParseURL(r.URL)
	if err != nil {
		return errors.New("the URL of Redis cannot be read")
	}
	client := redis.NewClient(o)
	defer client.Close()
	return client.Ping(ctx).Err()
}

// Stop stops a server of ours and releases its state folder; another's is left
// alone.
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

// Kill ends the server as a power cut would, for tests of faults.
func (r *Redis) Kill() error { return r.server.kill() }

// Restart starts the server again on the same port, with its data or without,
// for tests of faults.
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

// Pause stops the server's process without ending it; Resume lets it go on.
func (r *Redis) Pause() error { return r.server.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (r *Redis) Resume() error { return r.server.signal(syscall.SIGCONT) }

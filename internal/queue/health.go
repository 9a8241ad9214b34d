package queue

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// Pauses after errors grow from minPause to maxPause. Each loop that fails pauses between
// its tries: commands while Redis fails as a whole, dequeues, subscriptions.
const (
	minPause = 100 * time.Millisecond
	maxPause = 2 * time.Second
)

// grow returns the pause after one of the given length.
func grow(pause time.Duration) time.Duration { return min(max(2*pause, minPause), maxPause) }

// minEpoch bounds how often all connections are discarded.
const minEpoch = time.Second

const (
	// quietPeriod is how long a problem must not have occurred again before a success
	// counts as a recovery.
	quietPeriod = 5 * time.Second

	// repeatInterval is how soon a problem that comes and goes is logged again.
	repeatInterval = 5 * time.Minute
)

// health watches all commands of a client, as a go-redis hook. While every command
// fails, it sends one per pause and holds back the others, those of our code as well as
// those of asynq's loops and go-redis' subscriptions.
type health struct {
	logger    *slog.Logger
	recovered chan struct{} // receives after a problem has gone; has room for one

	inFlight atomic.Int64 // commands that were not held back
	epoch    atomic.Int64 // connections of an earlier epoch are discarded
	active   atomic.Int64 // problems that are present; changed with mu held

	mu       sync.Mutex
	paused   bool // commands are held back
	pause    time.Duration
	until    time.Time // when the next command may be tried
	dialAt   time.Time // when the next connection without a command may be tried
	dialed   bool      // the last connection was established
	cause    error     // why commands are held back
	renewed  time.Time // when the epoch began
	problems map[problemKey]*occurrence
}

// problemKey distinguishes lacking permissions by what Redis says about them.
type problemKey struct {
	problem    *problem
	permission string
}

// occurrence is a problem that was observed.
type occurrence struct {
	active  bool
	silent  bool // not logged since it became active, because it was logged shortly before
	command string
	logged  time.Time
	last    time.Time
}

func newHealth(logger *slog.Logger) *health {
	return &health{logger: logger, recovered: make(chan struct{}, 1), problems: map[problemKey]*occurrence{}}
}

func (h *health) failing() bool { return h.active.Load() > 0 }

// DialHook implements redis.Hook. Connections of subscriptions are dialed without a
// command, so they are held back here. So are those with which go-redis tries whether the
// server is back after many failures; until one succeeds, all commands fail. So commands
// must not take their turn, and once one connection is established, others may be, too.
func (h *health) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if h.inFlight.Load() == 0 {
			if err := h.admitDial(); err != nil {
				return nil, err
			}
		}
		epoch := h.epoch.Load()
		conn, err := next(ctx, network, addr)
		switch {
		case errors.Is(err, redis.Nil):
			err = errNoMaster // would be taken for an empty queue
		case errors.Is(err, context.DeadlineExceeded):
			err = &net.OpError{Op: "dial", Net: network, Err: err} // would be taken for the caller's timeout
		}
		h.noteDial(err == nil)
		if err != nil {
			h.fail("", err)
			return nil, err
		}
		return &pooledConn{Conn: conn, epoch: epoch, health: h}, nil
	}
}

// ProcessHook implements redis.Hook.
func (h *health) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if isHandshake(cmd) {
			err := next(ctx, cmd)
			h.failHandshake(err)
			return err
		}
		if err := h.admit(); err != nil {
			cmd.SetErr(err)
			return err
		}
		h.inFlight.Add(1)
		defer h.inFlight.Add(-1)
		err := next(ctx, cmd)
		h.observe(cmd.Name(), err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h *health) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) == 0 || isHandshake(cmds[0]) {
			err := next(ctx, cmds)
			h.failHandshake(err)
			return err
		}
		if err := h.admit(); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		h.inFlight.Add(1)
		defer h.inFlight.Add(-1)
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			h.observe(cmd.Name(), cmd.Err())
		}
		return err
	}
}

// isHandshake reports whether go-redis sends the command to open a connection.
func isHandshake(cmd redis.Cmder) bool {
	switch cmd.Name() {
	case "hello", "auth", "select", "client":
		return true
	default:
		return false
	}
}

// admit returns an error while commands are held back. One command per pause passes.
func (h *health) admit() error {
	if !h.failing() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if !h.paused {
		return nil
	}
	if now.Before(h.until) {
		return heldBackError(h.cause)
	}
	h.pause = grow(h.pause)
	h.until = now.Add(h.pause)
	return nil
}

// admitDial is admit for a connection that is not for a command.
func (h *health) admitDial() error {
	if !h.failing() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	switch {
	case !h.paused || h.dialed:
		return nil
	case now.Before(h.dialAt):
		return heldBackError(h.cause)
	}
	h.pause = grow(h.pause)
	h.dialAt = now.Add(h.pause)
	return nil
}

// noteDial notes whether the last connection could be established and used.
func (h *health) noteDial(ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dialed = ok
}

// failHandshake records only errors in REDIS_URL: go-redis goes on after some others, for example of a server that does not know HELLO.
func (h *health) failHandshake(err error) {
	if p := problemOf(err); p != nil && p.configuration && p.total && p != noServer {
		h.noteDial(false)
		h.fail("", err)
	}
}

func (h *health) observe(command string, err error) {
	p := problemOf(err)
	if p != nil {
		h.fail(command, err)
	}
	answered := err == nil || errors.As(err, new(redis.Error))
	if answered && (p == nil || !p.total) && h.failing() {
		h.succeed(command, p == nil)
	}
}

// fail records a problem.
func (h *health) fail(command string, err error) {
	p := problemOf(err)
	if p == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if p.total && !h.paused {
		h.paused, h.pause = true, minPause
		h.until, h.dialAt = now.Add(minPause), now.Add(minPause)
	}
	if p.total {
		h.cause = err
	}
	if (p.replaced || p == unreachable) && now.Sub(h.renewed) >= minEpoch {
		h.epoch.Add(1)
		h.renewed = now
	}
	key := problemKey{problem: p}
	if p == problems["NOPERM"] {
		key.permission, _, _ = strings.Cut(err.Error(), " script: ") // without the script
	}
	o := h.problems[key]
	if o == nil {
		o = &occurrence{}
		h.problems[key] = o
	}
	o.command, o.last = command, now
	if !o.active {
		o.active, o.silent = true, true
		h.active.Add(1)
	}
	if !o.silent || (!o.logged.IsZero() && now.Sub(o.logged) < repeatInterval) {
		return
	}
	o.silent, o.logged = false, now
	level := slog.LevelWarn
	if p.configuration {
		level = slog.LevelError
	}
	h.logger.Log(context.Background(), level, p.text, slog.Any("error", err))
}

// succeed ends the problems that are over, now that Redis has answered the command; ok
// says whether the command itself succeeded.
func (h *health) succeed(command string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.paused = false
	now := time.Now()
	for key, o := range h.problems {
		if !o.active || !o.isOver(key.problem, command, ok, now) {
			continue
		}
		o.active = false
		h.active.Add(-1)
		if !o.silent {
			h.logger.Info("Redis works again", slog.String("problem", key.problem.text))
		}
		select {
		case h.recovered <- struct{}{}:
		default: // one is pending
		}
	}
}

// isOver reports whether an answer to a command shows that the problem has gone.
func (o *occurrence) isOver(p *problem, command string, ok bool, now time.Time) bool {
	quiet := now.Sub(o.last) >= quietPeriod
	switch {
	case p.total:
		return quiet || o.command != "" // else found by dialing, while an open connection works
	case p == problems["NOPERM"] && command != script:
		return ok && command == o.command
	case p == problems["NOPERM"]:
		return ok && command == o.command && quiet // another script, or other keys, may be permitted
	default:
		return ok && quiet && (command == o.command || command == script) // asynq writes with scripts
	}
}

// script is the name of the command that runs scripts.
const script = "evalsha"

// pooledConn is a connection that go-redis drops, before it uses it again, when the
// connection is of an earlier epoch.
type pooledConn struct {
	net.Conn
	epoch  int64
	health *health
}

var errDiscarded = errors.New("the connection is discarded: the server behind it has changed")

// SyscallConn implements syscall.Conn. Before each use of a pooled connection, go-redis
// checks with it whether the server has closed it; an error makes it dial another one.
func (c *pooledConn) SyscallConn() (syscall.RawConn, error) {
	if c.epoch < c.health.epoch.Load() {
		return nil, errDiscarded
	}
	if inner, ok := c.Conn.(syscall.Conn); ok {
		return inner.SyscallConn()
	}
	return unchecked{}, nil
}

// unchecked stands for a TLS connection, whose socket go-redis cannot check.
type unchecked struct{}

func (unchecked) Control(func(uintptr)) error    { return nil }
func (unchecked) Read(func(uintptr) bool) error  { return nil }
func (unchecked) Write(func(uintptr) bool) error { return nil }

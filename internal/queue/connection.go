package queue

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// Connection is a Redis client that holds commands back while Redis fails, discards
// connections that answer but are unusable, and logs each problem once.
type Connection struct {
	*redis.Client
	target target
	health *health
}

// Open returns a Connection to the Redis at the URL; parseURL has its forms. It does not
// wait for Redis. Its errors contain no part of the URL.
func Open(url string, logger *slog.Logger) (*Connection, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	h := newHealth(logger)
	return &Connection{Client: t.newClient(h), target: t, health: h}, nil
}

// Connect is Open for callers that report errors themselves.
func Connect(url string) (redis.UniversalClient, error) {
	c, err := Open(url, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return c, nil
}

// MakeRedisClient implements asynq.RedisConnOpt for asynqmon, which closes the clients
// that it makes and shows Redis' state only with a *redis.Client.
func (c *Connection) MakeRedisClient() any { return c.target.newClient(c.health) }

func (t target) newClient(h *health) *redis.Client {
	var c *redis.Client
	if t.sentinel != nil {
		o := *t.sentinel
		c = redis.NewFailoverClient(&o)
	} else {
		o := *t.server
		c = redis.NewClient(&o)
	}
	c.AddHook(h)
	return c
}

// failing reports whether Redis has a known problem.
func (c *Connection) failing() bool { return c.health.failing() }

// errHeldBack is the error of commands that are held back.
var errHeldBack = errors.New("not sent, because Redis is failing")

// heldBackError keeps the text of the problem's error but not its kind, so that it does
// not count as another answer of Redis.
func heldBackError(cause error) error {
	return fmt.Errorf("%w: %v", errHeldBack, cause) //nolint:errorlint // see above
}

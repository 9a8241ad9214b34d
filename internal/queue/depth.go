package queue

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Depth counts the tasks of messages in Redis: those that wait, that are delayed or to be
// tried again, and that a worker has.
func (c *Client) Depth(ctx context.Context) (int, error) {
	var counts []*redis.IntCmd
	_, err := c.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, q := range queues {
			counts = append(counts,
				p.LLen(ctx, queueKey(q.name, "pending")), p.LLen(ctx, queueKey(q.name, "active")),
				p.ZCard(ctx, queueKey(q.name, "scheduled")), p.ZCard(ctx, queueKey(q.name, "retry")))
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("counting tasks: %w", err)
	}
	n := 0
	for _, count := range counts {
		n += int(count.Val())
	}
	return n, nil
}

package queue

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/devstack"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestRecoveryAfterManyFailedDials has more dials fail than go-redis allows: from then on
// it fails every command, and tries once a second whether the server is back.
func TestRecoveryAfterManyFailedDials(t *testing.T) {
	t.Parallel()
	server, err := devstack.StartRedis(t.Context(), devstack.RedisOptions{
		StateDir: testkit.StateDir(t), RequireReal: true, DieWithUs: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Kill() })
	c, err := Open(server.URL+"?pool_size=2", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var commands sync.WaitGroup
	for range 20 { // asynq's loops
		commands.Go(func() {
			for ctx.Err() == nil {
				_ = c.Ping(ctx).Err()
				time.Sleep(time.Millisecond)
			}
		})
	}
	t.Cleanup(func() { stop(); commands.Wait(); c.Close() })
	client := NewClient(c)
	testkit.Eventually(t, "Redis answers", func() bool { return client.CheckWritable(ctx) == nil })
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	epoch := c.health.epoch.Load() // begins at most once a second, after failures
	testkit.Eventually(t, "connections have failed for seconds", func() bool { return c.health.epoch.Load() >= epoch+4 })
	if err := server.Restart(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "Redis answers again", func() bool { return client.CheckWritable(ctx) == nil })
}

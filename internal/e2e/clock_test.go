package e2e

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

const hour = 3600 // seconds

// TestRetriesOfDepartedWorker has retries wait in Redis for times that are an hour off,
// as a worker leaves them whose clock was wrong. They must be sent when they are due by the
// database's clock. TestWorkerWithWrongClock moves the clock of a real worker.
func TestRetriesOfDepartedWorker(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]float64{"ahead": hour, "behind": -hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := ownRedis(t)
			r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
			messages := r.rejectOnce(func() *process { return r.worker("") })
			c := redisClient(t, server.URL)
			const key = "asynq:{messages}:retry"
			retries, err := c.ZRangeWithScores(t.Context(), key, 0, -1).Result()
			if err != nil || len(retries) == 0 {
				t.Fatalf("got %d retries, %v, want some", len(retries), err)
			}
			for i := range retries {
				retries[i].Score += ahead
			}
			if err := c.ZAddArgs(t.Context(), key, redis.ZAddArgs{XX: true, Members: retries}).Err(); err != nil {
				t.Fatal(err)
			}
			r.worker("")
			r.wantAllDelivered(messages)
		})
	}
}

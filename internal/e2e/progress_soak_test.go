//go:build soak

package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestHealthyLongBacklogIsNotRequeued has many tasks wait in a queue that works.
func TestHealthyLongBacklogIsNotRequeued(t *testing.T) {
	r := newRigOn(t, plivosim.Config{}, ownPostgres(t).URL, ownRedis(t).URL)
	slowPlivo(t, r)
	healthyBacklog(t, r, 200_000)
	w := r.worker("", "WORKER_CONCURRENCY=4")
	wantNoneRequeued(t, r, w, 5_000)
}

// TestFullRedisThatEvicts lets Redis evict a third of its data, whichever keys it picks.
func TestFullRedisThatEvicts(t *testing.T) {
	server := ownRedis(t)
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), server.URL)
	c := redisClient(t, server.URL)
	set := func(name, value string) {
		t.Helper()
		if err := c.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	used := func() int {
		t.Helper()
		info, err := c.Info(t.Context(), "memory").Result()
		match := regexp.MustCompile(`used_memory:(\d+)`).FindStringSubmatch(info)
		if err != nil || match == nil {
			t.Fatalf("reading the used memory: %v", err)
		}
		n, _ := strconv.Atoi(match[1])
		return n
	}
	empty := used()
	const messages = 4000
	healthyBacklog(t, r, messages)
	full := used()
	set("maxmemory-policy", "allkeys-lru")
	set("maxmemory", fmt.Sprint(full-(full-empty)/3))
	testkit.Eventually(t, "Redis has evicted keys", func() bool {
		return c.Set(t.Context(), "other", "x", 0).Err() == nil && used() <= full-(full-empty)/3
	})
	left := c.DBSize(t.Context()).Val()
	t.Logf("%d keys are left, the list of pending tasks: %t", left, c.Exists(t.Context(), "asynq:{messages}:pending").Val() == 1)
	set("maxmemory", "0")
	r.worker("")
	testkit.EventuallyWithin(t, 5*time.Minute, "all messages are final", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE final_at IS NULL`) == 0
	})
	r.verify(messages)
}

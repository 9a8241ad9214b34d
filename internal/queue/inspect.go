package queue

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// inspectionInterval is how often WatchSetup reads Redis' settings, besides at the start and
// after each problem. They change while nobody notices: by hand, or in a failover.
const inspectionInterval = 10 * time.Minute

// minRedisVersion is the oldest that is supported. Valkey reports 7.2 or newer.
var minRedisVersion = [2]int{6, 2}

// WatchSetup logs a warning when Redis is set up in a way that can lose tasks or cannot work.
// It returns when ctx ends.
func (c *Connection) WatchSetup(ctx context.Context) {
	warned := ""
	for {
		if warnings, err := c.inspect(ctx); err == nil { // health logs errors
			for _, w := range warnings {
				if !strings.Contains(warned, w) {
					c.health.logger.WarnContext(ctx, w)
				}
			}
			warned = strings.Join(warnings, "\n")
		}
		select {
		case <-c.health.recovered:
		case <-time.After(inspectionInterval):
		case <-ctx.Done():
			return
		}
	}
}

// inspect reads INFO: managed servers refuse CONFIG.
func (c *Connection) inspect(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*responseTimeout)
	defer cancel()
	text, err := c.Info(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("reading Redis' INFO: %w", err)
	}
	return setupWarnings(parseInfo(text)), nil
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// setupWarnings returns what an operator should change. Fields that a managed server
// leaves out are taken to be in order.
func setupWarnings(info map[string]string) []string {
	var warnings []string
	if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		warnings = append(warnings, fmt.Sprintf("Redis' maxmemory-policy is %s: when it is full, it removes tasks, and messages wait until that is noticed. Set maxmemory-policy to noeviction.", policy))
	}
	if info["cluster_enabled"] == "1" || info["redis_mode"] == "cluster" {
		warnings = append(warnings, cluster.text)
	}
	if info["role"] == "slave" {
		warnings = append(warnings, "Redis is a replica, which accepts no writes: let REDIS_URL lead to the master, or use redis-sentinel://")
	}
	if version := info["redis_version"]; isTooOld(version) {
		warnings = append(warnings, fmt.Sprintf("Redis %s is too old: use Redis %d.%d or newer, or Valkey", version, minRedisVersion[0], minRedisVersion[1]))
	}
	return warnings
}

func isTooOld(version string) bool {
	parts := strings.Split(version, ".")
	if len(parts) < 2 {
		return false
	}
	major, majorErr := strconv.Atoi(parts[0])
	minor, minorErr := strconv.Atoi(parts[1])
	if majorErr != nil || minorErr != nil {
		return false
	}
	return major < minRedisVersion[0] || (major == minRedisVersion[0] && minor < minRedisVersion[1])
}

// LogTo sends go-redis' own log records to logger. go-redis has one logger for the whole
// process. All records have level debug, except that of a new master: Connection logs
// what is wrong once, go-redis at each attempt.
func LogTo(logger *slog.Logger) { redis.SetLogger(redisLogger{logger}) }

// redisLogger implements the logger of go-redis.
type redisLogger struct{ logger *slog.Logger }

// Printf implements the logger of go-redis.
func (l redisLogger) Printf(ctx context.Context, format string, args ...any) {
	level := slog.LevelDebug
	if strings.HasPrefix(format, "sentinel: new master") {
		level = slog.LevelInfo
	}
	l.logger.Log(ctx, level, fmt.Sprintf(format, args...))
}

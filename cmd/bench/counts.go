package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// counts are the servers' counters since their start, and the CPU time that they and
// the simulator have used, in seconds.
type counts struct {
	statements, commands       float64
	writes                     float64 // transactions that wrote
	wal                        float64 // bytes
	postgres, redis, simulator float64
}

// since returns how much the counters have grown since before, divided by n.
func (c counts) since(before counts, n float64) counts {
	return counts{
		statements: (c.statements - before.statements) / n, commands: (c.commands - before.commands) / n,
		writes: (c.writes - before.writes) / n, wal: (c.wal - before.wal) / n,
		postgres: (c.postgres - before.postgres) / n, redis: (c.redis - before.redis) / n, simulator: (c.simulator - before.simulator) / n,
	}
}

// selectCounts counts writing transactions by their ids, which only they are assigned.
// Postgres' statistics of commits lag by seconds, separately for each connection.
const selectCounts = `SELECT pg_backend_pid(), pg_snapshot_xmax(pg_current_snapshot())::text::float8, pg_current_wal_insert_lsn() - '0/0'`

// createStatistics makes the database count statements, where the extension exists.
const createStatistics = `CREATE EXTENSION IF NOT EXISTS pg_stat_statements`

func (s *stack) counts(ctx context.Context) (c counts, err error) {
	var backend int
	err = s.db.QueryRowContext(ctx, selectCounts).Scan(&backend, &c.writes, &c.wal)
	if err != nil {
		return c, fmt.Errorf("reading Postgres' counters: %w", err)
	}
	if s.counted {
		err := s.db.QueryRowContext(ctx, `SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE toplevel`).Scan(&c.statements)
		if err != nil {
			return c, fmt.Errorf("reading pg_stat_statements: %w", err)
		}
	}
	if c.postgres, err = cpuOfPostgres(parent(backend)); err != nil {
		return c, err
	}
	if c.commands, err = s.redisNumber(ctx, "total_commands_processed"); err != nil {
		return c, err
	}
	pid, err := s.redisNumber(ctx, "process_id")
	c.redis = cpu(int(pid)) + exitedChildrenCPU(int(pid)) // its children rewrite the AOF
	c.simulator = cpu(os.Getpid())
	return c, err
}

// cpuOfPostgres returns the CPU seconds of the postmaster and all its children,
// including those that have exited, such as closed connections and autovacuum workers.
func cpuOfPostgres(postmaster int) (float64, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, fmt.Errorf("listing processes: %w", err)
	}
	used := cpu(postmaster) + exitedChildrenCPU(postmaster)
	for _, path := range processes {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err == nil && parent(pid) == postmaster {
			used += cpu(pid)
		}
	}
	return used, nil
}

// redisNumber returns a numeric field of Redis' INFO.
func (s *stack) redisNumber(ctx context.Context, name string) (float64, error) {
	text, err := s.redisInfo(ctx, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("reading Redis' %s: %w", name, err)
	}
	return n, nil
}

// redisInfo returns a field of Redis' INFO.
func (s *stack) redisInfo(ctx context.Context, name string) (string, error) {
	info, err := s.tasks.Info(ctx).Result()
	if err != nil {
		return "", fmt.Errorf("reading Redis' INFO: %w", err)
	}
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(text), nil
		}
	}
	return "", fmt.Errorf("reading Redis' INFO: no field %s", name)
}

// profiles is the directory to write profiles to; empty: none are taken.
type profiles string

// profileLength is the duration of CPU profiles.
const profileLength = 3 * time.Second

// start begins to profile target and this process. finish writes the profiles.
func (p profiles) start(ctx context.Context, target *process) (finish func(*stack) error, err error) {
	if p == "" {
		return func(*stack) error { return nil }, nil
	}
	if err := os.MkdirAll(string(p), 0o755); err != nil {
		return nil, fmt.Errorf("creating the profile directory: %w", err)
	}
	ours, err := os.Create(filepath.Join(string(p), "simulator.pprof"))
	if err != nil {
		return nil, fmt.Errorf("creating a profile: %w", err)
	}
	if err := pprof.StartCPUProfile(ours); err != nil {
		return nil, fmt.Errorf("creating a profile: %w", err)
	}
	theirs := make(chan error, 1)
	go func() { theirs <- p.fetch(ctx, target) }()
	return func(s *stack) error {
		pprof.StopCPUProfile()
		if err := ours.Close(); err != nil {
			return fmt.Errorf("writing a profile: %w", err)
		}
		if err := <-theirs; err != nil {
			return err
		}
		return p.writeServers(ctx, s)
	}, nil
}

// fetch writes the CPU profile of a process.
func (p profiles) fetch(ctx context.Context, target *process) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", target.metrics, profileLength.Seconds()), nil)
	if err != nil {
		return fmt.Errorf("requesting a profile: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("requesting a profile: %w", err)
	}
	defer response.Body.Close()
	out, err := os.Create(filepath.Join(string(p), "process.pprof"))
	if err != nil {
		return fmt.Errorf("creating a profile: %w", err)
	}
	defer out.Close()
	if _, err := io.Copy(out, response.Body); err != nil {
		return fmt.Errorf("writing a profile: %w", err)
	}
	return out.Close()
}

// writeServers writes how long statements and commands took.
func (p profiles) writeServers(ctx context.Context, s *stack) error {
	out, err := os.Create(filepath.Join(string(p), "servers.txt"))
	if err != nil {
		return fmt.Errorf("creating a profile: %w", err)
	}
	defer out.Close()
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	if s.counted {
		rows, err := s.db.QueryContext(ctx, `SELECT calls, rows, total_exec_time, mean_exec_time, substr(regexp_replace(query, '\s+', ' ', 'g'), 1, 150)
			FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 30`)
		if err != nil {
			return fmt.Errorf("reading pg_stat_statements: %w", err)
		}
		defer rows.Close()
		fmt.Fprintln(table, "calls\trows\tms\tms each\tstatement")
		for rows.Next() {
			var calls, n int
			var total, mean float64
			var query string
			if err := rows.Scan(&calls, &n, &total, &mean, &query); err != nil {
				return fmt.Errorf("reading statements: %w", err)
			}
			fmt.Fprintf(table, "%d\t%d\t%.1f\t%.3f\t%s\n", calls, n, total, mean, query)
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("reading statements: %w", err)
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing a profile: %w", err)
	}
	commands, err := s.tasks.Info(ctx, "commandstats").Result()
	if err != nil {
		return fmt.Errorf("reading Redis' command statistics: %w", err)
	}
	slow, err := s.tasks.SlowLogGet(ctx, 20).Result()
	if err != nil {
		return fmt.Errorf("reading Redis' slow log: %w", err)
	}
	fmt.Fprintf(out, "\n%s\n# Slow\n", commands)
	for _, entry := range slow {
		fmt.Fprintf(out, "%v %.1v\n", entry.Duration, entry.Args)
	}
	return out.Close()
}

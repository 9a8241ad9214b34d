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

// counts is what the servers have done since they were started, and the processor
// time, in seconds, that they and the simulator have used.
type counts struct {
	statements, commands       float64
	writes                     float64 // transactions that wrote something
	wal                        float64 // bytes
	postgres, redis, simulator float64
}

// selectCounts counts transactions by their numbers, which only those that write get,
// at the moment they do: the statistics' count of commits lags by seconds, and by
// each connection's own.
const selectCounts = `SELECT pg_backend_pid(), pg_snapshot_xmax(pg_current_snapshot())::text::float8, pg_current_wal_insert_lsn() - '0/0'`

// statistics has the database count statements, where it can.
const statistics = `CREATE EXTENSION IF NOT EXISTS pg_stat_statements`

func (s *stack) counts(ctx context.Context) (c counts, err error) {
	var backend int
	err = s.db.QueryRowContext(ctx, selectCounts).Scan(&backend, &c.writes, &c.wal)
	if err != nil {
		return c, fmt.Errorf("asking Postgres for figures: %w", err)
	}
	if s.counted {
		err := s.db.QueryRowContext(ctx, `SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE toplevel`).Scan(&c.statements)
		if err != nil {
			return c, fmt.Errorf("asking Postgres for its statements: %w", err)
		}
	}
	if c.postgres, err = cpuOfPostgres(parent(backend)); err != nil {
		return c, err
	}
	if c.commands, err = s.redisFigure(ctx, "total_commands_processed"); err != nil {
		return c, err
	}
	pid, err := s.redisFigure(ctx, "process_id")
	c.redis = cpu(int(pid)) + cpuOfEnded(int(pid)) // its children write the AOF anew
	c.simulator = cpu(os.Getpid())
	return c, err
}

// cpuOfPostgres is what the postmaster and all its children have used, in seconds,
// those that have ended included: closed connections and autovacuum's workers.
func cpuOfPostgres(postmaster int) (float64, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, fmt.Errorf("listing processes: %w", err)
	}
	used := cpu(postmaster) + cpuOfEnded(postmaster)
	for _, path := range processes {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err == nil && parent(pid) == postmaster {
			used += cpu(pid)
		}
	}
	return used, nil
}

// redisFigure is a number that Redis tells about itself.
func (s *stack) redisFigure(ctx context.Context, name string) (float64, error) {
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

// redisInfo is one of the things that Redis tells about itself.
func (s *stack) redisInfo(ctx context.Context, name string) (string, error) {
	info, err := s.tasks.Info(ctx).Result()
	if err != nil {
		return "", fmt.Errorf("asking Redis about itself: %w", err)
	}
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(text), nil
		}
	}
	return "", fmt.Errorf("asking Redis about itself: there is no %s", name)
}

// profiles is the folder that is told where the time goes; empty: none.
type profiles string

// profileLength is how long processor profiles are taken.
const profileLength = 3 * time.Second

// take begins to watch a process and this one. What it returns writes down what was
// seen.
func (p profiles) take(ctx context.Context, watched *process) (finish func(*stack) error, err error) {
	if p == "" {
		return func(*stack) error { return nil }, nil
	}
	if err := os.MkdirAll(string(p), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of profiles: %w", err)
	}
	ours, err := os.Create(filepath.Join(string(p), "simulator.pprof"))
	if err != nil {
		return nil, fmt.Errorf("making a profile: %w", err)
	}
	if err := pprof.StartCPUProfile(ours); err != nil {
		return nil, fmt.Errorf("making a profile: %w", err)
	}
	theirs := make(chan error, 1)
	go func() { theirs <- p.fetch(ctx, watched) }()
	return func(s *stack) error {
		pprof.StopCPUProfile()
		if err := ours.Close(); err != nil {
			return fmt.Errorf("writing a profile: %w", err)
		}
		if err := <-theirs; err != nil {
			return err
		}
		return p.servers(ctx, s)
	}, nil
}

// fetch asks a process for its profile.
func (p profiles) fetch(ctx context.Context, watched *process) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", watched.metrics, profileLength.Seconds()), nil)
	if err != nil {
		return fmt.Errorf("asking for a profile: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("asking for a profile: %w", err)
	}
	defer response.Body.Close()
	out, err := os.Create(filepath.Join(string(p), "process.pprof"))
	if err != nil {
		return fmt.Errorf("making a profile: %w", err)
	}
	defer out.Close()
	if _, err := io.Copy(out, response.Body); err != nil {
		return fmt.Errorf("writing a profile: %w", err)
	}
	return out.Close()
}

// servers writes which statements and commands took how long.
func (p profiles) servers(ctx context.Context, s *stack) error {
	out, err := os.Create(filepath.Join(string(p), "servers.txt"))
	if err != nil {
		return fmt.Errorf("making a profile: %w", err)
	}
	defer out.Close()
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	if s.counted {
		rows, err := s.db.QueryContext(ctx, `SELECT calls, rows, total_exec_time, mean_exec_time, substr(regexp_replace(query, '\s+', ' ', 'g'), 1, 150)
			FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 30`)
		if err != nil {
			return fmt.Errorf("asking Postgres for its statements: %w", err)
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
		return fmt.Errorf("asking Redis for figures: %w", err)
	}
	slow, err := s.tasks.SlowLogGet(ctx, 20).Result()
	if err != nil {
		return fmt.Errorf("asking Redis for its slow log: %w", err)
	}
	fmt.Fprintf(out, "\n%s\n# Slow\n", commands)
	for _, entry := range slow {
		fmt.Fprintf(out, "%v %.1v\n", entry.Duration, entry.Args)
	}
	return out.Close()
}

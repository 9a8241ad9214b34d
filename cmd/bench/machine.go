package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// machine is what figures depend on beside the code that they are of. What cannot
// be found out is left empty: figures are worth having all the same.
type machine struct {
	At       time.Time `json:"at"`
	Commit   string    `json:"commit"`
	Modified bool      `json:"modified"` // files differ from the commit
	CPU      string    `json:"cpu"`
	CPUs     int       `json:"cpus"`
	Load     string    `json:"loadAverage"` // of the last 1, 5 and 15 minutes before the run
	Go       string    `json:"go"`
	Postgres string    `json:"postgres"`
	Redis    string    `json:"redis"`
}

// lookAround describes the machine before anything runs on it. `go run` puts no
// commit into the program, so that git is asked.
func lookAround(ctx context.Context) machine {
	m := machine{At: time.Now().UTC(), CPUs: runtime.NumCPU(), Go: runtime.Version()}
	if out, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output(); err == nil {
		m.Commit = strings.TrimSpace(string(out))
	}
	if out, err := exec.CommandContext(ctx, "git", "status", "--porcelain").Output(); err == nil {
		m.Modified = len(out) > 0
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(text), "model name")
		line, _, _ := strings.Cut(rest, "\n")
		m.CPU = strings.Trim(line, "\t :")
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(text))[:3], " ")
	}
	return m
}

// meet notes the versions of the servers, once.
func (m *machine) meet(ctx context.Context, s *stack) (err error) {
	if m.Postgres != "" {
		return nil
	}
	if err := s.db.QueryRowContext(ctx, `SHOW server_version`).Scan(&m.Postgres); err != nil {
		return fmt.Errorf("asking for Postgres' version: %w", err)
	}
	m.Redis, err = s.redisInfo(ctx, "redis_version")
	return err
}

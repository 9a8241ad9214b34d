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

// machine describes what measurements depend on apart from the code. Fields that cannot
// be determined stay empty.
type machine struct {
	At       time.Time `json:"at"`
	Commit   string    `json:"commit"`
	Modified bool      `json:"modified"` // the working tree differs from the commit
	CPU      string    `json:"cpu"`
	CPUs     int       `json:"cpus"`
	Load     string    `json:"loadAverage"` // of the last 1, 5 and 15 minutes before the run
	Go       string    `json:"go"`
	Postgres string    `json:"postgres"`
	Redis    string    `json:"redis"`
}

// describeMachine describes the machine before the run. It asks git for the commit,
// because `go run` embeds none.
func describeMachine(ctx context.Context) machine {
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

// addVersions records the versions of the servers, once.
func (m *machine) addVersions(ctx context.Context, s *stack) (err error) {
	if m.Postgres != "" {
		return nil
	}
	if err := s.db.QueryRowContext(ctx, `SHOW server_version`).Scan(&m.Postgres); err != nil {
		return fmt.Errorf("reading Postgres' version: %w", err)
	}
	m.Redis, err = s.redisInfo(ctx, "redis_version")
	return err
}

package devstack

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// StartStandby starts a standby of a private server, which receives its changes as they
// are written, for fault tests. It keeps its data in stateDir.
func (p *Postgres) StartStandby(ctx context.Context, stateDir string) (*Postgres, error) {
	s := &Postgres{options: p.options, account: p.account, bin: p.bin, standby: true}
	s.options.StateDir = stateDir
	home := filepath.Join(stateDir, "postgres")
	s.data = filepath.Join(home, "data")
	if err := s.account.ownDir(home); err != nil {
		return nil, err
	}
	var err error
	if s.unlock, err = lock(filepath.Join(stateDir, "postgres.lock")); err != nil {
		return nil, err
	}
	if err = s.copyFrom(ctx, p); err == nil {
		err = s.start(ctx)
	}
	if err != nil {
		s.unlock()
		return nil, err
	}
	s.Source = "a standby of " + p.Source
	return s, nil
}

// copyFrom copies a running server's cluster, and its password.
func (p *Postgres) copyFrom(ctx context.Context, primary *Postgres) error {
	password, err := os.ReadFile(filepath.Join(primary.options.StateDir, "postgres", "password"))
	if err != nil {
		return fmt.Errorf("reading the cluster's password: %w", err)
	}
	if err := p.account.writeFile(filepath.Join(p.options.StateDir, "postgres", "password"), strings.TrimSpace(string(password))); err != nil {
		return err
	}
	out, err := p.run(ctx, "pg_basebackup", "-d", primary.URL, "-D", p.data, "-R", "-X", "stream", "-c", "fast", "--no-sync")
	if err != nil {
		return fmt.Errorf("copying the cluster: %w\n%s", err, out)
	}
	return nil
}

// Promote makes a standby a primary, and waits until it is one.
func (p *Postgres) Promote(ctx context.Context) error {
	if out, err := p.run(ctx, "pg_ctl", "promote", "-w", "-D", p.data); err != nil {
		return fmt.Errorf("promoting a standby: %w\n%s", err, out)
	}
	p.standby = false
	return nil
}

// Addr returns the host and port of a private server.
func (p *Postgres) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

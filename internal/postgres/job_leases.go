package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// A lease is renewed while its work runs, and expires soon after its process is killed
// or stopped. A session-level advisory lock would not do: a stopped process would hold
// it for as long as it is stopped.
const (
	jobLeaseDuration = 12 * time.Second
	jobLeaseRenewal  = 3 * time.Second
)

const acquireLease = `
INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at
WHERE leases.expires_at <= clock_timestamp() OR leases.holder = EXCLUDED.holder
RETURNING name`

const releaseLease = `DELETE FROM leases WHERE name = $1 AND holder = $2`

var errLeaseLost = errors.New("another process has taken the lease")

// WithLease calls work while it holds the lease of that name. It does nothing when
// another process holds the lease. The context of work ends when the lease is lost.
func (s *Store) WithLease(ctx context.Context, name string, work func(context.Context) error) error {
	holder := uuid.New()
	acquired, err := s.acquireLease(ctx, name, holder)
	if err != nil || !acquired {
		return err
	}
	workCtx, cancel := context.WithCancelCause(ctx)
	renewalEnded := make(chan struct{})
	go func() {
		defer close(renewalEnded)
		s.renewLease(workCtx, name, holder, cancel)
	}()
	err = work(workCtx)
	cancel(nil)
	<-renewalEnded
	_, releaseErr := s.db.ExecContext(context.WithoutCancel(ctx), releaseLease, name, holder)
	return errors.Join(err, wrapError(releaseErr, "releasing a lease"))
}

// acquireLease acquires or renews a lease.
func (s *Store) acquireLease(ctx context.Context, name string, holder uuid.UUID) (bool, error) {
	var names []string
	err := s.db.SelectContext(ctx, &names, acquireLease, name, holder, jobLeaseDuration.Seconds())
	return len(names) == 1, wrapError(err, "acquiring a lease")
}

// renewLease renews a lease until ctx ends, and cancels the work when the lease is lost.
// It goes on after an error: while the database is unavailable, no other process can
// acquire the lease either.
func (s *Store) renewLease(ctx context.Context, name string, holder uuid.UUID, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(jobLeaseRenewal)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if acquired, err := s.acquireLease(ctx, name, holder); err == nil && !acquired {
			cancel(errLeaseLost)
			return
		}
	}
}

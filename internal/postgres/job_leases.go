package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// A lease is renewed while its work runs, and expires soon after its process is killed
// or stopped, or cut off from the database. A session-level advisory lock would not do: a
// stopped process would hold it for as long as it is stopped, and one that is cut off
// until the server notices. Only migrations hold one; there the next process waits for
// two minutes, which is longer than the server needs (see watchClient).
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

var errLeaseLost = errors.New("the lease is lost: another process has it, or it could not be renewed")

// WithLease calls work while it holds the lease of that name. It does nothing when
// another process holds the lease. The context of work ends when the lease is lost, or
// could not be renewed before it expired.
func (s *Store) WithLease(ctx context.Context, name string, work func(context.Context) error) error {
	holder := uuid.New()
	expiry := time.NewTimer(jobLeaseDuration) // started before the lease: it ends before the lease does
	defer expiry.Stop()
	acquired, err := s.acquireLease(ctx, name, holder)
	if err != nil || !acquired {
		return err
	}
	workCtx, cancel := context.WithCancelCause(ctx)
	renewalEnded := make(chan struct{})
	go func() {
		defer close(renewalEnded)
		s.renewLease(workCtx, name, holder, expiry, cancel)
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

// renewLease renews a lease until ctx ends, and cancels the work when the lease is lost or
// expiry fires. It goes on after an error: the database may be back before the lease
// expires. When only this process is cut off from it, others acquire the lease then.
func (s *Store) renewLease(ctx context.Context, name string, holder uuid.UUID, expiry *time.Timer, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(jobLeaseRenewal)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-expiry.C:
			cancel(errLeaseLost)
			return
		case <-ctx.Done():
			return
		}
		started := time.Now()
		acquired, err := s.tryRenewal(ctx, name, holder)
		switch {
		case err == nil && !acquired:
			cancel(errLeaseLost)
			return
		case err == nil:
			expiry.Reset(jobLeaseDuration - time.Since(started))
		}
	}
}

// tryRenewal renews a lease, within the time until the next try.
func (s *Store) tryRenewal(ctx context.Context, name string, holder uuid.UUID) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, jobLeaseRenewal)
	defer cancel()
	return s.acquireLease(ctx, name, holder)
}

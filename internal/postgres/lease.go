package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// A turn is renewed while its work goes on, and is over soon after the process
// that has it was killed or stopped. (A lock of a database session would be
// held by a stopped process for as long as it stands.)
const (
	leaseDuration = 12 * time.Second
	leaseRenewal  = 3 * time.Second
)

const acquireLease = `
INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at
WHERE leases.expires_at <= clock_timestamp() OR leases.holder = EXCLUDED.holder
RETURNING name`

const releaseLease = `DELETE FROM leases WHERE name = $1 AND holder = $2`

var errLeaseLost = errors.New("another process has taken over")

// WithLease calls work unless another process is at the work of that name. The
// context of work ends when the turn is lost to another.
func (s *Store) WithLease(ctx context.Context, name string, work func(context.Context) error) error {
	holder := uuid.New()
	took, err := s.acquireLease(ctx, name, holder)
	if err != nil || !took {
		return err
	}
	workCtx, cancel := context.WithCancelCause(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		s.keepLease(workCtx, name, holder, cancel)
	}()
	err = work(workCtx)
	cancel(nil)
	<-renewed
	_, endErr := s.db.ExecContext(context.WithoutCancel(ctx), releaseLease, name, holder)
	return errors.Join(err, wrapError(endErr, "ending a turn"))
}

func (s *Store) acquireLease(ctx context.Context, name string, holder uuid.UUID) (bool, error) {
	var names []string
	err := s.db.SelectContext(ctx, &names, acquireLease, name, holder, leaseDuration.Seconds())
	return len(names) == 1, wrapError(err, "taking a turn")
}

// keepLease renews a turn until ctx ends, and cancels the work when it is lost.
// A database that is away keeps everybody else from taking it, too.
func (s *Store) keepLease(ctx context.Context, name string, holder uuid.UUID, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(leaseRenewal)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if took, err := s.acquireLease(ctx, name, holder); err == nil && !took {
			cancel(errLeaseLost)
			return
		}
	}
}

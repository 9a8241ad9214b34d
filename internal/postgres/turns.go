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
	turnLength  = 12 * time.Second
	turnRenewal = 3 * time.Second
)

const takeTurn = `
INSERT INTO turns (name, holder, until) VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until
WHERE turns.until <= clock_timestamp() OR turns.holder = EXCLUDED.holder
RETURNING name`

const endTurn = `DELETE FROM turns WHERE name = $1 AND holder = $2`

var errTurnLost = errors.New("another process has taken over")

// InTurn calls work unless another process is at the work of that name. The
// context of work ends when the turn is lost to another.
func (s *Store) InTurn(ctx context.Context, name string, work func(context.Context) error) error {
	holder := uuid.New()
	took, err := s.takeTurn(ctx, name, holder)
	if err != nil || !took {
		return err
	}
	workCtx, cancel := context.WithCancelCause(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		s.keepTurn(workCtx, name, holder, cancel)
	}()
	err = work(workCtx)
	cancel(nil)
	<-renewed
	_, endErr := s.db.ExecContext(context.WithoutCancel(ctx), endTurn, name, holder)
	return errors.Join(err, translate(endErr, "ending a turn"))
}

func (s *Store) takeTurn(ctx context.Context, name string, holder uuid.UUID) (bool, error) {
	var names []string
	err := s.db.SelectContext(ctx, &names, takeTurn, name, holder, turnLength.Seconds())
	return len(names) == 1, translate(err, "taking a turn")
}

// keepTurn renews a turn until ctx ends, and cancels the work when it is lost.
// A database that is away keeps everybody else from taking it, too.
func (s *Store) keepTurn(ctx context.Context, name string, holder uuid.UUID, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(turnRenewal)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if took, err := s.takeTurn(ctx, name, holder); err == nil && !took {
			cancel(errTurnLost)
			return
		}
	}
}

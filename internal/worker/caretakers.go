package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"postcard/internal/failpoint"
	"postcard/internal/mms"
)

// batch is how many rows a caretaker takes at a time.
const batch = 500

// Relay sees to it that every queued message has a task: it enqueues those
// whose task is missing because Redis was away, or has lost it, or holds one
// that will never run. Any number of relays may run side by side.
type Relay struct {
	Store  RelayStore
	Queue  RelayQueue
	Logger *slog.Logger
}

// RelayStore hands out queued messages whose task has to be looked at.
type RelayStore interface {
	RelayAll(ctx context.Context) error
	TakeForRelay(ctx context.Context, limit int) ([]mms.RelayItem, error)
	NextGeneration(ctx context.Context, t mms.Task) (bool, error)
	NoteRelayed(ctx context.Context, ids []uuid.UUID) error
}

// RelayQueue is the queue as the relay sees it. Remembers reports whether the
// queue still knows what Remind told it last.
type RelayQueue interface {
	Remembers(ctx context.Context) (bool, error)
	Remind(ctx context.Context) error
	Ensure(ctx context.Context, item mms.RelayItem) (mms.TaskState, error)
}

// relaysAtOnce is how many tasks are looked at side by side.
const relaysAtOnce = 16

// Sweep looks after messages whose time for a look has come, until a batch of them
// lacked nothing: then many wait because there are many, and the rest has time. While
// the queue is away it takes none, so that all come up at once when it is back; and
// when the queue has lost its memory, every queued message's time has come.
func (r *Relay) Sweep(ctx context.Context) error {
	remembers, err := r.Queue.Remembers(ctx)
	if err != nil {
		return err
	}
	if !remembers {
		// The reminder comes last: a relay that dies in between leaves the
		// work to the next.
		if err := r.Store.RelayAll(ctx); err != nil {
			return err
		}
		if err := r.Queue.Remind(ctx); err != nil {
			return err
		}
	}
	for {
		items, err := r.Store.TakeForRelay(ctx, batch)
		if err != nil {
			return err
		}
		if len(items) > 0 {
			failpoint.Hit(failpoint.RelayTaken)
		}
		missing, err := r.look(ctx, items)
		if err != nil || missing == 0 || len(items) < batch {
			return err
		}
	}
}

// look ensures the items' tasks, notes which had been missing and counts them.
func (r *Relay) look(ctx context.Context, items []mms.RelayItem) (missing int, err error) {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(relaysAtOnce)
	added := make([]bool, len(items))
	for i, item := range items {
		group.Go(func() (err error) {
			added[i], err = r.ensure(groupCtx, item)
			return err
		})
	}
	err = group.Wait()
	var ids []uuid.UUID
	for i, item := range items {
		if added[i] {
			ids = append(ids, item.Task.MessageID)
		}
	}
	if len(ids) == 0 {
		return 0, err
	}
	r.Logger.InfoContext(ctx, "messages put back into the queue", slog.Int("messages", len(ids)))
	return len(ids), errors.Join(err, r.Store.NoteRelayed(ctx, ids))
}

// ensure reports whether the item's task was missing and is there now.
func (r *Relay) ensure(ctx context.Context, item mms.RelayItem) (bool, error) {
	state, err := r.Queue.Ensure(ctx, item)
	if err != nil || state != mms.TaskStuck {
		return state == mms.TaskAdded, err
	}
	moved, err := r.Store.NextGeneration(ctx, item.Task)
	if err != nil || !moved {
		return false, err
	}
	item.Task.Generation++
	state, err = r.Queue.Ensure(ctx, item)
	return state == mms.TaskAdded, err
}

// Pacer lets messages out of the lines before their senders' gates, and probes
// whether a pause is over. Any number of pacers may run side by side.
type Pacer struct {
	Store  LineStore
	Queue  Enqueuer
	Logger *slog.Logger

	paused bool // as last seen
}

// LineStore keeps the lines.
type LineStore interface {
	Release(ctx context.Context, ahead time.Duration) ([]mms.Task, error)
	Probe(ctx context.Context) ([]mms.Task, error)
	Paused(ctx context.Context) ([]mms.Pause, error)
}

// Enqueuer puts tasks into the queue.
type Enqueuer interface {
	Enqueue(ctx context.Context, t mms.Task) error
}

// PacerInterval is how often lines are looked at, and releaseAhead how long
// before its turn a message is let out, so that it stands ready at its gate.
const (
	PacerInterval = 100 * time.Millisecond
	releaseAhead  = 300 * time.Millisecond
)

// Sweep lets out those whose turn it is. A task that cannot be enqueued is left
// to the relay.
func (p *Pacer) Sweep(ctx context.Context) error {
	pauses, err := p.Store.Paused(ctx)
	if err != nil {
		return err
	}
	p.notice(ctx, pauses)
	let := func(ctx context.Context) ([]mms.Task, error) { return p.Store.Release(ctx, releaseAhead) }
	if p.paused {
		let = p.Store.Probe
	}
	tasks, err := let(ctx)
	if err != nil {
		return err
	}
	return enqueueAll(ctx, p.Queue, tasks)
}

// notice logs when a pause begins and when it is over.
func (p *Pacer) notice(ctx context.Context, pauses []mms.Pause) {
	if len(pauses) > 0 && !p.paused {
		p.Logger.ErrorContext(ctx, "sending is paused until the Plivo account works again", slog.String("cause", string(pauses[0].Cause)))
	}
	if len(pauses) == 0 && p.paused {
		p.Logger.InfoContext(ctx, "sending goes on")
	}
	p.paused = len(pauses) > 0
}

// Expirer fails messages that could not be sent in time.
type Expirer struct{ Store ExpiryStore }

// ExpiryStore fails up to limit messages that could not be sent in time.
type ExpiryStore interface {
	Expire(ctx context.Context, limit int) (int, error)
}

// Sweep fails all that could not be sent in time.
func (e Expirer) Sweep(ctx context.Context) error {
	return untilLess(func() (int, error) { return e.Store.Expire(ctx, batch) })
}

// Closer closes messages of which no further report is expected.
type Closer struct{ Store CloserStore }

// CloserStore closes up to limit messages of which nothing has been heard for so
// long.
type CloserStore interface {
	CloseSilent(ctx context.Context, silence time.Duration, limit int) (int, error)
}

// closeAfter is when no further report is expected: a message waits at most 3
// hours at Plivo, and carriers try for a day.
const closeAfter = 24 * time.Hour

// Sweep closes all of which no further report is expected.
func (c Closer) Sweep(ctx context.Context) error {
	return untilLess(func() (int, error) { return c.Store.CloseSilent(ctx, closeAfter, batch) })
}

// Scheduler queues messages whose set time has come. Any number of schedulers may
// run side by side.
type Scheduler struct {
	Store ScheduleStore
	Queue Enqueuer
}

// ScheduleStore queues up to limit scheduled messages whose time has come, and
// returns how many, and the tasks to be enqueued.
type ScheduleStore interface {
	TakeDue(ctx context.Context, limit int) (int, []mms.Task, error)
}

// Sweep queues all messages whose set time has come. A task that cannot be
// enqueued is left to the relay.
func (s Scheduler) Sweep(ctx context.Context) error {
	return untilLess(func() (int, error) {
		n, tasks, err := s.Store.TakeDue(ctx, batch)
		if err != nil {
			return n, err
		}
		return n, enqueueAll(ctx, s.Queue, tasks)
	})
}

func enqueueAll(ctx context.Context, queue Enqueuer, tasks []mms.Task) error {
	for _, task := range tasks {
		if err := queue.Enqueue(ctx, task); err != nil {
			return err
		}
	}
	return nil
}

// Settler has the messages of batches follow their batch's state.
type Settler struct{ Store SettleStore }

// SettleStore has up to limit messages of a batch follow its state, and reports
// false when no batch is left to settle.
type SettleStore interface {
	SettleBatch(ctx context.Context, limit int) (bool, error)
}

// settledAtOnce is how many messages of a batch are changed by one statement.
const settledAtOnce = 2000

// Sweep settles all batches whose state was changed.
func (s Settler) Sweep(ctx context.Context) error {
	for {
		more, err := s.Store.SettleBatch(ctx, settledAtOnce)
		if err != nil || !more {
			return err
		}
	}
}

// Bookkeeper counts what became of the messages of past days.
type Bookkeeper struct{ Store BookStore }

// BookStore counts days, and has one process at a time do some work.
type BookStore interface {
	InTurn(ctx context.Context, name string, work func(context.Context) error) error
	CountDays(ctx context.Context) error
}

// BookInterval is how often days are looked at.
const BookInterval = time.Minute

// Sweep counts the days that have not been counted, unless another process does.
func (b Bookkeeper) Sweep(ctx context.Context) error {
	return b.Store.InTurn(ctx, "counting of days", b.Store.CountDays)
}

// untilLess repeats work that comes in batches until one is not full.
func untilLess(work func() (int, error)) error {
	for {
		n, err := work()
		if err != nil || n < batch {
			return err
		}
	}
}

// Lapses puts messages in doubt whose worker was lost in the middle of an
// attempt.
type Lapses struct {
	Store  LapseStore
	Logger *slog.Logger
}

// LapseStore finds attempts whose lease is over.
type LapseStore interface {
	DoubtLapsed(ctx context.Context, limit int) (int, error)
}

// Sweep looks after all attempts whose lease is over.
func (l *Lapses) Sweep(ctx context.Context) error {
	return untilLess(func() (int, error) {
		n, err := l.Store.DoubtLapsed(ctx, batch)
		if n > 0 {
			l.Logger.WarnContext(ctx, "attempts lost their worker; their messages are in doubt", slog.Int("messages", n))
		}
		return n, err
	})
}

// Every calls sweep at once, then at each interval and whenever it is woken,
// until ctx ends. A failure is logged when it begins and when it is over, not
// each time. wake may be nil.
func Every(ctx context.Context, name string, interval time.Duration, wake <-chan struct{}, logger *slog.Logger, sweep func(context.Context) error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	failing := false
	for {
		err := sweep(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			logger.WarnContext(ctx, fmt.Sprintf("the %s cannot work at present", name), slog.Any("error", err))
		}
		if err == nil && failing {
			logger.InfoContext(ctx, fmt.Sprintf("the %s works again", name))
		}
		failing = err != nil
		select {
		case <-ticker.C:
		case <-wake:
		case <-ctx.Done():
			return
		}
	}
}

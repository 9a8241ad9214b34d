package postgres

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
)

// changeNotifier collects the ids of messages that this process has changed. They are
// announced together, a moment after their commits, and not in them: Postgres
// lets transactions that notify commit only one after the other, which would
// take away most of the speed of sending.
type changeNotifier struct {
	mu      sync.Mutex
	started bool
	ids     map[uuid.UUID]bool
	wake    chan struct{}
}

const (
	notifyDelay           = 10 * time.Millisecond // for more ids to come together
	notifyDelayBusy       = 50 * time.Millisecond // the same, where there were many the last time
	notifyBusy            = 20
	maxIDsPerNotification = 200             // in one notification, which has at most 8000 bytes
	notifyTimeout         = 5 * time.Second // for all that has come together, also when the process stops
)

// noteChanged notes messages to be announced. Before Announce nobody announces, and
// nothing is kept.
func (s *Store) noteChanged(ids ...uuid.UUID) {
	a := &s.notifier
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.started {
		return
	}
	for _, id := range ids {
		a.ids[id] = true
	}
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *changeNotifier) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	ids := make([]string, 0, len(a.ids))
	for id := range a.ids {
		ids = append(ids, id.String())
	}
	clear(a.ids)
	return ids
}

// RunNotifier tells all processes which messages this one changes, until ctx ends and
// the last are announced. What cannot be announced is lost: it is news of the truth,
// not the truth.
func (s *Store) RunNotifier(ctx context.Context, logger *slog.Logger) {
	a := &s.notifier
	a.mu.Lock()
	a.started, a.ids, a.wake = true, map[uuid.UUID]bool{}, make(chan struct{}, 1)
	a.mu.Unlock()
	for pause := notifyDelay; ctx.Err() == nil; {
		select {
		case <-a.wake:
			time.Sleep(pause)
		case <-ctx.Done():
		}
		pause = notifyDelay
		if s.notify(logger) > notifyBusy {
			pause = notifyDelayBusy
		}
	}
}

const notifyMessageChanges = `SELECT pg_notify('` + MessageChangesChannel + `', $1)`

// notify reports how many messages there were to be announced.
func (s *Store) notify(logger *slog.Logger) int {
	ctx, cancel := context.WithTimeout(context.Background(), notifyTimeout)
	defer cancel()
	ids := s.notifier.take()
	all := len(ids)
	for len(ids) > 0 {
		n := min(len(ids), maxIDsPerNotification)
		if _, err := s.db.ExecContext(ctx, notifyMessageChanges, strings.Join(ids[:n], " ")); err != nil {
			logger.WarnContext(ctx, "changes of messages could not be announced", slog.Any("error", err))
			return all
		}
		ids = ids[n:]
	}
	return all
}

const selectOwners = `SELECT DISTINCT user_id FROM messages WHERE id = ANY ($1)`

// Owners returns the owners of the messages, each once.
func (s *Store) Owners(ctx context.Context, messages []uuid.UUID) ([]uuid.UUID, error) {
	var owners []uuid.UUID
	err := s.db.SelectContext(ctx, &owners, selectOwners, pq.Array(messages))
	return owners, wrapError(err, "reading owners of messages")
}

const selectVersions = `SELECT id, version FROM messages WHERE id = ANY ($1)`

// Versions returns the versions of the messages.
func (s *Store) Versions(ctx context.Context, messages []uuid.UUID) (map[uuid.UUID]int64, error) {
	var rows []struct {
		ID      uuid.UUID `db:"id"`
		Version int64     `db:"version"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectVersions, pq.Array(messages)); err != nil {
		return nil, wrapError(err, "reading versions of messages")
	}
	versions := make(map[uuid.UUID]int64, len(rows))
	for _, row := range rows {
		versions[row.ID] = row.Version
	}
	return versions, nil
}

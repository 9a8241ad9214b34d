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

// The NOTIFY channels, and the payload of each.
const (
	TaskCheckChannel      = "task_check"      // empty: a message needs the task relay before its next run
	MessageChangesChannel = "message_changes" // ids of changed messages, separated by spaces
	AccessRevokedChannel  = "access_revoked"  // id of a revoked API key, or of a user who must log in again
)

const (
	listenRetryMin = 100 * time.Millisecond
	listenRetryMax = 10 * time.Second
)

// Listen returns a channel that receives the payload of each notification, and ""
// after each reconnection, because notifications may have been missed. It listens
// until ctx ends. Each call uses a connection of its own, so a slow receiver delays
// nobody else.
func Listen(ctx context.Context, url, channel string, logger *slog.Logger) (<-chan string, error) {
	listener := pq.NewListener(url, listenRetryMin, listenRetryMax, func(_ pq.ListenerEventType, err error) {
		if err != nil {
			logger.WarnContext(ctx, "listening to the database was interrupted", slog.Any("error", err))
		}
	})
	if err := listener.Listen(channel); err != nil {
		listener.Close()
		return nil, wrapError(err, "listening to the database")
	}
	payloads := make(chan string, 1)
	go func() {
		defer listener.Close()
		for {
			payload := ""
			select {
			case n := <-listener.Notify:
				if n != nil { // nil after a reconnection
					payload = n.Extra
				}
			case <-ctx.Done():
				return
			}
			select {
			case payloads <- payload:
			case <-ctx.Done():
				return
			}
		}
	}()
	return payloads, nil
}

// changeNotifier collects the ids of messages that this process has changed, and
// notifies of several at once, shortly after their commits. A NOTIFY inside the
// transactions would serialize them: Postgres commits transactions that notify one
// after another.
type changeNotifier struct {
	mu      sync.Mutex
	running bool
	ids     map[uuid.UUID]bool
	wake    chan struct{}
}

const (
	notifyDelay           = 10 * time.Millisecond // to collect more ids
	notifyDelayBusy       = 50 * time.Millisecond // instead, after more than notifyBusy ids
	notifyBusy            = 20
	maxIDsPerNotification = 200             // a payload is limited to 8000 bytes
	notifyTimeout         = 5 * time.Second // for all collected ids, also at shutdown
)

// noteChanged adds messages to the next notification. Unless RunNotifier is running
// it does nothing.
func (s *Store) noteChanged(ids ...uuid.UUID) {
	n := &s.notifier
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running {
		return
	}
	for _, id := range ids {
		n.ids[id] = true
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *changeNotifier) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	ids := make([]string, 0, len(n.ids))
	for id := range n.ids {
		ids = append(ids, id.String())
	}
	clear(n.ids)
	return ids
}

// RunNotifier notifies all processes of the messages that this store changes, until
// ctx ends and the last changes are sent. A notification that fails is only logged:
// receivers also poll for changes.
func (s *Store) RunNotifier(ctx context.Context, logger *slog.Logger) {
	n := &s.notifier
	n.mu.Lock()
	n.running, n.ids, n.wake = true, map[uuid.UUID]bool{}, make(chan struct{}, 1)
	n.mu.Unlock()
	for delay := notifyDelay; ctx.Err() == nil; {
		select {
		case <-n.wake:
			time.Sleep(delay)
		case <-ctx.Done():
		}
		delay = notifyDelay
		if s.notify(logger) > notifyBusy {
			delay = notifyDelayBusy
		}
	}
}

const notifyMessageChanges = `SELECT pg_notify('` + MessageChangesChannel + `', $1)`

// notify sends the collected ids and returns how many there were.
func (s *Store) notify(logger *slog.Logger) int {
	ctx, cancel := context.WithTimeout(context.Background(), notifyTimeout)
	defer cancel()
	ids := s.notifier.take()
	total := len(ids)
	for len(ids) > 0 {
		n := min(len(ids), maxIDsPerNotification)
		if _, err := s.db.ExecContext(ctx, notifyMessageChanges, strings.Join(ids[:n], " ")); err != nil {
			logger.WarnContext(ctx, "notifying of changed messages failed", slog.Any("error", err))
			return total
		}
		ids = ids[n:]
	}
	return total
}

// byID joins the ids in $1 to their messages m. LATERAL keeps Postgres from planning
// a scan of all messages, as it may for "id = ANY ($1)" while the table is small.
const byID = `unnest($1::uuid[]) AS ids (id), LATERAL (SELECT * FROM messages WHERE id = ids.id LIMIT 1) m`

const selectOwners = `SELECT DISTINCT m.user_id FROM ` + byID

// Owners returns the owners of the messages, each once.
func (s *Store) Owners(ctx context.Context, messages []uuid.UUID) ([]uuid.UUID, error) {
	var owners []uuid.UUID
	err := s.db.SelectContext(ctx, &owners, selectOwners, pq.Array(messages))
	return owners, wrapError(err, "reading owners of messages")
}

const selectVersions = `SELECT m.id, m.version FROM ` + byID

// Versions returns the versions of the messages by id.
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

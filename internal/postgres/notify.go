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
	AccessRevokedChannel  = "access_revoked"  // id of a revoked API key, or of a user who has changed or must log in again
)

const (
	listenRetryMin = 100 * time.Millisecond
	listenRetryMax = 10 * time.Second

	// listenCheckInterval is how often a listening connection is checked: without
	// notifications it is silent, even when the server has vanished. It is closed when the
	// server does not answer within listenTimeout.
	listenCheckInterval = 15 * time.Second
	listenTimeout       = 5 * time.Second
)

// Listen returns a channel that receives the payload of each notification, and ""
// after each reconnection, because notifications may have been missed. It listens
// until ctx ends. Each call uses a connection of its own, so a slow receiver delays
// nobody else.
func Listen(ctx context.Context, url, channel string, logger *slog.Logger) (<-chan string, error) {
	return listen(ctx, url, channel, connLife(), logger)
}

func listen(ctx context.Context, url, channel string, life time.Duration, logger *slog.Logger) (<-chan string, error) {
	dsn, err := listenString(url)
	if err != nil {
		return nil, err
	}
	l := listener{dsn: dsn, channel: channel, life: life, logger: logger, payloads: make(chan string, 1)}
	first, err := l.connect(ctx)
	if err != nil {
		return nil, wrapError(err, "listening to the database")
	}
	go l.run(ctx, first)
	return l.payloads, nil
}

// listener listens to one channel, on one connection after the other.
type listener struct {
	dsn      string // in the driver's form
	channel  string
	life     time.Duration // of a connection
	logger   *slog.Logger
	payloads chan string
}

// listenConn is a connection that listens. notifications is closed when the connection
// is lost.
type listenConn struct {
	*pq.ListenerConn
	notifications chan *pq.Notification
}

// connect retries until it listens or ctx ends. An error that will not pass is returned.
func (l *listener) connect(ctx context.Context) (*listenConn, error) {
	for delay := listenRetryMin; ; delay = min(2*delay, listenRetryMax) {
		conn, err := l.open()
		if err == nil || !isUnavailable(err) {
			return conn, err
		}
		l.logger.WarnContext(ctx, "listening to the database was interrupted", slog.Any("error", err))
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *listener) open() (*listenConn, error) {
	notifications := make(chan *pq.Notification, 32)
	opened, err := pq.NewListenerConn(l.dsn, notifications)
	if err != nil {
		return nil, err
	}
	conn := &listenConn{ListenerConn: opened, notifications: notifications}
	// A server that refuses these settings works without them.
	if err := conn.exec(watchClient); err != nil && conn.exec("") != nil {
		conn.abandon()
		return nil, err
	}
	if err := conn.exec("LISTEN " + pq.QuoteIdentifier(l.channel)); err != nil {
		conn.abandon()
		return nil, err
	}
	return conn, nil
}

// exec closes the connection when the server does not answer in time.
func (c *listenConn) exec(statement string) error {
	timeout := time.AfterFunc(listenTimeout, func() { c.Close() })
	defer timeout.Stop()
	_, err := c.ExecSimpleQuery(statement)
	return err
}

// abandon closes the connection. The driver blocks until the last notifications are
// received.
func (c *listenConn) abandon() {
	c.Close()
	go func() {
		for range c.notifications {
		}
	}()
}

// run forwards notifications until ctx ends.
func (l *listener) run(ctx context.Context, conn *listenConn) {
	for conn != nil {
		conn = l.serve(ctx, conn)
	}
}

// serve forwards the notifications of a connection until it is lost or its life ends, and
// returns the next connection, or nil when ctx ends.
func (l *listener) serve(ctx context.Context, conn *listenConn) *listenConn {
	forwarding, stop := context.WithCancel(ctx)
	lost := make(chan struct{})
	go func() {
		defer close(lost)
		l.forward(forwarding, conn)
		conn.abandon()
	}()
	renewal := time.NewTicker(l.life)
	defer renewal.Stop()
	for {
		select {
		case <-lost:
			stop()
			return l.reconnect(ctx)
		case <-renewal.C:
			next, err := l.open()
			if err != nil {
				continue // the current connection may still work
			}
			// For a moment both forward, some notifications twice, so that none is missed.
			time.AfterFunc(listenTimeout, stop)
			return next
		}
	}
}

// reconnect returns a connection after one was lost, or nil when ctx ends.
func (l *listener) reconnect(ctx context.Context) *listenConn {
	for ctx.Err() == nil {
		l.logger.WarnContext(ctx, "listening to the database was interrupted")
		conn, err := l.connect(ctx)
		if err == nil {
			l.send(ctx, "")
			return conn
		}
		l.logger.ErrorContext(ctx, "listening to the database failed", slog.Any("error", err))
		select {
		case <-time.After(listenRetryMax):
		case <-ctx.Done():
		}
	}
	return nil
}

// forward forwards notifications until the connection is lost or ctx ends.
func (l *listener) forward(ctx context.Context, conn *listenConn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go conn.check(ctx)
	for {
		select {
		case n, open := <-conn.notifications:
			if !open {
				return
			}
			l.send(ctx, n.Extra)
		case <-ctx.Done():
			return
		}
	}
}

// check closes the connection when the server does not answer, until ctx ends.
func (c *listenConn) check(ctx context.Context) {
	ticker := time.NewTicker(listenCheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if c.exec("") != nil {
			return
		}
	}
}

func (l *listener) send(ctx context.Context, payload string) {
	select {
	case l.payloads <- payload:
	case <-ctx.Done():
	}
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

const selectWorkspacesOf = `SELECT DISTINCT m.workspace_id FROM ` + byID

// Workspaces returns the workspaces of the messages, each once.
func (s *Store) Workspaces(ctx context.Context, messages []uuid.UUID) ([]uuid.UUID, error) {
	var workspaces []uuid.UUID
	err := s.db.SelectContext(ctx, &workspaces, selectWorkspacesOf, pq.Array(messages))
	return workspaces, wrapError(err, "reading workspaces of messages")
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

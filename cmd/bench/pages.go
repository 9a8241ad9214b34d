package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
)

// Each user has 2*pagesOfKind pages open: half follow all messages of the user, half
// follow one message each.
const (
	pageUsers   = 20
	pagesOfKind = 50
)

// benchRedis queues 100,000 messages and opens 2,000 pages. It measures the memory of a
// queued message and of the processes, and how soon pages are notified of changes.
func benchRedis(ctx context.Context, s *stack, r *report) error {
	const backlog, watched = 100_000, pageUsers * pagesOfKind
	if err := s.prepare(ctx); err != nil {
		return err
	}
	api, _, _, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	pages, err := s.newPages(ctx)
	if err != nil {
		return err
	}
	workspace, err := s.workspace(ctx)
	if err != nil {
		return err
	}
	if err := s.insertQueued(ctx, queued{workspaces: pages.workspaces(), to: watched}); err != nil { // inserted first, so they are sent first
		return err
	}
	if err := s.insertQueued(ctx, queued{workspaces: []uuid.UUID{workspace}, from: watched, to: watched + backlog}); err != nil {
		return err
	}
	before, err := s.redisNumber(ctx, "used_memory")
	if err != nil {
		return err
	}
	if err := s.enqueueAll(ctx); err != nil {
		return err
	}
	after, err := s.redisNumber(ctx, "used_memory")
	if err != nil {
		return err
	}
	r.add("Redis memory per queued message", (after-before)/(backlog+watched), "bytes", "≤ 1000")
	defer pages.close()
	if err := pages.open(ctx, s, api); err != nil {
		return err
	}
	s.latency = 50 * time.Millisecond
	worker, err := s.worker(ctx)
	if err != nil {
		return err
	}
	if err := pages.countEvents(ctx, s, r); err != nil {
		return err
	}
	if err := pages.measureDelay(ctx, r, api); err != nil {
		return err
	}
	r.add("api memory with 2,000 open pages", memory(api.command.Process.Pid), "MiB", "≤ 200")
	r.add("worker memory with 100,000 queued", memory(worker.command.Process.Pid), "MiB", "≤ 80")
	if lost := pages.lost.Load(); lost > 0 {
		return fmt.Errorf("the api closed %d pages", lost)
	}
	return nil
}

// pages are all open pages.
type pages struct {
	users  []*pageUser
	conns  []net.Conn
	closed atomic.Bool  // by close
	lost   atomic.Int64 // pages that the api closed
}

// pageUser is a user with open pages, and the events that they received.
type pageUser struct {
	user
	mu            sync.Mutex
	listEvents    []time.Time    // on pages that follow all messages
	messageEvents map[string]int // on the page of each message
}

func (u *pageUser) addListEvent() {
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.listEvents = append(u.listEvents, now)
}

func (u *pageUser) addMessageEvent(message string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.messageEvents[message]++
}

// takeListEvents returns the list events since the last call.
func (u *pageUser) takeListEvents() []time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	events := u.listEvents
	u.listEvents = nil
	return events
}

func (s *stack) newPages(ctx context.Context) (*pages, error) {
	users, err := s.users(ctx, pageUsers)
	if err != nil {
		return nil, err
	}
	p := &pages{}
	for _, u := range users {
		p.users = append(p.users, &pageUser{user: u, messageEvents: map[string]int{}})
	}
	return p, nil
}

func (p *pages) workspaces() []uuid.UUID {
	var ids []uuid.UUID
	for _, u := range p.users {
		ids = append(ids, u.id)
	}
	return ids
}

// open opens all pages. They are read until close.
func (p *pages) open(ctx context.Context, s *stack, api *process) error {
	for _, u := range p.users {
		var messages []string
		if err := s.db.QueryRowContext(ctx, `SELECT array_agg(id::text) FROM messages WHERE workspace_id = $1`, u.id).Scan((*pq.StringArray)(&messages)); err != nil {
			return fmt.Errorf("reading messages: %w", err)
		}
		for _, id := range messages {
			if err := p.openPage(api, "/api/messages/stream", u.key, u.addListEvent); err != nil {
				return err
			}
			if err := p.openPage(api, "/api/messages/"+id+"/stream", u.key, func() { u.addMessageEvent(id) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// openPage opens a stream and calls onEvent for each of its events.
func (p *pages) openPage(api *process, path, key string, onEvent func()) error {
	conn, err := net.Dial("tcp", strings.TrimPrefix(api.url, "http://"))
	if err != nil {
		return fmt.Errorf("opening a page: %w", err)
	}
	p.conns = append(p.conns, conn)
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: bench\r\n%s\r\n", path, bearer(key)); err != nil {
		return fmt.Errorf("opening a page: %w", err)
	}
	in := bufio.NewReader(conn)
	status, err := in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("opening a page: %w", err)
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return fmt.Errorf("opening a page: got response %s, want 200", strings.TrimSpace(status))
	}
	go func() {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				if !p.closed.Load() {
					p.lost.Add(1)
				}
				return
			}
			if strings.HasPrefix(line, "event:") {
				onEvent()
			}
		}
	}()
	return nil
}

func (p *pages) close() {
	p.closed.Store(true)
	for _, conn := range p.conns {
		conn.Close()
	}
}

// countEvents waits until all messages that have a page have been sent, and reports how
// many events the pages received.
func (p *pages) countEvents(ctx context.Context, s *stack, r *report) error {
	for left := 1; left > 0; {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
		err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM messages WHERE workspace_id = ANY ($1) AND status IN ('queued', 'sending')`, pq.Array(p.workspaces())).Scan(&left)
		if err != nil {
			return fmt.Errorf("counting unsent messages: %w", err)
		}
	}
	if err := pause(ctx, time.Second); err != nil { // until the last events have arrived
		return err
	}
	listEvents, messageEvents, updated := 0, 0, 0
	for _, u := range p.users {
		listEvents += len(u.takeListEvents())
		u.mu.Lock()
		for _, n := range u.messageEvents {
			messageEvents += n
			if n >= 2 { // the message when the page was opened, and a later version
				updated++
			}
		}
		u.mu.Unlock()
	}
	const messages = pageUsers * pagesOfKind
	r.add("events on a list page per message sent", float64(listEvents)/messages/pagesOfKind, "events", "")
	r.add("events on a message's page", float64(messageEvents)/messages, "events", "")
	r.add("share of message pages that were updated", float64(updated)/messages, "", "1")
	return nil
}

// measureDelay creates messages one after the other and measures how long after the
// response each list page of their user is notified, while the worker is busy sending.
func (p *pages) measureDelay(ctx context.Context, r *report, api *process) error {
	const messages = 200
	send := make([]caller, len(p.users))
	for i, u := range p.users {
		var err error
		if send[i], err = poster(api.url, "/api/send-mms", bearer(u.key), sendBody, http.StatusAccepted)(); err != nil {
			return err
		}
	}
	var took latencies
	for n := range messages {
		u := p.users[n%len(p.users)]
		u.takeListEvents()
		if err := send[n%len(p.users)](int64(1_000_000 + n)); err != nil {
			return err
		}
		answered := time.Now()
		var events []time.Time
		for len(events) < pagesOfKind {
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
			if time.Since(answered) > 10*time.Second {
				return fmt.Errorf("only %d of %d pages were notified", len(events), pagesOfKind)
			}
			events = append(events, u.takeListEvents()...)
		}
		for _, at := range events {
			took = append(took, max(0, at.Sub(answered)))
		}
	}
	r.add("response to notification of the user's pages, p50", took.at(0.5), "ms", "")
	r.add("response to notification of the user's pages, p99", took.at(0.99), "ms", "")
	return nil
}

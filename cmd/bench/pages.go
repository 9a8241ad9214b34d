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

// Of the pages that each of the watchers has open, half are lists of messages, which
// are told of news, and half show one message.
const (
	watchers    = 20
	pagesOfKind = 50
)

// benchRedis fills the queue, and asks what a message takes there, what the processes
// keep with 100,000 queued and 2,000 open pages, and how soon those are told of news.
func benchRedis(ctx context.Context, s *stack, r *report) error {
	const backlog, watched = 100_000, watchers * pagesOfKind
	if err := s.prepare(ctx); err != nil {
		return err
	}
	api, _, _, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	audience, err := s.audience(ctx)
	if err != nil {
		return err
	}
	owner, err := s.owner(ctx)
	if err != nil {
		return err
	}
	if err := s.fill(ctx, queued{owners: audience.owners(), to: watched}); err != nil { // before the others: they are sent first
		return err
	}
	if err := s.fill(ctx, queued{owners: []uuid.UUID{owner}, from: watched, to: watched + backlog}); err != nil {
		return err
	}
	before, err := s.redisFigure(ctx, "used_memory")
	if err != nil {
		return err
	}
	if err := s.enqueue(ctx); err != nil {
		return err
	}
	after, err := s.redisFigure(ctx, "used_memory")
	if err != nil {
		return err
	}
	r.add("Redis for a queued message", (after-before)/(backlog+watched), "bytes", "≤ 1000")
	defer audience.leave()
	if err := audience.open(ctx, s, api); err != nil {
		return err
	}
	s.slow = 50 * time.Millisecond
	worker, err := s.worker(ctx)
	if err != nil {
		return err
	}
	if err := audience.seeSending(ctx, s, r); err != nil {
		return err
	}
	if err := audience.hearNews(ctx, r, api); err != nil {
		return err
	}
	r.add("api with 2,000 pages open, sending", memory(api.command.Process.Pid), "MiB", "≤ 80")
	r.add("worker with 100,000 queued", memory(worker.command.Process.Pid), "MiB", "≤ 80")
	if lost := audience.lost.Load(); lost > 0 {
		return fmt.Errorf("%d pages were closed by the api", lost)
	}
	return nil
}

// audience is all who have pages open.
type audience struct {
	all   []*watcher
	conns []net.Conn
	left  atomic.Bool  // the pages are being closed by us
	lost  atomic.Int64 // pages that the api closed
}

// watcher is somebody with open pages.
type watcher struct {
	user
	mu   sync.Mutex
	news []time.Time    // when a page was told of news
	seen map[string]int // events on the page of each message
}

func (w *watcher) hear() {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.news = append(w.news, now)
}

func (w *watcher) see(message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[message]++
}

// forget returns what was heard, and is ready for more.
func (w *watcher) forget() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	news := w.news
	w.news = nil
	return news
}

func (s *stack) audience(ctx context.Context) (*audience, error) {
	users, err := s.users(ctx, watchers)
	if err != nil {
		return nil, err
	}
	a := &audience{}
	for _, u := range users {
		a.all = append(a.all, &watcher{user: u, seen: map[string]int{}})
	}
	return a, nil
}

func (a *audience) owners() []uuid.UUID {
	var ids []uuid.UUID
	for _, w := range a.all {
		ids = append(ids, w.id)
	}
	return ids
}

// open opens all pages. They are read until leave.
func (a *audience) open(ctx context.Context, s *stack, api *process) error {
	for _, w := range a.all {
		var messages []string
		if err := s.db.QueryRowContext(ctx, `SELECT array_agg(id::text) FROM messages WHERE user_id = $1`, w.id).Scan((*pq.StringArray)(&messages)); err != nil {
			return fmt.Errorf("reading messages: %w", err)
		}
		for _, id := range messages {
			if err := a.page(api, "/api/messages/stream", w.key, w.hear); err != nil {
				return err
			}
			if err := a.page(api, "/api/messages/"+id+"/stream", w.key, func() { w.see(id) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// page opens a stream and has told called for each of its events.
func (a *audience) page(api *process, path, key string, told func()) error {
	conn, err := net.Dial("tcp", strings.TrimPrefix(api.url, "http://"))
	if err != nil {
		return fmt.Errorf("opening a page: %w", err)
	}
	a.conns = append(a.conns, conn)
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: bench\r\n%s\r\n", path, bearer(key)); err != nil {
		return fmt.Errorf("opening a page: %w", err)
	}
	in := bufio.NewReader(conn)
	status, err := in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("opening a page: %w", err)
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return fmt.Errorf("opening a page: answered %s", strings.TrimSpace(status))
	}
	go func() {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				if !a.left.Load() {
					a.lost.Add(1)
				}
				return
			}
			if strings.HasPrefix(line, "event:") {
				told()
			}
		}
	}()
	return nil
}

func (a *audience) leave() {
	a.left.Store(true)
	for _, conn := range a.conns {
		conn.Close()
	}
}

// seeSending waits until all messages with a page of their own have been sent, and
// reports what the pages were told of it.
func (a *audience) seeSending(ctx context.Context, s *stack, r *report) error {
	for left := 1; left > 0; {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
		err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM messages WHERE user_id = ANY ($1) AND status IN ('queued', 'sending')`, pq.Array(a.owners())).Scan(&left)
		if err != nil {
			return fmt.Errorf("counting: %w", err)
		}
	}
	if err := pause(ctx, time.Second); err != nil { // until the last have been told
		return err
	}
	news, seen, told := 0, 0, 0
	for _, w := range a.all {
		news += len(w.forget())
		w.mu.Lock()
		for _, n := range w.seen {
			seen += n
			if n >= 2 { // as it was, and what became of it
				told++
			}
		}
		w.mu.Unlock()
	}
	const messages = watchers * pagesOfKind
	r.add("events on a list's page, a message sent", float64(news)/messages/pagesOfKind, "events", "")
	r.add("events on a message's own page", float64(seen)/messages, "events", "")
	r.add("messages whose page was told", float64(told)/messages, "", "1")
	return nil
}

// hearNews has watchers send one message after the other, and measures how long after
// the answer each of their pages is told, while the worker sends others' messages.
func (a *audience) hearNews(ctx context.Context, r *report, api *process) error {
	const messages = 200
	send := make([]caller, len(a.all))
	for i, w := range a.all {
		var err error
		if send[i], err = poster(api.url, "/api/send-mms", bearer(w.key), sendBody, http.StatusAccepted)(); err != nil {
			return err
		}
	}
	var took latencies
	for n := range messages {
		w := a.all[n%len(a.all)]
		w.forget()
		if err := send[n%len(a.all)](int64(1_000_000 + n)); err != nil {
			return err
		}
		answered := time.Now()
		var heard []time.Time
		for len(heard) < pagesOfKind {
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
			if time.Since(answered) > 10*time.Second {
				return fmt.Errorf("only %d of %d pages were told of news", len(heard), pagesOfKind)
			}
			heard = append(heard, w.forget()...)
		}
		for _, at := range heard {
			took = append(took, max(0, at.Sub(answered)))
		}
	}
	r.add("answer to news on the sender's pages, p50", took.at(0.5), "ms", "")
	r.add("answer to news on the sender's pages, p99", took.at(0.99), "ms", "")
	return nil
}

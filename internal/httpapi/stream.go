package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/live"
)

// Server-sent events (WHATWG HTML, section 9.2): a client keeps one answer open
// and is told of news. It needs no polling of the database, and a lost
// connection is taken up again by the browser.

const (
	// streamLength is when a stream ends and the client connects anew, and retry how
	// long after its end browsers do; both are stretched by chance by up to as much
	// again, so that not all come at once.
	streamLength = 3 * time.Minute
	retry        = 2 * time.Second

	// heartbeat keeps proxies from closing a quiet connection, and finds out
	// that the client is gone.
	heartbeat = 15 * time.Second

	// readTime and writeTime are what reading news and one write may take.
	readTime  = 10 * time.Second
	writeTime = 10 * time.Second
)

func (a *api) registerStreams() {
	ok := func(description string) map[string]*huma.Response {
		return map[string]*huma.Response{"200": {Description: description,
			Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}}
	}
	limit := fmt.Sprintf(" You may have %d streams open at a time.", live.MaxConnections)
	messageResponses := ok("Events named message, whose data is the message as getMessage returns it and whose id is its version. The stream ends after a few minutes; connect again.")
	messageResponses["204"] = &huma.Response{Description: "Its story is over, and Last-Event-ID says that you know: do not connect again."}
	registerFor(a, identity.ReadScope, huma.Operation{
		OperationID: "streamMessage", Method: http.MethodGet, Path: messagesPath + "/{id}/stream", Tags: []string{"messages"},
		Summary:     "Follow one message",
		Description: "Server-sent events: the message at once, and again whenever something happens to it." + limit,
		Responses:   messageResponses, Errors: []int{http.StatusNotFound},
	}, a.streamMessage)
	registerFor(a, identity.ReadScope, huma.Operation{
		OperationID: "streamMessages", Method: http.MethodGet, Path: messagesPath + "/stream", Tags: []string{"messages"},
		Summary:     "Follow all your messages",
		Description: "Server-sent events: one named news whenever something may have happened to any of your messages. It has no data: ask for what you show." + limit,
		Responses:   ok("Events named news. The stream ends after a few minutes; connect again."),
	}, a.streamMessages)
}

type streamInput struct {
	Request
	ID          string `path:"id" format:"uuid" doc:"The message's id."`
	LastEventID string `header:"Last-Event-ID" doc:"The id of the last event that you had; browsers send it by themselves."`
}

func (a *api) streamMessage(ctx context.Context, who identity.Principal, in *streamInput) (*huma.StreamResponse, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	known := in.LastEventID
	watch := a.Live.Message(id) // before the first look, so that nothing falls between
	over, err := a.isOver(ctx, who.UserID, id, known)
	if err != nil || over {
		watch.Stop()
		return &huma.StreamResponse{Body: func(ctx huma.Context) { ctx.SetStatus(http.StatusNoContent) }}, err
	}
	return a.stream(in.Request, who, watch, func(ctx context.Context, write writeEvent) error {
		// Many may be told at once, of whom few have missed anything.
		if now, err := a.version(ctx, who.UserID, id); err != nil || now == known {
			return err
		}
		message, err := a.read(ctx, who.UserID, id)
		if err != nil {
			return err
		}
		known = strconv.FormatInt(message.Version, 10)
		return write("message", known, message)
	})
}

// isOver reports whether the message's story is, and whoever has seen the known version
// knows all of it.
func (a *api) isOver(ctx context.Context, owner, id uuid.UUID, known string) (bool, error) {
	if now, err := a.version(ctx, owner, id); err != nil || now != known {
		return false, err
	}
	message, err := a.read(ctx, owner, id)
	return err == nil && message.Final, err
}

func (a *api) version(ctx context.Context, owner, id uuid.UUID) (string, error) {
	n, err := a.Messages.Version(ctx, owner, id)
	return strconv.FormatInt(n, 10), err
}

type newsInput struct{ Request }

func (a *api) streamMessages(_ context.Context, who identity.Principal, in *newsInput) (*huma.StreamResponse, error) {
	first := true
	return a.stream(in.Request, who, a.Live.Owner(who.UserID), func(_ context.Context, write writeEvent) error {
		if first { // there is none yet: whoever connects has just read
			first = false
			return nil
		}
		return write("news", "", struct{}{})
	})
}

// writeEvent writes one event; an empty id is left out.
type writeEvent func(event, id string, data any) error

// writeNews writes what there is to tell. An error ends the stream; the client connects
// again and is told why, if that can be told.
type writeNews func(ctx context.Context, write writeEvent) error

// stream has tell called at once and whenever the watch has news, until the client is
// gone, who asks may not any more, or the stream has been open for long enough. It
// takes the connection over from net/http, whose buffers and stacks would be nearly all
// that an open page costs.
func (a *api) stream(q Request, who identity.Principal, watch live.Watch, tell writeNews) (*huma.StreamResponse, error) {
	if q.r.Method == http.MethodHead {
		watch.Stop()
		return &huma.StreamResponse{Body: func(huma.Context) { streamHeader(q.w.Header()) }}, nil
	}
	visit, ok := a.Live.Connect(who.UserID)
	if !ok {
		watch.Stop()
		return nil, newProblem(http.StatusTooManyRequests,
			fmt.Sprintf("You have %d streams open, which is as many as there can be. Close some, or ask for the list of your messages instead.", live.MaxConnections)).retryAfter(heartbeat)
	}
	s := &stream{
		watch: watch, connection: visit, closed: a.Live.Closed(), write: tell, logger: a.Logger,
		length: stretched(streamLength),
	}
	if who.Key != nil && who.Key.ExpiresAt != nil {
		s.length = min(s.length, time.Until(*who.Key.ExpiresAt))
	}
	return &huma.StreamResponse{Body: func(huma.Context) { s.begin(q.w) }}, nil
}

func stretched(d time.Duration) time.Duration { return d + rand.N(d) }

func streamHeader(header http.Header) {
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // for nginx
}

// stream is an open stream. Nothing of the request is kept in it.
type stream struct {
	conn       streamConn
	watch      live.Watch
	connection live.Connection
	closed     <-chan struct{} // the process stops
	write      writeNews
	length     time.Duration
	logger     *slog.Logger
}

// begin takes the connection over and lets the request end.
func (s *stream) begin(w http.ResponseWriter) {
	header := w.Header()
	streamHeader(header)
	header.Set("Connection", "close") // it is how the answer ends
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.close()
		http.Error(w, "This connection cannot be kept open for a stream: use HTTP/1.1.", http.StatusHTTPVersionNotSupported)
		return
	}
	s.conn = streamConn{conn}
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 200 OK\r\n")
	_ = header.Write(&head) // into memory
	fmt.Fprintf(&head, "\r\nretry: %d\n\n", stretched(retry).Milliseconds())
	go s.follow(head.String())
}

func (s *stream) close() {
	s.watch.Stop()
	s.connection.Close()
}

// follow is the life of a stream.
func (s *stream) follow(head string) {
	defer s.conn.Close()
	defer s.close()
	defer func() {
		if p := recover(); p != nil { // nobody else would: the request is over
			s.logger.Error("a stream panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	if s.conn.send(head) != nil || s.writeNews() != nil {
		return
	}
	end := time.NewTimer(s.length)
	defer end.Stop()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-s.connection.Ended:
			return
		case <-s.watch.News:
			err = s.writeNews()
		case <-beat.C:
			err = s.conn.send(": still here\n\n")
		case <-s.closed:
			return
		case <-end.C:
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *stream) writeNews() error {
	select {
	case <-s.connection.Ended: // before anything that may have come with it
		return errAccessEnded
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	return s.write(ctx, s.conn.event)
}

// errAccessEnded ends a stream whose reader has to show again who they are.
var errAccessEnded = errors.New("the access has ended")

// streamConn is the connection of a stream.
type streamConn struct{ net.Conn }

func (c streamConn) event(event, id string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	return c.send(fmt.Sprintf("event: %s\n%sdata: %s\n\n", event, id, body))
}

func (c streamConn) send(text string) error {
	if err := c.SetDeadline(time.Now().Add(writeTime)); err != nil {
		return fmt.Errorf("writing to a stream: %w", err)
	}
	if _, err := c.Write([]byte(text)); err != nil {
		return fmt.Errorf("writing to a stream: %w", err)
	}
	return nil
}

// allow gives the answer so much more time than the server would.
func allow(w http.ResponseWriter, more time.Duration) error {
	err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(more))
	if err != nil && !errors.Is(err, http.ErrNotSupported) { // a writer without deadlines needs none
		return fmt.Errorf("allowing a long answer: %w", err)
	}
	return nil
}

package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"postcard/internal/identity"
	"postcard/internal/live"
)

// Server-sent events (WHATWG HTML, section 9.2): a client keeps one answer open
// and is told of news. It needs no polling of the database, and a lost
// connection is taken up again by the browser.

const (
	// streamLength is when a stream ends and the client connects anew, so that
	// somebody who has logged out is not told for ever.
	streamLength = 5 * time.Minute

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
	messageResponses := ok("Events named message, whose data is the message as getMessage returns it and whose id is its version. The stream ends after a few minutes; connect again.")
	messageResponses["204"] = &huma.Response{Description: "Its story is over, and Last-Event-ID says that you know: do not connect again."}
	registerFor(a, identity.ReadScope, huma.Operation{
		OperationID: "streamMessage", Method: http.MethodGet, Path: messagesPath + "/{id}/stream", Tags: []string{"messages"},
		Summary:     "Follow one message",
		Description: "Server-sent events: the message at once, and again whenever something happens to it.",
		Responses:   messageResponses, Errors: []int{http.StatusNotFound},
	}, a.streamMessage)
	registerFor(a, identity.ReadScope, huma.Operation{
		OperationID: "streamMessages", Method: http.MethodGet, Path: messagesPath + "/stream", Tags: []string{"messages"},
		Summary:     "Follow all your messages",
		Description: "Server-sent events: one named news whenever something may have happened to any of your messages. It has no data: ask for what you show.",
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
	watch := a.Live.Message(id) // before the first look, so that nothing falls between
	message, err := a.read(ctx, who.UserID, id)
	if err != nil {
		watch.Stop()
		return nil, err
	}
	known := in.LastEventID
	if message.Final && known == version(message) {
		watch.Stop()
		return &huma.StreamResponse{Body: func(ctx huma.Context) { ctx.SetStatus(http.StatusNoContent) }}, nil
	}
	return a.stream(in.Request, watch, func(ctx context.Context, write writeEvent) error {
		message, err := a.read(ctx, who.UserID, id)
		if err != nil || version(message) == known {
			return err
		}
		known = version(message)
		return write("message", known, message)
	}), nil
}

func version(m *History) string { return strconv.FormatInt(m.Version, 10) }

type newsInput struct{ Request }

func (a *api) streamMessages(_ context.Context, who identity.Principal, in *newsInput) (*huma.StreamResponse, error) {
	first := true
	return a.stream(in.Request, a.Live.Owner(who.UserID), func(_ context.Context, write writeEvent) error {
		if first { // there is none yet: whoever connects has just read
			first = false
			return nil
		}
		return write("news", "", struct{}{})
	}), nil
}

// writeEvent writes one event; an empty id is left out.
type writeEvent func(event, id string, data any) error

// teller writes what there is to tell. An error ends the stream; the client connects
// again and is told why, if that can be told.
type teller func(ctx context.Context, write writeEvent) error

// stream has tell called at once and whenever the watch has news, until the client is
// gone or the stream has been open for long enough. It takes the connection over from
// net/http, whose buffers and stacks would be nearly all that an open page costs.
func (a *api) stream(q Request, watch live.Watch, tell teller) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(huma.Context) {
		header := q.w.Header()
		header.Set("Content-Type", "text/event-stream")
		header.Set("X-Accel-Buffering", "no") // for nginx
		if q.r.Method == http.MethodHead {
			watch.Stop()
			return
		}
		header.Set("Connection", "close") // it is how the answer ends
		header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
		conn, _, err := http.NewResponseController(q.w).Hijack()
		if err != nil {
			watch.Stop()
			http.Error(q.w, "This connection cannot be kept open for a stream: use HTTP/1.1.", http.StatusHTTPVersionNotSupported)
			return
		}
		var head bytes.Buffer
		head.WriteString("HTTP/1.1 200 OK\r\n")
		_ = header.Write(&head) // into memory
		head.WriteString("\r\nretry: 2000\n\n")
		go a.follow(streamConn{conn}, watch, head.String(), tell)
	}}
}

// follow is the life of a stream. Nothing of the request is kept in it.
func (a *api) follow(conn streamConn, watch live.Watch, head string, tell teller) {
	defer conn.Close()
	defer watch.Stop()
	defer func() {
		if p := recover(); p != nil { // nobody else would: the request is over
			a.Logger.Error("a stream panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	if conn.send(head) != nil || a.tell(conn, tell) != nil {
		return
	}
	end := time.NewTimer(streamLength)
	defer end.Stop()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-watch.News:
			err = a.tell(conn, tell)
		case <-beat.C:
			err = conn.send(": still here\n\n")
		case <-a.Live.Closed():
			return
		case <-end.C:
			return
		}
		if err != nil {
			return
		}
	}
}

func (a *api) tell(conn streamConn, tell teller) error {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	return tell(ctx, conn.event)
}

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

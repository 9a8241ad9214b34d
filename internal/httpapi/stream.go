package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/live"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Streams are server-sent events (WHATWG HTML, section 9.2).

const (
	// streamLength bounds how long a stream stays open, and reconnectDelay how long
	// browsers wait before they reconnect. Both are jittered to up to twice their
	// value, so that clients do not reconnect all at once.
	streamLength   = 3 * time.Minute
	reconnectDelay = 2 * time.Second

	// heartbeatInterval keeps proxies from closing an idle connection.
	heartbeatInterval = 15 * time.Second

	// eventTimeout bounds reading the data of one event.
	eventTimeout = 10 * time.Second

	// writeTimeout bounds one write to a client.
	writeTimeout = 10 * time.Second
)

func (a *api) registerStreams() {
	ok := func(description string) map[string]*huma.Response {
		return map[string]*huma.Response{"200": {Description: description,
			Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}}
	}
	limit := fmt.Sprintf(" You can have up to %d streams open at a time.", live.MaxConnections)
	messageResponses := ok("A stream of events named message. The data of an event is the message as getMessage returns it, and its id is the message's version. The server closes the stream after a few minutes; reconnect to continue.")
	messageResponses["204"] = &huma.Response{Description: "The message is final and Last-Event-ID is its latest version. Do not reconnect."}
	registerFor(a, identity.Read, huma.Operation{
		OperationID: "streamMessage", Method: http.MethodGet, Path: messagesPath + "/{id}/stream", Tags: []string{"messages"},
		Summary:     "Stream a message",
		Description: "Server-sent events. Sends the message immediately, and again whenever it changes." + limit,
		Responses:   messageResponses, Errors: []int{http.StatusNotFound},
		Metadata: readsQuery, // clients that imitate browsers add lastEventId
	}, a.streamMessage)
	registerFor(a, identity.Read, huma.Operation{
		OperationID: "streamMessages", Method: http.MethodGet, Path: messagesPath + "/stream", Tags: []string{"messages"},
		Summary:     "Stream changes to all messages",
		Description: "Server-sent events. Sends an event named changed whenever one of your messages may have changed. Its data is an empty object; use listMessages or getMessage to read the changes." + limit,
		Responses:   ok("A stream of events named changed. The server closes the stream after a few minutes; reconnect to continue."),
		Metadata:    readsQuery,
	}, a.streamMessages)
}

type streamInput struct {
	Request
	ID          string `path:"id" format:"uuid" doc:"The ID of the message."`
	LastEventID string `header:"Last-Event-ID" doc:"The id of the last event you received. Browsers send it automatically when they reconnect."`
}

func (a *api) streamMessage(ctx context.Context, principal identity.Principal, in *streamInput) (*huma.StreamResponse, error) {
	id, err := parseID(in.ID, mms.ErrNotFound)
	if err != nil {
		return nil, err
	}
	known := in.LastEventID
	watch := a.Live.Message(id) // before the first read, so that no change is missed in between
	done, err := a.isFinalAt(ctx, principal.WorkspaceID, id, known)
	if err != nil || done {
		watch.Stop()
		return &huma.StreamResponse{Body: func(ctx huma.Context) { ctx.SetStatus(http.StatusNoContent) }}, err
	}
	return a.stream(in.Request, principal, watch, func(ctx context.Context, send sendEvent) error {
		// The hub also notifies streams whose message has not changed, and all of them
		// at once. Reading the version is much cheaper than reading the message.
		if version, err := a.version(ctx, principal.WorkspaceID, id); err != nil || version == known {
			return err
		}
		message, err := a.read(ctx, principal.WorkspaceID, id)
		if err != nil {
			return err
		}
		known = strconv.FormatInt(message.Version, 10)
		return send("message", known, message)
	})
}

// isFinalAt reports whether the message is final and known is its latest version.
func (a *api) isFinalAt(ctx context.Context, workspace, id uuid.UUID, known string) (bool, error) {
	if version, err := a.version(ctx, workspace, id); err != nil || version != known {
		return false, err
	}
	message, err := a.read(ctx, workspace, id)
	return err == nil && message.Final, err
}

func (a *api) version(ctx context.Context, workspace, id uuid.UUID) (string, error) {
	n, err := a.Messages.Version(ctx, workspace, id)
	return strconv.FormatInt(n, 10), err
}

type messagesStreamInput struct{ Request }

func (a *api) streamMessages(_ context.Context, principal identity.Principal, in *messagesStreamInput) (*huma.StreamResponse, error) {
	connected := false
	return a.stream(in.Request, principal, a.Live.Workspace(principal.WorkspaceID), func(_ context.Context, send sendEvent) error {
		if !connected { // the client has just read its messages
			connected = true
			return nil
		}
		return send("changed", "", struct{}{})
	})
}

// sendEvent sends one event. An empty id is left out.
type sendEvent func(event, id string, data any) error

// pushFunc sends what has changed. An error ends the stream; when the client
// reconnects, the error is answered as a problem if it persists.
type pushFunc func(ctx context.Context, send sendEvent) error

// stream calls push once when the client connects and again on every notification
// of watch, until the client disconnects, its access is revoked, the process stops
// or streamLength has passed.
func (a *api) stream(q Request, principal identity.Principal, watch live.Watch, push pushFunc) (*huma.StreamResponse, error) {
	if q.r.Method == http.MethodHead {
		watch.Stop()
		return &huma.StreamResponse{Body: func(huma.Context) { setStreamHeader(q.w.Header()) }}, nil
	}
	connection, ok := a.Live.Connect(principal.UserID)
	if !ok {
		watch.Stop()
		return nil, newProblem(http.StatusTooManyRequests,
			fmt.Sprintf("You already have %d streams open, the maximum. Close one, or use listMessages instead.", live.MaxConnections)).retryAfter(heartbeatInterval)
	}
	s := &stream{
		w: q.w, control: http.NewResponseController(q.w), watch: watch, connection: connection, closed: a.Live.Closed(),
		push: push, length: jitter(streamLength),
	}
	if principal.Key != nil && principal.Key.ExpiresAt != nil {
		s.length = min(s.length, time.Until(*principal.Key.ExpiresAt))
	}
	return &huma.StreamResponse{Body: func(huma.Context) { s.serve(httpkit.WithoutDeadline(q.r.Context())) }}, nil
}

func jitter(d time.Duration) time.Duration { return d + rand.N(d) }

func setStreamHeader(header http.Header) {
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // nginx would buffer events otherwise
}

// stream is one open stream.
type stream struct {
	w          http.ResponseWriter
	control    *http.ResponseController
	watch      live.Watch
	connection live.Connection
	closed     <-chan struct{} // closed when the process stops
	push       pushFunc
	length     time.Duration
}

// serve runs the stream until it ends. ctx ends when the client disconnects.
func (s *stream) serve(ctx context.Context) {
	defer s.close()
	setStreamHeader(s.w.Header())
	if s.write(fmt.Sprintf("retry: %d\n\n", jitter(reconnectDelay).Milliseconds())) != nil || s.pushNews(ctx) != nil {
		return
	}
	end := time.NewTimer(s.length)
	defer end.Stop()
	heartbeat := time.NewTicker(heartbeatInterval)
	defer heartbeat.Stop()
	for {
		var err error
		select {
		case <-s.watch.Changes:
			err = s.pushNews(ctx)
		case <-heartbeat.C:
			err = s.write(": heartbeat\n\n")
		case <-s.connection.Ended:
			return
		case <-s.closed:
			return
		case <-end.C:
			return
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// errAccessRevoked ends a stream whose client has to authenticate again.
var errAccessRevoked = errors.New("the client's access was revoked")

func (s *stream) pushNews(ctx context.Context) error {
	select {
	case <-s.connection.Ended: // takes precedence over a change that arrived with it
		return errAccessRevoked
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	return s.push(ctx, s.sendEvent)
}

func (s *stream) sendEvent(event, id string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	return s.write(fmt.Sprintf("event: %s\n%sdata: %s\n\n", event, id, body))
}

// write sends text within writeTimeout. The deadline replaces the server's write
// timeout, which covers the whole response. Between writes there is no deadline:
// HTTP/2 resets a stream whose deadline passes even while nothing is written.
func (s *stream) write(text string) error {
	if err := setWriteDeadline(s.control, time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return fmt.Errorf("writing to a stream: %w", err)
	}
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("flushing a stream: %w", err)
	}
	return setWriteDeadline(s.control, time.Time{})
}

// close bounds what net/http writes to finish the response.
func (s *stream) close() {
	s.watch.Stop()
	s.connection.Close()
	_ = setWriteDeadline(s.control, time.Now().Add(writeTimeout)) // the connection may be gone
}

// extendWriteDeadline gives the response more time than the server's write timeout.
func extendWriteDeadline(w http.ResponseWriter, timeout time.Duration) error {
	return setWriteDeadline(http.NewResponseController(w), time.Now().Add(timeout))
}

func setWriteDeadline(control *http.ResponseController, deadline time.Time) error {
	err := control.SetWriteDeadline(deadline)
	if err != nil && !errors.Is(err, http.ErrNotSupported) { // httptest.ResponseRecorder has no deadlines
		return fmt.Errorf("setting a write deadline: %w", err)
	}
	return nil
}

package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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

	// writeTime is what one write may take.
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
	return a.stream(in.Request, watch, func(write func(event, id string, data any) error) error {
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
	return a.stream(in.Request, a.Live.Owner(who.UserID), func(write func(event, id string, data any) error) error {
		if first { // there is none yet: whoever connects has just read
			first = false
			return nil
		}
		return write("news", "", struct{}{})
	}), nil
}

// stream calls tell at once and whenever the watch has news, until the client is
// gone or the stream has been open for long enough. An error of tell ends it;
// the client connects again and is told why, if that can be told.
func (a *api) stream(q Request, watch live.Watch, tell func(write func(event, id string, data any) error) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(huma.Context) {
		defer watch.Stop()
		header := q.w.Header()
		header.Set("Content-Type", "text/event-stream")
		header.Set("X-Accel-Buffering", "no") // for nginx
		if q.r.Method == http.MethodHead {
			return
		}
		ctx, cancel := context.WithTimeout(q.r.Context(), streamLength)
		defer cancel()
		write := func(event, id string, data any) error { return sendEvent(q.w, event, id, data) }
		if send(q.w, "retry: 2000\n\n") != nil || tell(write) != nil {
			return
		}
		for a.awaitStream(ctx, q.w, watch) {
			if tell(write) != nil {
				return
			}
		}
	}}
}

// awaitStream keeps a stream alive until there is news; false says that it is
// over.
func (a *api) awaitStream(ctx context.Context, w http.ResponseWriter, watch live.Watch) bool {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-watch.News:
			return true
		case <-beat.C:
			if send(w, ": still here\n\n") != nil {
				return false
			}
		case <-a.Live.Closed():
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func sendEvent(w http.ResponseWriter, event, id string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	return send(w, fmt.Sprintf("event: %s\n%sdata: %s\n\n", event, id, body))
}

func send(w http.ResponseWriter, text string) error {
	if err := allow(w, writeTime); err != nil {
		return err
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return fmt.Errorf("writing to a stream: %w", err)
	}
	if err := http.NewResponseController(w).Flush(); err != nil {
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

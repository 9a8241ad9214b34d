package httpapi

import (
	"context"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const messagesPath = "/api/messages"

func (a *api) registerMessages() {
	registerFor(a, identity.Read, huma.Operation{
		OperationID: "getMessage", Method: http.MethodGet, Path: messagesPath + "/{id}", Tags: []string{"messages"},
		Summary: "Get a message",
		Description: "Returns a message with its attempts, events and replies. " +
			"To poll for changes, send the ETag of the last response as If-None-Match: the response is 304 if the message has not changed. " +
			"Add wait to receive the response as soon as the message changes (long polling).",
		Responses: map[string]*huma.Response{
			"200": {Description: "The message."},
			"304": {Description: "The message has not changed since the ETag in If-None-Match."},
		},
		Errors:   []int{http.StatusBadRequest, http.StatusNotFound},
		Metadata: readsQuery,
	}, a.getMessage)

	registerFor(a, identity.Read, huma.Operation{
		OperationID: "listMessages", Method: http.MethodGet, Path: messagesPath, Tags: []string{"messages"},
		Summary:     "List messages",
		Description: "Lists your messages, newest first. To get the next page, pass nextCursor as cursor.",
		Responses:   map[string]*huma.Response{"200": {Description: "One page of messages."}},
		Errors:      []int{http.StatusBadRequest},
		Metadata:    readsQuery,
	}, a.listMessages)
}

type messageInput struct {
	Request
	ID          string `path:"id" format:"uuid" doc:"The ID of the message."`
	IfNoneMatch string `header:"If-None-Match" doc:"The ETag of the last response."`
	Wait        string `query:"wait" doc:"With If-None-Match: how long to wait for a change, up to 60s." pattern:"^[0-9]{1,2}s$" example:"30s"`
}

type messageOutput struct {
	Status int
	ETag   string `header:"ETag" doc:"The version of the message."`
	Body   *History
}

func (a *api) getMessage(ctx context.Context, principal identity.Principal, in *messageInput) (*messageOutput, error) {
	id, err := parseID(in.ID, mms.ErrNotFound)
	if err != nil {
		return nil, err
	}
	wait, err := parseWait(in.r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = httpkit.WithDeadline(ctx, wait+httpkit.RequestTimeout)
		defer cancel()
	}
	if known := in.r.Header.Values("If-None-Match"); len(known) > 0 {
		version, err := a.awaitChange(ctx, in.Request, principal.WorkspaceID, id, strings.Join(known, ","), wait)
		if err != nil {
			return nil, err
		}
		if matches(strings.Join(known, ","), etag(version)) {
			return &messageOutput{Status: http.StatusNotModified, ETag: etag(version)}, nil
		}
	}
	body, err := a.read(ctx, principal.WorkspaceID, id)
	if err != nil {
		return nil, err
	}
	return &messageOutput{Status: http.StatusOK, ETag: etag(body.Version), Body: body}, nil
}

// read returns the workspace's message with its history and queue position.
func (a *api) read(ctx context.Context, workspace, id uuid.UUID) (*History, error) {
	history, err := a.Messages.Message(ctx, workspace, id)
	if err != nil {
		return nil, err
	}
	position, waiting, err := a.Messages.QueuePosition(ctx, workspace, id)
	if err != nil {
		return nil, err
	}
	replies, err := a.Messages.Replies(ctx, workspace, id)
	if err != nil {
		return nil, err
	}
	body := a.history(history)
	for _, r := range replies {
		body.Replies = append(body.Replies, Reply{ID: r.ID, Text: r.Text, MediaURLs: append([]string{}, r.MediaURLs...), Keyword: r.Keyword, ReceivedAt: r.ReceivedAt.UTC()})
	}
	if waiting {
		body.QueuePosition = &QueuePosition{Ahead: position.Ahead, WaitSeconds: int(math.Ceil(position.Wait.Seconds())), Explanation: position.Description()}
	}
	return body, nil
}

// awaitChange returns the message's version as soon as it differs from the known
// one, or unchanged after wait or when the process stops. It does not wait for a message
// that is final.
func (a *api) awaitChange(ctx context.Context, q Request, workspace, id uuid.UUID, known string, wait time.Duration) (int64, error) {
	if wait == 0 {
		return a.Messages.Version(ctx, workspace, id)
	}
	watch := a.Live.Message(id) // before the first read, so that no change is missed in between
	defer watch.Stop()
	if err := extendWriteDeadline(q.w, wait+writeTimeout); err != nil {
		return 0, err
	}
	if message, err := a.Messages.Message(ctx, workspace, id); err != nil || message.Final() {
		return message.Version, err
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		version, err := a.Messages.Version(ctx, workspace, id)
		if err != nil || !matches(known, etag(version)) {
			return version, err
		}
		select {
		case <-watch.Changes:
		case <-timeout.C:
			return version, nil
		case <-a.Live.Closed():
			return version, nil
		case <-ctx.Done():
			return version, ctx.Err()
		}
	}
}

// maxWait is the longest wait of a long poll.
const maxWait = 60 * time.Second

func parseWait(raw string) (time.Duration, error) {
	query, err := queryOf(raw)
	if err != nil {
		return 0, err
	}
	var violations invalid.Fields
	checkParameters(query, []string{"wait"}, &violations)
	value := strings.TrimSpace(query.Get("wait"))
	if value == "" {
		return 0, violations.Err()
	}
	wait, err := time.ParseDuration(value)
	if err != nil || wait < 0 || wait > maxWait {
		violations.Add("wait", "range", "must be a duration from 0s to 60s, like 30s")
	}
	return wait, violations.Err()
}

// parseID parses an id in a path, in upper or lower case (RFC 9562, section 4). For
// anything else it returns notFound.
func parseID(s string, notFound error) (uuid.UUID, error) {
	if id, ok := parseUUID(s); ok {
		return id, nil
	}
	return uuid.Nil, notFound
}

// uuidLength is the length of a UUID's text. uuid.Parse also reads longer and shorter
// forms.
const uuidLength = 36

func parseUUID(s string) (uuid.UUID, bool) {
	id, err := uuid.Parse(s)
	return id, err == nil && len(s) == uuidLength
}

// MessageList is one page of messages.
type MessageList struct {
	Messages   []Message `json:"messages" nullable:"false" doc:"The messages, newest first."`
	NextCursor string    `json:"nextCursor,omitempty" doc:"Pass this as cursor to get the next page. Absent on the last page. A page can be short or empty although more results exist."`
}

type listOutput struct {
	Body MessageList
}

func (a *api) listMessages(ctx context.Context, principal identity.Principal, in *listInput) (*listOutput, error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	list, next, err := a.Messages.Messages(ctx, principal.WorkspaceID, page)
	if err != nil {
		return nil, err
	}
	out := &listOutput{Body: MessageList{Messages: make([]Message, len(list))}}
	for i, m := range list {
		out.Body.Messages[i] = a.message(m)
	}
	if next != uuid.Nil {
		out.Body.NextCursor = cursorAfter(next)
	}
	return out, nil
}

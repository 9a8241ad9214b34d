package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const messagesPath = "/api/messages"

func (a *api) registerMessages() {
	registerFor(a, identity.ReadScope, huma.Operation{
		OperationID: "getMessage", Method: http.MethodGet, Path: messagesPath + "/{id}", Tags: []string{"messages"},
		Summary: "Read one message",
		Description: "Where one of your messages stands and all that happened to it. " +
			"Ask again with If-None-Match and the ETag of the last answer: 304 says cheaply that there is no news. " +
			"With wait as well, the answer comes as soon as there is news.",
		Responses: map[string]*huma.Response{
			"200": {Description: "The message."},
			"304": {Description: "No news since the ETag in If-None-Match."},
		},
		Errors: []int{http.StatusBadRequest, http.StatusNotFound},
	}, a.getMessage)

	registerFor(a, identity.ReadScope, huma.Operation{
		OperationID: "listMessages", Method: http.MethodGet, Path: messagesPath, Tags: []string{"messages"},
		Summary:     "List your messages",
		Description: "Your messages, newest first, page by page: pass nextCursor as cursor for the page behind.",
		Responses:   map[string]*huma.Response{"200": {Description: "One page of messages."}},
		Errors:      []int{http.StatusBadRequest},
	}, a.listMessages)
}

type messageInput struct {
	Request
	ID          string `path:"id" format:"uuid" doc:"The message's id."`
	IfNoneMatch string `header:"If-None-Match" doc:"The ETag of the last answer."`
	Wait        string `query:"wait" doc:"With If-None-Match: how long to wait for news, up to 60s." pattern:"^[0-9]{1,2}s$" example:"30s"`
}

type messageOutput struct {
	Status int
	ETag   string `header:"ETag" doc:"Changes with every event."`
	Body   *History
}

func (a *api) getMessage(ctx context.Context, who identity.Principal, in *messageInput) (*messageOutput, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	wait, err := parseWait(in.r.URL.Query())
	if err != nil {
		return nil, err
	}
	if known := in.r.Header.Values("If-None-Match"); len(known) > 0 {
		version, err := a.awaitNews(ctx, in.Request, who.UserID, id, strings.Join(known, ","), wait)
		if err != nil {
			return nil, err
		}
		if matches(strings.Join(known, ","), etag(version)) {
			return &messageOutput{Status: http.StatusNotModified, ETag: etag(version)}, nil
		}
	}
	body, err := a.read(ctx, who.UserID, id)
	if err != nil {
		return nil, err
	}
	return &messageOutput{Status: http.StatusOK, ETag: etag(body.Version), Body: body}, nil
}

// read reads the owner's message with its story and its place in line.
func (a *api) read(ctx context.Context, owner, id uuid.UUID) (*History, error) {
	history, err := a.Messages.Message(ctx, owner, id)
	if err != nil {
		return nil, err
	}
	place, waiting, err := a.Messages.QueuePosition(ctx, owner, id)
	if err != nil {
		return nil, err
	}
	replies, err := a.Messages.Replies(ctx, owner, id)
	if err != nil {
		return nil, err
	}
	body := a.history(history)
	for _, r := range replies {
		body.Replies = append(body.Replies, Reply{ID: r.ID, Text: r.Text, MediaURLs: append([]string{}, r.MediaURLs...), Keyword: r.Keyword, ReceivedAt: r.ReceivedAt.UTC()})
	}
	if waiting {
		body.QueuePosition = &QueuePosition{Ahead: place.Ahead, WaitSeconds: place.Wait.Seconds(), Explanation: place.Description()}
	}
	return body, nil
}

// awaitNews returns the message's version: at once when it is not the known one,
// else when there is news or the wait is over.
func (a *api) awaitNews(ctx context.Context, q Request, owner, id uuid.UUID, known string, wait time.Duration) (int64, error) {
	if wait == 0 {
		return a.Messages.Version(ctx, owner, id)
	}
	watch := a.Live.Message(id) // before the first look, so that nothing falls between
	defer watch.Stop()
	if err := extendWriteDeadline(q.w, wait+writeTimeout); err != nil {
		return 0, err
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		version, err := a.Messages.Version(ctx, owner, id)
		if err != nil || !matches(known, etag(version)) {
			return version, err
		}
		select {
		case <-watch.News:
		case <-over.C:
			return version, nil
		case <-a.Live.Closed():
			return version, nil
		case <-ctx.Done():
			return version, ctx.Err()
		}
	}
}

// maxWait is the longest that a client may wait for news.
const maxWait = 60 * time.Second

func parseWait(query url.Values) (time.Duration, error) {
	value := query.Get("wait")
	if value == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(value)
	if err != nil || wait < 0 || wait > maxWait {
		return 0, invalid.Fields{{Name: "wait", Rule: "range", Message: "must be a duration from 0s to 60s, like 30s"}}
	}
	return wait, nil
}

// parseID takes an id in the one form that it is given out in: any other path
// leads nowhere.
func parseID(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s {
		return uuid.Nil, mms.ErrNotFound
	}
	return id, nil
}

// MessageList is one page of messages.
type MessageList struct {
	Messages   []Message `json:"messages" nullable:"false" doc:"Newest first."`
	NextCursor string    `json:"nextCursor,omitempty" doc:"For the page behind this one; absent on the last. A search may give fewer messages than a page has, or none, and still have more behind."`
}

type listOutput struct {
	Body MessageList
}

func (a *api) listMessages(ctx context.Context, who identity.Principal, in *listInput) (*listOutput, error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	list, next, err := a.Messages.Messages(ctx, who.UserID, page)
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

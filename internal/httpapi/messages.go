package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"postcard/internal/identity"
	"postcard/internal/mms"
)

const messagesPath = "/api/messages"

func (a *api) registerMessages() {
	registerForUser(a, huma.Operation{
		OperationID: "getMessage", Method: http.MethodGet, Path: messagesPath + "/{id}", Tags: []string{"messages"},
		Summary: "Read one message",
		Description: "Where one of your messages stands and all that happened to it. " +
			"Ask again with If-None-Match and the ETag of the last answer: 304 says cheaply that there is no news.",
		Responses: map[string]*huma.Response{
			"200": {Description: "The message."},
			"304": {Description: "No news since the ETag in If-None-Match."},
		},
		Errors: []int{http.StatusNotFound},
	}, a.getMessage)

	registerForUser(a, huma.Operation{
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
	if known := in.r.Header.Values("If-None-Match"); len(known) > 0 {
		version, err := a.Messages.Version(ctx, who.UserID, id)
		if err != nil {
			return nil, err
		}
		if matches(strings.Join(known, ","), etag(version)) {
			return &messageOutput{Status: http.StatusNotModified, ETag: etag(version)}, nil
		}
	}
	history, err := a.Messages.Message(ctx, who.UserID, id)
	if err != nil {
		return nil, err
	}
	place, waiting, err := a.Messages.Place(ctx, who.UserID, id)
	if err != nil {
		return nil, err
	}
	body := a.history(history)
	if waiting {
		body.Line = &Line{Ahead: place.Ahead, WaitSeconds: place.Wait.Seconds()}
	}
	return &messageOutput{Status: http.StatusOK, ETag: etag(history.Version), Body: body}, nil
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
	NextCursor string    `json:"nextCursor,omitempty" doc:"For the page behind this one; absent on the last."`
}

type listOutput struct {
	Body MessageList
}

func (a *api) listMessages(ctx context.Context, who identity.Principal, in *listInput) (*listOutput, error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	list, more, err := a.Messages.Messages(ctx, who.UserID, page)
	if err != nil {
		return nil, err
	}
	out := &listOutput{Body: MessageList{Messages: make([]Message, len(list))}}
	for i, m := range list {
		out.Body.Messages[i] = a.message(m)
	}
	if more && len(list) > 0 {
		out.Body.NextCursor = cursorAfter(list[len(list)-1].ID)
	}
	return out, nil
}

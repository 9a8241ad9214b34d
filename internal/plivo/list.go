package plivo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// listParams are the filters of LIST. The SDK lacks from_number and to_number,
// and Plivo's docs too; who asks must filter again anyway.
type listParams struct {
	Limit     int    `url:"limit"`
	Offset    int    `url:"offset"`
	From      string `url:"message_time__gte"` // UTC (Plivo docs, list all messages)
	To        string `url:"message_time__lte"`
	Direction string `url:"message_direction"`
	Type      string `url:"message_type"`
	Sender    string `url:"from_number,omitempty"`
	Recipient string `url:"to_number,omitempty"`
}

const listTime = "2006-01-02 15:04:05.000000"

type listed struct {
	MessageUUID string   `json:"message_uuid"`
	FromNumber  string   `json:"from_number"`
	ToNumber    string   `json:"to_number"`
	MessageTime anything `json:"message_time"`
	State       string   `json:"message_state"`
	ErrorCode   anything `json:"error_code"`
	Units       anything `json:"units"`
	TotalAmount anything `json:"total_amount"`
	SentTime    anything `json:"message_sent_time"`
}

// anything takes a JSON string, number, boolean or null: one field of another
// type should not make a whole page unreadable.
type anything string

// UnmarshalJSON keeps a string's value and any other literal as it stands.
func (a *anything) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*a = anything(s)
		return nil
	}
	*a = anything(data)
	return nil
}

// List returns a page of what Plivo lists, and whether there may be more behind
// it. Plivo allows 20 such calls a minute per account.
func (c *Client) List(ctx context.Context, q mms.ListQuery) ([]mms.Listed, bool, error) {
	seen := exchange{mayWrite: func() bool { return true }}
	request, err := c.sdk.NewRequest(http.MethodGet, listParams{
		Limit: mms.ListPage, Offset: q.Offset, Direction: "outbound", Type: "mms",
		From: q.From.UTC().Format(listTime), To: q.To.UTC().Format(listTime),
		Sender: strings.TrimPrefix(string(q.Sender), "+"), Recipient: strings.TrimPrefix(string(q.Recipient), "+"),
	}, "Message")
	if err != nil {
		return nil, false, fmt.Errorf("writing a list request: %w", err)
	}
	var reply struct {
		Objects []listed `json:"objects"`
	}
	if err := c.sdk.ExecuteRequest(request.WithContext(seen.observe(ctx)), &reply); err != nil && seen.status/100 == 2 || seen.status == 0 {
		return nil, false, fmt.Errorf("listing messages at Plivo: %w", withoutURL(err))
	}
	if seen.status != http.StatusOK || reply.Objects == nil {
		return nil, false, fmt.Errorf("listing messages at Plivo: it answered %d", seen.status)
	}
	messages := make([]mms.Listed, len(reply.Objects))
	for i, o := range reply.Objects {
		if messages[i], err = o.message(); err != nil {
			return nil, false, err
		}
	}
	return messages, len(messages) == mms.ListPage, nil
}

// Get returns one message as Plivo has it, or mms.ErrNotFound.
func (c *Client) Get(ctx context.Context, plivoUUID string) (mms.Listed, error) {
	seen := exchange{mayWrite: func() bool { return true }}
	request, err := c.sdk.NewRequest(http.MethodGet, nil, "Message/%s", plivoUUID)
	if err != nil {
		return mms.Listed{}, fmt.Errorf("writing a request for a message: %w", err)
	}
	var reply listed
	err = c.sdk.ExecuteRequest(request.WithContext(seen.observe(ctx)), &reply)
	switch {
	case seen.status == http.StatusNotFound:
		return mms.Listed{}, mms.ErrNotFound
	case seen.status != 0 && seen.status != http.StatusOK:
		return mms.Listed{}, fmt.Errorf("asking Plivo for a message: it answered %d", seen.status)
	case err != nil:
		return mms.Listed{}, fmt.Errorf("asking Plivo for a message: %w", withoutURL(err))
	case reply.MessageUUID != plivoUUID:
		return mms.Listed{}, errors.New("asking Plivo for a message: it answered about another")
	}
	return reply.fields(), nil
}

// message fails where the time cannot be read: without it a match could be
// missed, and a message sent twice.
func (o listed) message() (mms.Listed, error) {
	m := o.fields()
	var err error
	m.At, err = parseTime(string(o.MessageTime))
	return m, err
}

// fields is all but the time.
func (o listed) fields() mms.Listed {
	m := mms.Listed{
		PlivoUUID: o.MessageUUID, From: o.FromNumber, To: o.ToNumber, State: o.State, Code: string(o.ErrorCode),
		Details: details(string(o.Units), string(o.TotalAmount), string(o.SentTime), ""),
	}
	if m.Code == "000" {
		m.Code = ""
	}
	return m
}

// parseTime reads the forms that Plivo shows: with the account's offset, with
// or without fractions of a second, or without an offset, which is UTC.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02 15:04:05Z07:00", time.RFC3339, "2006-01-02 15:04:05"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, nil
		}
	}
	return time.Time{}, errors.New("listing messages at Plivo: a time cannot be read")
}

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

// listParams are the filters of LIST. from_number and to_number come from Plivo's
// Python SDK (changelog of 4.58.3); neither the docs nor the Go SDK have them, so
// callers must filter the result again.
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

const listTimeFormat = "2006-01-02 15:04:05.000000"

// message is a message in a response to GET or LIST.
type message struct {
	MessageUUID string     `json:"message_uuid"`
	FromNumber  string     `json:"from_number"`
	ToNumber    string     `json:"to_number"`
	MessageTime anyLiteral `json:"message_time"`
	State       string     `json:"message_state"`
	ErrorCode   anyLiteral `json:"error_code"`
	Units       anyLiteral `json:"units"`
	TotalAmount anyLiteral `json:"total_amount"`
	SentTime    anyLiteral `json:"message_sent_time"`
}

// anyLiteral accepts any JSON value, so that a field of an unexpected type does
// not make a whole page unreadable.
type anyLiteral string

// UnmarshalJSON stores the value of a string, and the literal of any other value.
func (a *anyLiteral) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*a = anyLiteral(s)
		return nil
	}
	*a = anyLiteral(data)
	return nil
}

// List returns a page of outbound MMS, and whether there may be more pages. Plivo
// allows 20 such calls a minute per account (Plivo docs, list all messages).
func (c *Client) List(ctx context.Context, q mms.ListQuery) ([]mms.Listed, bool, error) {
	x := exchange{mayWrite: func() bool { return true }}
	request, err := c.sdk.NewRequest(http.MethodGet, listParams{
		Limit: mms.ListPage, Offset: q.Offset, Direction: "outbound", Type: "mms",
		From: q.From.UTC().Format(listTimeFormat), To: q.To.UTC().Format(listTimeFormat),
		Sender: strings.TrimPrefix(string(q.Sender), "+"), Recipient: strings.TrimPrefix(string(q.Recipient), "+"),
	}, "Message")
	if err != nil {
		return nil, false, fmt.Errorf("creating a list request: %w", err)
	}
	var body struct {
		Objects []message `json:"objects"`
	}
	if err := c.sdk.ExecuteRequest(request.WithContext(x.observe(ctx)), &body); err != nil && x.status/100 == 2 || x.status == 0 {
		return nil, false, fmt.Errorf("listing messages at Plivo: %w", withoutURL(err))
	}
	if x.status != http.StatusOK || body.Objects == nil {
		return nil, false, fmt.Errorf("listing messages at Plivo: got status %d without a list", x.status)
	}
	listed := make([]mms.Listed, len(body.Objects))
	for i, m := range body.Objects {
		if listed[i], err = m.listed(); err != nil {
			return nil, false, fmt.Errorf("listing messages at Plivo: %w", err)
		}
	}
	return listed, len(listed) == mms.ListPage, nil
}

// Get returns the message with the UUID, without the time at which Plivo received
// it. It returns mms.ErrNotFound if Plivo does not know the UUID.
func (c *Client) Get(ctx context.Context, plivoUUID string) (mms.Listed, error) {
	x := exchange{mayWrite: func() bool { return true }}
	request, err := c.sdk.NewRequest(http.MethodGet, nil, "Message/%s", plivoUUID)
	if err != nil {
		return mms.Listed{}, fmt.Errorf("creating a request for a message: %w", err)
	}
	var body message
	err = c.sdk.ExecuteRequest(request.WithContext(x.observe(ctx)), &body)
	switch {
	case x.status == http.StatusNotFound:
		return mms.Listed{}, mms.ErrNotFound
	case x.status != 0 && x.status != http.StatusOK:
		return mms.Listed{}, fmt.Errorf("getting a message from Plivo: got status %d", x.status)
	case err != nil:
		return mms.Listed{}, fmt.Errorf("getting a message from Plivo: %w", withoutURL(err))
	case body.MessageUUID != plivoUUID:
		return mms.Listed{}, errors.New("getting a message from Plivo: got a message with another UUID")
	}
	return body.withoutTime(), nil
}

// listed fails if the time is malformed: a match could be missed, and the message
// sent twice.
func (m message) listed() (mms.Listed, error) {
	l := m.withoutTime()
	var err error
	l.At, err = parseTime(string(m.MessageTime))
	return l, err
}

// withoutTime converts all fields but MessageTime.
func (m message) withoutTime() mms.Listed {
	return mms.Listed{
		PlivoUUID: m.MessageUUID, From: m.FromNumber, To: m.ToNumber, State: m.State, Code: mms.ErrorCode(string(m.ErrorCode)),
		Details: details(string(m.Units), string(m.TotalAmount), string(m.SentTime), ""),
	}
}

// parseTime parses the formats that Plivo uses: with the account's offset or
// without one, which means UTC, and with or without fractions of a second.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02 15:04:05Z07:00", time.RFC3339, "2006-01-02 15:04:05"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, nil
		}
	}
	return time.Time{}, errors.New("the time has an unknown format")
}

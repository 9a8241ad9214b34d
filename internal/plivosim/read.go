package plivosim

import (
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
)

// mdr is a message as GET and LIST return it. As at Plivo, it contains no text, media URL,
// callback URL or anything else that identifies the request.
type mdr struct {
	APIID       string  `json:"api_id,omitempty"` // GET only
	MessageUUID string  `json:"message_uuid"`
	MessageTime string  `json:"message_time"`
	SentTime    *string `json:"message_sent_time"`
	UpdatedTime string  `json:"message_updated_time"`
	Direction   string  `json:"message_direction"`
	State       State   `json:"message_state"`
	Type        string  `json:"message_type"`
	From        string  `json:"from_number"`
	To          string  `json:"to_number"`
	Units       int     `json:"units"`
	TotalRate   string  `json:"total_rate"`
	TotalAmount string  `json:"total_amount"`
	ErrorCode   *string `json:"error_code"` // null before it is sent; "000": no error
	PowerpackID *string `json:"powerpack_id"`
	RequesterIP string  `json:"requester_ip"`
	ResourceURI string  `json:"resource_uri"`
}

// accountZone is the UTC offset of times in GET and LIST. Plivo's examples show +05:30,
// which exposes clients that ignore the offset.
func accountZone() *time.Location {
	return time.FixedZone("", int((5*time.Hour + 30*time.Minute).Seconds()))
}

// get serves GET /v1/Account/{id}/Message/{uuid}/.
func (s *Simulator) get(x *exchange) {
	record, ok := s.find(x.epoch, chi.URLParam(x.r, "uuid"))
	if !ok {
		s.answer(x, refusal(http.StatusNotFound, "not found"), reply{})
		return
	}
	s.answer(x, answer{status: http.StatusOK, contentType: jsonType, body: func(r reply) string {
		record.APIID = r.apiID
		return jsonText(record)
	}}, reply{})
}

func (s *Simulator) find(e *epoch, uuid string) (mdr, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.messages {
		if m.entry.UUID == uuid && s.visible(m) {
			return s.mdr(m), true
		}
	}
	return mdr{}, false
}

// visible reports whether GET and LIST return the message yet.
func (s *Simulator) visible(m *message) bool {
	return s.cfg.Now().Sub(m.entry.AcceptedAt) >= s.scaled(s.cfg.VisibilityLag)
}

// mdr must be called with the epoch's mutex held.
func (s *Simulator) mdr(m *message) mdr {
	e := m.entry
	return mdr{
		MessageUUID: e.UUID,
		MessageTime: readTime(e.AcceptedAt),
		SentTime:    optional(readTime(e.reached(StateSent))),
		UpdatedTime: readTime(e.History[len(e.History)-1].At),
		Direction:   "outbound",
		State:       e.State,
		Type:        m.request.kind,
		From:        e.From,
		To:          m.shownTo(),
		Units:       1,
		TotalRate:   pricePerMMS,
		TotalAmount: m.amount(),
		ErrorCode:   optional(m.readCode()),
		PowerpackID: optional(m.request.powerpack),
		RequesterIP: m.requester,
		ResourceURI: "/v1/Account/" + s.cfg.AuthID + "/Message/" + e.UUID + "/",
	}
}

// readCode returns the error code for GET and LIST, which use "000" where callbacks have none.
func (m *message) readCode() string {
	if m.entry.State == StateQueued {
		return ""
	}
	return orElse(m.entry.ErrorCode, "000")
}

// readTime formats a time for GET and LIST, with a UTC offset. The zero time is empty.
func readTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(accountZone()).Format("2006-01-02 15:04:05.000000-07:00")
}

// optional returns nil, JSON's null, for an empty string.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

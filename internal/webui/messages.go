package webui

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"postcard/internal/identity"
	"postcard/internal/mms"
)

const pageSize = 25

// listPage is a page of the user's messages.
type listPage struct {
	Messages []mms.Message
	Status   mms.Status // the filter; empty for all
	Statuses []mms.Status
	Older    string // the address of the page behind; empty at the end
	First    bool   // nothing newer is left out
}

func (p *Pages) list(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	query := r.URL.Query()
	status := mms.Status(query.Get("status"))
	before, err := uuid.Parse(query.Get("before"))
	if (status != "" && !status.Known()) || (err != nil && query.Get("before") != "") {
		p.NotFound(w, r)
		return
	}
	messages, more, err := p.Messages.Messages(r.Context(), who.UserID, mms.Page{Status: status, Before: before, Limit: pageSize})
	if err != nil {
		p.failed(w, r, err)
		return
	}
	body := listPage{Messages: messages, Status: status, Statuses: mms.Statuses(), First: before == uuid.Nil}
	if more {
		older := url.Values{"before": {messages[len(messages)-1].ID.String()}}
		if status != "" {
			older.Set("status", string(status))
		}
		body.Older = "/messages?" + older.Encode()
	}
	f := frame{Title: "Messages", Refresh: slices.ContainsFunc(messages, func(m mms.Message) bool { return !m.Final() })}
	show(p, w, r, http.StatusOK, "list", f, body)
}

// messagePage is a message with its whole story, newest first.
type messagePage struct {
	mms.History
	Place   string        // in its sender's line; empty when it stands in none
	Replies []mms.Inbound // newest first
	Steps   []step        // the events, newest first
	Side    string        // whose matter a failure at Plivo is; empty where there was none
}

// step is an event and how long after the one before it came.
type step struct {
	mms.Event
	After time.Duration // 0 for the first
}

func stepsOf(events []mms.Event) []step {
	steps := make([]step, len(events))
	for i, e := range events {
		steps[i].Event = e
		if i > 0 {
			steps[i].After = max(0, e.At.Sub(events[i-1].At))
		}
	}
	slices.Reverse(steps)
	return steps
}

func (p *Pages) message(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	history, err := p.Messages.Message(r.Context(), who.UserID, id)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	place, waiting, err := p.Messages.Place(r.Context(), who.UserID, id)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	replies, err := p.Messages.Replies(r.Context(), who.UserID, id)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	body := messagePage{History: history, Replies: replies, Steps: stepsOf(history.Events)}
	if history.PlivoCode != "" {
		body.Side = mms.ExplainPlivoCode(history.PlivoCode).Side.Words()
	}
	if waiting {
		body.Place = placeWords(place)
	}
	f := frame{Title: "Message to " + history.Recipient.International(), Refresh: !history.Final()}
	show(p, w, r, http.StatusOK, "message", f, body)
}

// placeWords says how long a message has to wait, as far as can be known.
func placeWords(place mms.Place) string {
	if place.Ahead == 0 && place.Wait < time.Minute {
		return "It is next in line."
	}
	minutes := int(math.Ceil(place.Wait.Minutes()))
	return fmt.Sprintf("%d %s ahead, about %d %s.", place.Ahead, plural(place.Ahead, "message"), minutes, plural(minutes, "minute"))
}

func (p *Pages) decide(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	if !p.readForm(w, r) {
		return
	}
	decision := mms.Decision(r.PostForm.Get("decision"))
	if !slices.Contains(mms.Decisions(), decision) {
		p.showError(w, r, http.StatusBadRequest, "Not understood", "There is no such decision.")
		return
	}
	err = p.Messages.Decide(r.Context(), who.UserID, id, decision)
	switch {
	case errors.Is(err, mms.ErrNotHeld):
		p.Door.Flash(r.Context(), "There was nothing to decide any more.")
	case err != nil:
		p.failed(w, r, err)
		return
	}
	http.Redirect(w, r, "/messages/"+id.String(), http.StatusSeeOther)
}

// resume ends a pause by an admin's word.
func (p *Pages) resume(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	ended, err := p.Pauses.Resume(r.Context(), mms.Reason(r.PostForm.Get("cause")))
	if err != nil {
		p.failed(w, r, err)
		return
	}
	if ended {
		p.Door.Flash(r.Context(), "Sending goes on.")
	}
	http.Redirect(w, r, "/messages", http.StatusSeeOther)
}

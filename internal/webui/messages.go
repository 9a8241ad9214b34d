package webui

import (
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const pageSize = 25

// listPage is a page of the user's messages.
type listPage struct {
	Messages []mms.Message
	Status   mms.Status // the filters; empty for all
	To       string     // as it was typed
	Text     string
	Batch    string
	NoMatch  string // why the recipient cannot be searched for
	Query    template.URL
	Statuses []mms.Status
	Older    string // the address of the page behind; empty at the end
	First    bool   // nothing newer is left out
	Waiting  bool   // some wait for their turn, or for the end of a pause
}

func (p *Pages) list(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	query := r.URL.Query()
	body := listPage{Status: mms.Status(query.Get("status")), To: query.Get("to"), Text: query.Get("text"), Statuses: mms.Statuses()}
	before, err := idIn(query, "before")
	batch, batchErr := idIn(query, "batch")
	if (body.Status != "" && !body.Status.Known()) || err != nil || batchErr != nil || !searchable(body.Text) {
		p.NotFound(w, r)
		return
	}
	filter := mms.Filter{Status: body.Status, Text: body.Text, Batch: batch}
	filters := url.Values{}
	if body.Status != "" {
		filters.Set("status", string(body.Status))
	}
	if body.Text != "" {
		filters.Set("text", body.Text)
	}
	if batch != uuid.Nil {
		body.Batch = batch.String()
		filters.Set("batch", body.Batch)
	}
	if body.To != "" {
		if filter.Recipient, err = mms.ParseTypedPhoneNumber(body.To); err != nil {
			body.NoMatch = err.Error()
			show(p, w, r, http.StatusOK, "list", frame{Title: "Messages"}, body)
			return
		}
		filters.Set("to", string(filter.Recipient))
	}
	body.Query, body.First = template.URL(filters.Encode()), before == uuid.Nil
	messages, next, err := p.Messages.Messages(r.Context(), who.UserID, mms.Page{Filter: filter, Before: before, Limit: pageSize})
	if err != nil {
		p.failed(w, r, err)
		return
	}
	body.Messages = messages
	body.Waiting = slices.ContainsFunc(messages, func(m mms.Message) bool { return m.Status == mms.Queued })
	if next != uuid.Nil {
		filters.Set("before", next.String())
		body.Older = "/messages?" + filters.Encode()
	}
	f := frame{Title: "Messages", Refresh: slices.ContainsFunc(messages, func(m mms.Message) bool { return !m.Final() })}
	show(p, w, r, http.StatusOK, "list", f, body)
}

func idIn(query url.Values, name string) (uuid.UUID, error) {
	if query.Get(name) == "" {
		return uuid.Nil, nil
	}
	return uuid.Parse(query.Get(name))
}

func searchable(text string) bool {
	return len(text) <= 200 && utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}

// messagePage is a message with its whole story, newest first.
type messagePage struct {
	mms.History
	QueuePosition string        // in its sender's line; empty when it stands in none
	Replies       []mms.Inbound // newest first
	Steps         []step        // the events, newest first
	Once          string        // makes sending it again the same request, until something happens to it
	NextAttempt   *time.Time    // of a message that was tried before; nil where it stands in line
	Responsible   string        // whose matter a failure at Plivo is; empty where there was none
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
	place, waiting, err := p.Messages.QueuePosition(r.Context(), who.UserID, id)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	replies, err := p.Messages.Replies(r.Context(), who.UserID, id)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	body := messagePage{History: history, Replies: replies, Steps: stepsOf(history.Events), Once: fmt.Sprintf("%s-%d", history.ID, history.Version)}
	if history.PlivoCode != "" {
		body.Responsible = mms.ExplainPlivoCode(history.PlivoCode).Responsible.Description()
	}
	if waiting {
		body.QueuePosition = place.Description()
	} else if history.Attempts > 0 {
		body.NextAttempt = history.NextAttemptAt
	}
	f := frame{Title: "Message to " + history.Recipient.International(), Refresh: !history.Final()}
	show(p, w, r, http.StatusOK, "message", f, body)
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
		p.Auth.Flash(r.Context(), "There was nothing to decide any more.")
	case err != nil:
		p.failed(w, r, err)
		return
	}
	http.Redirect(w, r, "/messages/"+id.String(), http.StatusSeeOther)
}

// Cancelable reports whether the message can be taken back.
func (m messagePage) Cancelable() bool { return m.Status == mms.Queued || m.Status == mms.Scheduled }

// Repeatable reports whether the message can be sent again.
func (m messagePage) Repeatable() bool { return m.Final() || m.Status == mms.Sent }

func (p *Pages) cancel(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	err = p.Messages.Cancel(r.Context(), who.UserID, id)
	switch {
	case errors.Is(err, mms.ErrTooLate):
		p.Auth.Flash(r.Context(), "It was too late to cancel the message.")
	case err != nil:
		p.failed(w, r, err)
		return
	default:
		p.Auth.Flash(r.Context(), "The message is canceled.")
	}
	http.Redirect(w, r, "/messages/"+id.String(), http.StatusSeeOther)
}

func (p *Pages) resend(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	if !p.readForm(w, r) {
		return
	}
	once := mms.Idempotency{Key: onceKey(r), Fingerprint: intake.Fingerprint("resend", mms.CreateParams{}, id.String())}
	again, err := p.Intake.Resend(r.Context(), submitterOf(who), id, once)
	var faults invalid.Fields
	var full mms.CapError
	switch {
	case err == nil:
		p.Auth.Flash(r.Context(), "This is the new message; the old one is as it was.")
		http.Redirect(w, r, "/messages/"+again.ID.String(), http.StatusSeeOther)
		return
	case errors.Is(err, mms.ErrNotFinal), errors.Is(err, mms.ErrInFlight), errors.As(err, &faults), errors.As(err, &full):
		p.Auth.Flash(r.Context(), "It was not sent again: "+err.Error()+".")
		http.Redirect(w, r, "/messages/"+id.String(), http.StatusSeeOther)
	default:
		p.failed(w, r, err)
	}
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
		p.Auth.Flash(r.Context(), "That pause is over.")
	}
	http.Redirect(w, r, "/messages", http.StatusSeeOther)
}

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
	"github.com/postcard-mms/postcard/internal/pasted"
)

// pageSize is the number of rows on a page of a list.
const pageSize = 25

// listPage is a page of the user's messages. Empty filters match everything.
type listPage struct {
	Messages    []mms.Message
	Status      mms.Status
	To          string // as the user typed it
	Text        string
	Batch       string
	SearchError string       // why To is not a phone number
	TextError   string       // why Text cannot be searched for
	Query       template.URL // the filters
	Statuses    []mms.Status // to choose from
	Older       string       // URL of the next page; empty on the last
	First       bool         // this is the first page
	Waiting     bool         // some messages are queued, so their positions change
}

func (p *Pages) list(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	query := r.URL.Query()
	body := listPage{Status: mms.Status(query.Get("status")), To: pasted.Clean(query.Get("to")), Text: strings.TrimSpace(query.Get("text")), Statuses: mms.Statuses()}
	before, err := queryID(query, "before")
	batch, batchErr := queryID(query, "batch")
	if (body.Status != "" && !body.Status.Known()) || err != nil || batchErr != nil {
		p.NotFound(w, r)
		return
	}
	if body.TextError = textError(body.Text); body.TextError != "" {
		body.Text = strings.ToValidUTF8(body.Text, "\uFFFD")
		render(p, w, r, http.StatusOK, "list", layout{Title: "Messages"}, body)
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
			body.SearchError = err.Error()
			render(p, w, r, http.StatusOK, "list", layout{Title: "Messages"}, body)
			return
		}
		filters.Set("to", string(filter.Recipient))
	}
	body.Query, body.First = template.URL(filters.Encode()), before == uuid.Nil
	messages, next, err := p.Messages.Messages(r.Context(), principal.WorkspaceID, mms.Page{Filter: filter, Before: before, Limit: pageSize})
	if err != nil {
		p.fail(w, r, err)
		return
	}
	body.Messages = messages
	body.Waiting = slices.ContainsFunc(messages, func(m mms.Message) bool { return m.Status == mms.Queued })
	if next != uuid.Nil {
		filters.Set("before", next.String())
		body.Older = "/messages?" + filters.Encode()
	}
	l := layout{Title: "Messages", Refresh: slices.ContainsFunc(messages, func(m mms.Message) bool { return !m.Final() })}
	render(p, w, r, http.StatusOK, "list", l, body)
}

// queryID returns uuid.Nil if the parameter is missing.
func queryID(query url.Values, name string) (uuid.UUID, error) {
	if query.Get(name) == "" {
		return uuid.Nil, nil
	}
	return uuid.Parse(query.Get(name))
}

// textError says why Postgres cannot search for text; "" if it can.
func textError(text string) string {
	switch {
	case !utf8.ValidString(text):
		return "must be valid UTF-8"
	case strings.ContainsRune(text, 0):
		return "must not contain NUL characters"
	case len(text) > 200:
		return "must be at most 200 bytes long"
	}
	return ""
}

// messagePage shows a message and its history.
type messagePage struct {
	mms.History
	QueuePosition  string          // empty unless the message is waiting
	Replies        []mms.Inbound   // newest first
	Timeline       []timelineEntry // newest first
	IdempotencyKey string          // of a resend; changes with the message's version
	NextAttempt    *time.Time      // of a retry; nil while the message is waiting
	Responsible    string          // who is responsible for a failure at Plivo; empty if there was none
}

// timelineEntry is an event with the time since the previous one, 0 for the first.
type timelineEntry struct {
	mms.Event
	After time.Duration
}

// OtherMessage is the id of the message that repeats this one, or that this one repeats, if
// the event is about one. The detail ends with it.
func (e timelineEntry) OtherMessage() string {
	if e.Kind != mms.EventResent && e.Kind != mms.EventRefitted {
		return ""
	}
	id, err := uuid.Parse(e.Detail[strings.LastIndexByte(e.Detail, ' ')+1:])
	if err != nil {
		return ""
	}
	return id.String()
}

// newTimeline takes the events oldest first.
func newTimeline(events []mms.Event) []timelineEntry {
	timeline := make([]timelineEntry, len(events))
	for i, e := range events {
		timeline[i].Event = e
		if i > 0 {
			timeline[i].After = max(0, e.At.Sub(events[i-1].At))
		}
	}
	slices.Reverse(timeline)
	return timeline
}

func (p *Pages) message(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	history, err := p.Messages.Message(r.Context(), principal.WorkspaceID, id)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	position, waiting, err := p.Messages.QueuePosition(r.Context(), principal.WorkspaceID, id)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	replies, err := p.Messages.Replies(r.Context(), principal.WorkspaceID, id)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	body := messagePage{
		History: history, Replies: replies, Timeline: newTimeline(history.Events),
		IdempotencyKey: fmt.Sprintf("%s-%d", history.ID, history.Version),
	}
	if history.PlivoCode != "" {
		body.Responsible = mms.ExplainPlivoCode(history.PlivoCode).Responsible.Description()
	}
	if waiting {
		body.QueuePosition = position.Description()
	} else if history.Attempts > 0 {
		body.NextAttempt = history.NextAttemptAt
	}
	l := layout{Title: "Message to " + history.Recipient.International(), Refresh: !history.Final()}
	render(p, w, r, http.StatusOK, "message", l, body)
}

// Cancelable reports whether the message can still be canceled.
func (m messagePage) Cancelable() bool { return m.Status == mms.Queued || m.Status == mms.Scheduled }

// Resendable reports whether the message can be resent as a new one.
func (m messagePage) Resendable() bool { return m.Final() || m.Status == mms.Sent }

// shownPicture is a picture of a message.
type shownPicture struct {
	Position int    // from 1
	URL      string // empty for an upload
	Copy     bool   // Postcard has a copy to show
}

// Pictures are the message's pictures, in order: those behind URLs first.
func (m messagePage) Pictures() []shownPicture {
	list := make([]shownPicture, len(m.MediaURLs)+len(m.Uploads))
	for i := range list {
		list[i] = shownPicture{Position: i + 1, Copy: i < len(m.Copies) && m.Copies[i]}
		if i < len(m.MediaURLs) {
			list[i].URL = m.MediaURLs[i]
		}
	}
	return list
}

// HasBatch reports whether the message belongs to a batch.
func (m messagePage) HasBatch() bool { return m.BatchID != uuid.Nil }

// IsResend reports whether the message repeats an earlier one.
func (m messagePage) IsResend() bool { return m.ResendOf != uuid.Nil }

func (p *Pages) decide(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
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
		p.renderError(w, r, http.StatusBadRequest, "Invalid decision", "The form contains an unknown decision. Nothing was changed. Go back and choose one of the buttons.")
		return
	}
	err = p.Messages.Decide(r.Context(), principal.WorkspaceID, id, decision)
	switch {
	case errors.Is(err, mms.ErrNotHeld):
		p.Auth.Flash(r.Context(), "Nothing was changed: the message no longer needs a decision.")
	case err != nil:
		p.fail(w, r, err)
		return
	}
	p.redirect(w, r, "/messages/"+id.String())
}

func (p *Pages) cancel(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	err = p.Messages.Cancel(r.Context(), principal.WorkspaceID, id)
	switch {
	case errors.Is(err, mms.ErrTooLate):
		p.Auth.Flash(r.Context(), "The message was not canceled: sending has already started or finished.")
	case err != nil:
		p.fail(w, r, err)
		return
	default:
		p.Auth.Flash(r.Context(), "The message is canceled.")
	}
	p.redirect(w, r, "/messages/"+id.String())
}

func (p *Pages) resend(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	if !p.readForm(w, r) {
		return
	}
	idempotency := mms.Idempotency{Key: formKey(r), Fingerprint: intake.Fingerprint("resend", mms.CreateParams{}, id.String())}
	result, err := p.Intake.Resend(r.Context(), submitterOf(principal), id, idempotency)
	var violations invalid.Fields
	var capped mms.CapError
	var unknown mms.OutcomeUnknownError
	switch {
	case err == nil:
		p.Auth.Flash(r.Context(), "The message was resent. This is the new message; the original is unchanged.")
		p.redirect(w, r, "/messages/"+result.ID.String())
		return
	case errors.Is(err, mms.ErrNotFinal), errors.Is(err, mms.ErrInFlight), errors.As(err, &violations), errors.As(err, &capped):
		p.Auth.Flash(r.Context(), "The message was not resent: "+err.Error()+".")
		p.redirect(w, r, "/messages/"+id.String())
	case errors.As(err, &unknown):
		w.Header().Set("Retry-After", retryAfter)
		p.renderError(w, r, p.logFailure(r, err), "Not confirmed", "Postcard’s database did not answer in time, so it is unknown whether the message was resent. "+
			"Reload this page to submit the form again: the message will not be resent twice. If it was resent, it is in your list of messages.")
	default:
		p.fail(w, r, err)
	}
}

// resume ends a pause of all sending.
func (p *Pages) resume(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	cause := r.PostForm.Get("cause")
	if !mms.IsPrintable(cause) { // Postgres would reject it
		p.renderError(w, r, http.StatusBadRequest, "Invalid form", "The form names no cause of a pause. Nothing was changed. Go back and submit it again.")
		return
	}
	ended, err := p.Pauses.Resume(r.Context(), mms.Reason(cause))
	if err != nil {
		p.fail(w, r, err)
		return
	}
	if ended {
		p.Auth.Flash(r.Context(), "Sending has resumed.")
	}
	p.redirect(w, r, "/messages")
}

package webui

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/pasted"
)

// composePage is the form for a new message. Form fields hold what the user typed.
type composePage struct {
	composeForm
	Media          []mediaInput
	Uploads        []chosenUpload
	IdempotencyKey string // so that submitting the form twice creates one message
	Senders        []senderChoice
	MaxText        int // characters
	MaxMedia       int
	MoreOptions    bool // whether they are shown
	ChecksLinks    bool
	AskFirstFrame  bool // offer to send the first frame of animations that are too large
	Summary        []inputError
	Errors         map[string]string // by id of the input
	Error          string            // about the form as a whole
	MaybeCreated   string            // id of the message, when it is unknown whether it was created
	LoggedOut      bool              // the session ended before the form was submitted
}

// composeForm is what the user typed.
type composeForm struct {
	To, From, Text, SendAt, ValidFor, Priority string
	FirstFrame                                 bool
	mediaURLs, mediaIDs                        []string
}

func composeFormOf(r *http.Request) composeForm {
	get := r.PostForm.Get
	return composeForm{
		To: pasted.Clean(get("to")), From: get("from"), Text: get("text"), SendAt: get("sendAt"), ValidFor: get("validFor"), Priority: get("priority"), FirstFrame: r.PostForm.Has(formFirstFrame),
		mediaURLs: words(r.PostForm["mediaUrl"]), mediaIDs: words(r.PostForm["mediaId"]),
	}
}

// lifetime is a choice of how long a message may wait to be sent.
type lifetime struct{ Seconds, Title string }

// Lifetimes are the choices. The empty one is the default.
func (composePage) Lifetimes() []lifetime {
	return []lifetime{{"", "3 hours"}, {"3600", "1 hour"}, {"86400", "1 day"}, {"604800", "7 days"}}
}

// Priorities are the choices. The empty one is the default.
func (composePage) Priorities() []string { return []string{"", "high", "bulk"} }

// params returns what the form asks for.
func (f composeForm) params() mms.CreateParams {
	params := mms.CreateParams{To: f.To, From: f.From, Text: f.Text, MediaURLs: f.mediaURLs, MediaIDs: f.mediaIDs, Priority: f.Priority, SendAt: f.SendAt}
	if len(f.SendAt) == len("2006-01-02T15:04") { // as browsers send it, in UTC as the label says
		params.SendAt += ":00Z"
	}
	if seconds, err := strconv.Atoi(f.ValidFor); err == nil {
		params.ValidFor = &seconds
	}
	return params
}

// senderChoice is one of our numbers with its rate, like "15 messages a minute". That is
// empty while it is unknown.
type senderChoice struct {
	Number mms.PhoneNumber
	Rate   string
}

// senderChoices returns the senders. Rates are left out if they cannot be read: the form is
// of use without them.
func (p *Pages) senderChoices(ctx context.Context) []senderChoice {
	senders := p.activeSenders()
	intervals, err := p.Rates.SenderIntervals(ctx, senders)
	if err != nil {
		p.Logger.WarnContext(ctx, "senders shown without their rates", slog.Any("error", err))
	}
	choices := make([]senderChoice, len(senders))
	for i, number := range senders {
		choices[i].Number = number
		if interval, ok := intervals[number]; ok {
			choices[i].Rate = mms.DescribeRate(interval)
		}
	}
	return choices
}

// mediaInput is one of the inputs for pictures.
type mediaInput struct {
	ID    string
	Label string
	Value string
	Error string
}

// inputError is a line of the error summary that links to the input.
type inputError struct{ ID, Message string }

// blankMedia is the number of picture inputs on an empty form; the script adds
// more, up to mms.MaxMedia.
const blankMedia = 1

// maxInputs bounds the picture inputs of a form that is shown again. Our own form
// never has more than mms.MaxMedia, but a forged one could.
const maxInputs = 2 * mms.MaxMedia

func (p *Pages) composeForm(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	p.renderCompose(w, r, http.StatusOK, p.newCompose("", composeForm{}, nil))
}

func (p *Pages) renderCompose(w http.ResponseWriter, r *http.Request, status int, body composePage) {
	if principal, ok := identity.PrincipalFrom(r.Context()); ok {
		body.Senders = p.senderChoices(r.Context())
		body.Uploads = p.chosenUploads(r.Context(), principal.WorkspaceID, body.mediaIDs)
	}
	render(p, w, r, status, "compose", layout{Title: "New message"}, body)
}

func (p *Pages) compose(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	files, ok := p.readPictureForm(w, r, principal.WorkspaceID)
	if !ok {
		return
	}
	received := r.Context() // its deadline may have passed while the pictures came in
	timeout := httpkit.RequestTimeout
	if len(r.PostForm["mediaId"]) > 1 { // they share the budget, so each may have to be made smaller
		timeout = sharingTimeout
	}
	answering, cancel := httpkit.WithDeadline(received, timeout)
	defer cancel()
	r = r.WithContext(answering)
	form, key := composeFormOf(r), r.PostForm.Get("idempotencyKey")
	if len(files) > 0 {
		p.renderCompose(w, r, http.StatusUnprocessableEntity, p.newCompose(key, form, files))
		return
	}
	message, err := p.createComposed(r, principal, form)
	var violations invalid.Fields
	var capped mms.CapError
	errors.As(err, &violations)
	switch {
	case err == nil:
		if received.Err() == nil { // else the session, and with it the notice, cannot be stored
			p.Auth.Flash(r.Context(), createdNotice(form.To, message.Message))
		}
		p.redirect(w, r, "/messages/"+message.ID.String())
	case violations != nil:
		p.renderCompose(w, r, http.StatusUnprocessableEntity, p.newCompose(key, form, violations))
	case errors.Is(err, mms.ErrKeyReused):
		body := p.newCompose("", form, nil)
		body.Error = "This form was already submitted with different input: see your messages. Press Send message to create another message."
		p.renderCompose(w, r, http.StatusUnprocessableEntity, body)
	case errors.As(err, &capped), errors.Is(err, mms.ErrInFlight):
		body := p.newCompose(key, form, nil)
		body.Error = "The message was not sent: " + err.Error() + "."
		p.renderCompose(w, r, http.StatusUnprocessableEntity, body)
	default:
		p.composeFailed(w, r, p.newCompose(key, form, nil), err)
	}
}

func (p *Pages) createComposed(r *http.Request, principal identity.Principal, form composeForm) (mms.CreateResult, error) {
	params := form.params()
	fingerprint, err := p.fingerprint(r.Context(), principal.WorkspaceID, "compose", params)
	if err != nil {
		return mms.CreateResult{}, err
	}
	params.Idempotency = mms.Idempotency{Key: formKey(r), Fingerprint: fingerprint}
	return p.Intake.CreateMessage(r.Context(), submitterOf(principal), params)
}

// composeLoggedOut shows the submitted form again after the session has ended. It
// shows the user's input only, nothing that requires a session. The idempotency
// key stays the same, because an earlier request may have created the message. Uploads
// stay by their ids, which are of use to their workspace alone. The form says which files must be
// chosen again: without that, the message would be sent without them.
func (p *Pages) composeLoggedOut(w http.ResponseWriter, r *http.Request) {
	dropped, ok := p.readPictureForm(w, r, uuid.Nil)
	if !ok {
		return
	}
	body := p.newCompose(r.PostForm.Get("idempotencyKey"), composeFormOf(r), dropped)
	body.LoggedOut = true
	for _, id := range body.mediaIDs[:min(len(body.mediaIDs), mms.MaxUploads)] {
		body.Uploads = append(body.Uploads, chosenUpload{ID: id})
	}
	p.renderCompose(w, r, http.StatusForbidden, body)
}

// createdNotice repeats the recipient if it was typed in another form, and warns about
// a number that may not exist.
func createdNotice(typed string, m mms.Message) string {
	notice := "The message is created and will be sent."
	if typed != string(m.Recipient) {
		notice += fmt.Sprintf(" The recipient “%s” was read as %s.", typed, m.Recipient.International())
	}
	if warning := m.Recipient.Warning(); warning != "" {
		notice += " " + warning
	}
	return notice
}

// composeFailed shows the form again after an error of the store. The message may
// have been stored, for example if the connection broke during the commit; the
// form keeps its idempotency key so that a second submission cannot send twice.
func (p *Pages) composeFailed(w http.ResponseWriter, r *http.Request, body composePage, err error) {
	status := p.logFailure(r, err)
	body.Error = "Postcard could not confirm that the message was created. Press Send message again: it will not be sent twice."
	var unknown mms.OutcomeUnknownError
	switch {
	case errors.As(err, &unknown):
		body.MaybeCreated = unknown.ID.String()
	case errors.Is(err, media.ErrBusy):
		body.Error = "The message was not created: too many pictures are being worked on at the moment. Press Send message again in a minute."
	case errors.Is(err, mms.ErrNotStored):
		body.Error = "The message was not created: Postcard cannot use its database at the moment. Press Send message again in a minute."
	}
	p.renderCompose(w, r, status, body)
}

// words returns the words of all values: links have no spaces.
func words(values []string) []string {
	var out []string
	for _, v := range values {
		for _, word := range strings.Fields(v) {
			if word = pasted.Trim(word); word != "" {
				out = append(out, word)
			}
		}
	}
	return out
}

// newCompose fills the form. An empty key makes it a new request.
func (p *Pages) newCompose(key string, form composeForm, violations invalid.Fields) composePage {
	if key == "" {
		key = rand.Text()
	}
	form.mediaURLs = form.mediaURLs[:min(len(form.mediaURLs), maxInputs)]
	c := composePage{
		composeForm: form, IdempotencyKey: key,
		MaxText: mms.MaxText, MaxMedia: mms.MaxMedia, Errors: map[string]string{}, ChecksLinks: p.Links != nil,
		AskFirstFrame: form.FirstFrame || asksFirstFrame(violations),
		MoreOptions:   form.From+form.SendAt+form.ValidFor+form.Priority != "",
	}
	for _, v := range violations {
		id, label := inputFor(v.Name)
		message := label + " " + v.Message
		c.Summary = append(c.Summary, inputError{ID: id, Message: message})
		if c.Errors[id] == "" {
			c.Errors[id] = message
		}
		c.MoreOptions = c.MoreOptions || slices.Contains([]string{"from", "sendAt", "validFor", "priority"}, id)
	}
	for i := range max(blankMedia, len(form.mediaURLs)) {
		input := mediaInput{ID: mediaID(i), Label: mediaLabel(i), Error: c.Errors[mediaID(i)]}
		if i < len(form.mediaURLs) {
			input.Value = form.mediaURLs[i]
		}
		c.Media = append(c.Media, input)
	}
	return c
}

func mediaID(i int) string { return fmt.Sprintf("media-%d", i) }

func mediaLabel(i int) string {
	if i == 0 {
		return "Link to a picture"
	}
	return fmt.Sprintf("Link to picture %d", i+1)
}

// inputFor returns the id and the label of the input for a field of the API.
func inputFor(field string) (id, label string) {
	var i int
	if _, err := fmt.Sscanf(field, "mediaUrls[%d]", &i); err == nil {
		return mediaID(i), mediaLabel(i)
	}
	switch field {
	case "to", "from", "text", "sendAt", "validFor", "priority":
		return field, fieldLabel(field)
	default:
		return "file", "Picture"
	}
}

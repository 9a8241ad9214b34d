package webui

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/pasted"
)

// composePage is the form for a new message. Form fields hold what the user typed.
type composePage struct {
	To             string
	From           string
	Text           string
	Media          []mediaInput
	IdempotencyKey string // so that submitting the form twice creates one message
	Senders        []mms.PhoneNumber
	MaxText        int // characters
	MaxMedia       int
	Summary        []inputError
	Errors         map[string]string // by id of the input
	Error          string            // about the form as a whole
	MaybeCreated   string            // id of the message, when it is unknown whether it was created
	LoggedOut      bool              // the session ended before the form was submitted
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
const blankMedia = 3

// maxInputs bounds the picture inputs of a form that is shown again. Our own form
// never has more than mms.MaxMedia, but a forged one could.
const maxInputs = 2 * mms.MaxMedia

func (p *Pages) composeForm(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	p.renderCompose(w, r, http.StatusOK, p.newCompose("", "", "", "", nil, nil))
}

func (p *Pages) renderCompose(w http.ResponseWriter, r *http.Request, status int, body composePage) {
	render(p, w, r, status, "compose", layout{Title: "New message"}, body)
}

func (p *Pages) compose(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	to, from, text := pasted.Clean(r.PostForm.Get("to")), r.PostForm.Get("from"), r.PostForm.Get("text")
	media, key := nonEmpty(r.PostForm["mediaUrl"]), r.PostForm.Get("idempotencyKey")
	params := mms.CreateParams{To: to, From: from, Text: text, MediaURLs: media}
	params.Idempotency = mms.Idempotency{Key: formKey(r), Fingerprint: intake.Fingerprint("compose", params)}
	message, err := p.Intake.CreateMessage(r.Context(), submitterOf(principal), params)
	var violations invalid.Fields
	var capped mms.CapError
	errors.As(err, &violations)
	switch {
	case err == nil:
		p.Auth.Flash(r.Context(), createdNotice(to, message.Message))
		p.redirect(w, r, "/messages/"+message.ID.String())
	case violations != nil:
		p.renderCompose(w, r, http.StatusUnprocessableEntity, p.newCompose(key, to, from, text, media, violations))
	case errors.Is(err, mms.ErrKeyReused):
		body := p.newCompose("", to, from, text, media, nil)
		body.Error = "This form was already submitted with different input: see your messages. Press Send message to create another message."
		p.renderCompose(w, r, http.StatusUnprocessableEntity, body)
	case errors.As(err, &capped), errors.Is(err, mms.ErrInFlight):
		body := p.newCompose(key, to, from, text, media, nil)
		body.Error = "The message was not sent: " + err.Error() + "."
		p.renderCompose(w, r, http.StatusUnprocessableEntity, body)
	default:
		p.composeFailed(w, r, p.newCompose(key, to, from, text, media, nil), err)
	}
}

// composeLoggedOut shows the submitted form again after the session has ended. It
// shows the user's input only, nothing that requires a session. The idempotency
// key stays the same, because an earlier request may have created the message.
func (p *Pages) composeLoggedOut(w http.ResponseWriter, r *http.Request) {
	if !p.readForm(w, r) {
		return
	}
	body := p.newCompose(r.PostForm.Get("idempotencyKey"), r.PostForm.Get("to"), r.PostForm.Get("from"), r.PostForm.Get("text"), nonEmpty(r.PostForm["mediaUrl"]), nil)
	body.LoggedOut, body.Senders = true, nil
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
	case errors.Is(err, mms.ErrNotStored):
		body.Error = "The message was not created: Postcard cannot use its database at the moment. Press Send message again in a minute."
	}
	p.renderCompose(w, r, status, body)
}

func nonEmpty(values []string) []string {
	var out []string
	for _, v := range values {
		if v = pasted.Trim(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// newCompose fills the form. An empty key makes it a new request.
func (p *Pages) newCompose(key, to, from, text string, media []string, violations invalid.Fields) composePage {
	if key == "" {
		key = rand.Text()
	}
	media = media[:min(len(media), maxInputs)]
	c := composePage{
		To: to, From: from, Text: text, IdempotencyKey: key, Senders: p.Senders,
		MaxText: mms.MaxText, MaxMedia: mms.MaxMedia, Errors: map[string]string{},
	}
	for _, v := range violations {
		id, label := inputFor(v.Name)
		message := label + " " + v.Message
		c.Summary = append(c.Summary, inputError{ID: id, Message: message})
		if c.Errors[id] == "" {
			c.Errors[id] = message
		}
	}
	for i := range max(blankMedia, len(media)) {
		input := mediaInput{ID: mediaID(i), Label: mediaLabel(i), Error: c.Errors[mediaID(i)]}
		if i < len(media) {
			input.Value = media[i]
		}
		c.Media = append(c.Media, input)
	}
	return c
}

func mediaID(i int) string { return fmt.Sprintf("media-%d", i) }

func mediaLabel(i int) string {
	if i == 0 {
		return "Picture"
	}
	return fmt.Sprintf("Picture %d", i+1)
}

// inputFor returns the id and the label of the input for a field of the API.
func inputFor(field string) (id, label string) {
	var i int
	if _, err := fmt.Sscanf(field, "mediaUrls[%d]", &i); err == nil {
		return mediaID(i), mediaLabel(i)
	}
	switch field {
	case "to", "from", "text":
		return field, fieldLabel(field)
	default:
		return mediaID(0), mediaLabel(0)
	}
}

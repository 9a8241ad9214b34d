package webui

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

// composePage is the form for a new message, with what was typed.
type composePage struct {
	To      string
	From    string
	Text    string
	Media   []mediaInput
	Once    string // makes a second click the same request
	Senders []mms.PhoneNumber
	MaxText int
	Summary []inputError
	Errors  map[string]string // by the id of the input
	Error   string            // about the form as a whole

	LoggedOut bool // whose form this is has to log in before it can be sent
}

// mediaInput is one of the inputs for pictures.
type mediaInput struct {
	ID    string
	Label string
	Value string
	Error string
}

// inputError is one line of the summary, which leads to its input.
type inputError struct{ ID, Message string }

// blankMedia is how many inputs for pictures a fresh form has; the script adds
// more, up to mms.MaxMedia.
const blankMedia = 3

// maxInputs is how many pictures are given back at most: our own form has no more than
// mms.MaxMedia, and others could ask for very large answers.
const maxInputs = 2 * mms.MaxMedia

func (p *Pages) composeForm(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	show(p, w, r, http.StatusOK, "compose", frame{Title: "New message"}, p.newCompose("", "", "", "", nil, nil))
}

func (p *Pages) compose(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	to, from, text := strings.TrimSpace(r.PostForm.Get("to")), r.PostForm.Get("from"), r.PostForm.Get("text")
	media, once := nonEmpty(r.PostForm["mediaUrl"]), r.PostForm.Get("once")
	draft := mms.CreateParams{To: to, From: from, Text: text, MediaURLs: media}
	draft.Idempotency = mms.Idempotency{Key: onceKey(r), Fingerprint: intake.Fingerprint("compose", draft)}
	read, readErr := mms.ParseTypedPhoneNumber(to)
	if readErr == nil {
		draft.To = string(read)
	}
	message, err := p.Intake.CreateMessage(r.Context(), submitterOf(who), draft)
	var faults invalid.Fields
	var full mms.CapError
	if errors.As(err, &faults) && readErr != nil && to != "" {
		faults = withRecipient(faults, readErr)
	}
	switch {
	case err == nil:
		p.Auth.Flash(r.Context(), createdNotice(to, message.Message))
		http.Redirect(w, r, "/messages/"+message.ID.String(), http.StatusSeeOther)
	case faults != nil:
		body := p.newCompose(once, to, from, text, media, faults)
		show(p, w, r, http.StatusUnprocessableEntity, "compose", frame{Title: "New message"}, body)
	case errors.Is(err, mms.ErrKeyReused):
		body := p.newCompose("", to, from, text, media, nil)
		body.Error = "This form was sent before, with other words: see your messages. Press Send to send this as a message of its own."
		show(p, w, r, http.StatusUnprocessableEntity, "compose", frame{Title: "New message"}, body)
	case errors.As(err, &full), errors.Is(err, mms.ErrInFlight):
		body := p.newCompose(once, to, from, text, media, nil)
		body.Error = "Nothing was sent: " + err.Error() + "."
		show(p, w, r, http.StatusUnprocessableEntity, "compose", frame{Title: "New message"}, body)
	default:
		p.notStored(w, r, p.newCompose(once, to, from, text, media, nil), err)
	}
}

// composeAgain gives a form back that was filled in by somebody who has been logged out
// meanwhile: nothing that was typed is lost. It shows nothing but that. The form may have
// been sent before, and its answer lost: it stays the same request.
func (p *Pages) composeAgain(w http.ResponseWriter, r *http.Request) {
	if !p.readForm(w, r) {
		return
	}
	body := p.newCompose(r.PostForm.Get("once"), r.PostForm.Get("to"), r.PostForm.Get("from"), r.PostForm.Get("text"), nonEmpty(r.PostForm["mediaUrl"]), nil)
	body.LoggedOut, body.Senders = true, nil
	show(p, w, r, http.StatusForbidden, "compose", frame{Title: "New message"}, body)
}

// withRecipient puts the form's own words, which know more spellings than the
// API, in place of the API's.
func withRecipient(faults invalid.Fields, err error) invalid.Fields {
	for i, f := range faults {
		if f.Name == "to" {
			faults[i].Message = err.Error()
		}
	}
	return faults
}

// createdNotice says what was made of the number where it was spelled otherwise.
func createdNotice(typed string, m mms.Message) string {
	if typed == string(m.Recipient) {
		return "The message is stored and on its way."
	}
	return fmt.Sprintf("The message is stored and on its way. We read “%s” as %s.", typed, m.Recipient.International())
}

// notStored gives the form back: nothing that was typed is lost. Whether the message was
// stored cannot be known where the database went away at the end; the form stays the same
// request, so that it is not sent twice.
func (p *Pages) notStored(w http.ResponseWriter, r *http.Request, body composePage, err error) {
	status := p.logFailure(r, err)
	body.Error = "Postcard could not make sure that the message was stored. Please press Send again: it will not be sent twice."
	show(p, w, r, status, "compose", frame{Title: "New message"}, body)
}

func nonEmpty(values []string) []string {
	var out []string
	for _, v := range values {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// newCompose fills the form. It is the request that once stands for; "" for a new one.
func (p *Pages) newCompose(once, to, from, text string, media []string, faults invalid.Fields) composePage {
	if once == "" {
		once = rand.Text()
	}
	media = media[:min(len(media), maxInputs)]
	c := composePage{To: to, From: from, Text: text, Once: once, Senders: p.Senders, MaxText: mms.MaxText, Errors: map[string]string{}}
	for _, f := range faults {
		id, label := inputOf(f.Name)
		words := label + " " + f.Message
		c.Summary = append(c.Summary, inputError{ID: id, Message: words})
		if c.Errors[id] == "" {
			c.Errors[id] = words
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

// inputOf finds the input that a field of the API stands for on this page.
func inputOf(field string) (id, label string) {
	var i int
	if _, err := fmt.Sscanf(field, "mediaUrls[%d]", &i); err == nil {
		return mediaID(i), mediaLabel(i)
	}
	switch field {
	case "to":
		return "to", "Recipient"
	case "from":
		return "from", "Sender"
	case "text":
		return "text", "Text"
	default:
		return mediaID(0), mediaLabel(0)
	}
}

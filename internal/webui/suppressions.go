package webui

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/pasted"
)

const suppressionsPath = "/admin/suppressions"

// suppressionsPage lists the opt-outs, with a search form and a form that adds
// more. Form fields hold what the user typed.
type suppressionsPage struct {
	List        []mms.Suppression
	Search      string
	SearchError string // why Search is not a phone number
	More        string // URL of the next page; empty on the last
	EverySender bool   // an opt-out holds for every sender
	Senders     []mms.PhoneNumber
	Numbers     string
	Sender      string
	Violations  invalid.Fields
}

func (p *Pages) suppressions(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	p.renderSuppressions(w, r, http.StatusOK, suppressionsPage{})
}

// renderSuppressions adds the list that the URL selects.
func (p *Pages) renderSuppressions(w http.ResponseWriter, r *http.Request, status int, body suppressionsPage) {
	query := r.URL.Query()
	body.EverySender, body.Senders, body.Search = p.everySender(), p.allSenders(), pasted.Clean(query.Get("recipient"))
	var recipient mms.PhoneNumber
	if body.Search != "" {
		var err error
		if recipient, err = mms.ParseTypedPhoneNumber(body.Search); err != nil {
			body.SearchError = err.Error()
			render(p, w, r, status, "suppressions", layout{Title: "Opt-outs"}, body)
			return
		}
	}
	after := mms.Suppression{Recipient: mms.PhoneNumber(query.Get("after")), Sender: mms.PhoneNumber(query.Get("sender"))}
	list, more, err := p.Suppressions.Suppressions(r.Context(), recipient, after, pageSize)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	body.List = list
	if more {
		last := list[len(list)-1]
		body.More = suppressionsPath + "?" + url.Values{"recipient": {body.Search}, "after": {string(last.Recipient)}, "sender": {string(last.Sender)}}.Encode()
	}
	render(p, w, r, status, "suppressions", layout{Title: "Opt-outs"}, body)
}

func (p *Pages) everySender() bool { return p.OptOutScope != mms.OptOutsOfOneSender }

func (p *Pages) addSuppressions(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	body := suppressionsPage{Numbers: r.PostForm.Get("numbers"), Sender: r.PostForm.Get("sender")}
	list, err := mms.ParseSuppressions(body.Numbers, body.Sender, p.allSenders())
	if errors.As(err, &body.Violations) {
		p.renderSuppressions(w, r, http.StatusUnprocessableEntity, body)
		return
	}
	added, err := p.Suppressions.AddSuppressions(r.Context(), list)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.Auth.Flash(r.Context(), optOutsAddedNotice(added, len(list)-added))
	p.redirect(w, r, suppressionsPath)
}

func optOutsAddedNotice(added, existing int) string {
	notice := fmt.Sprintf("Added %s.", mms.Counted(added, "opt-out"))
	if existing > 0 {
		notice += fmt.Sprintf(" %d existed already.", existing)
	}
	return notice
}

func (p *Pages) removeSuppression(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	sender, recipient := mms.PhoneNumber(r.PostForm.Get("sender")), mms.PhoneNumber(r.PostForm.Get("recipient"))
	removed, err := p.Suppressions.RemoveSuppression(r.Context(), sender, recipient)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	if removed {
		p.Auth.Flash(r.Context(), p.optOutRemovedNotice(sender, recipient))
	}
	p.redirect(w, r, suppressionsPath)
}

func (p *Pages) optOutRemovedNotice(sender, recipient mms.PhoneNumber) string {
	notice := fmt.Sprintf("Removed the opt-outs of %s.", recipient.International())
	switch {
	case p.everySender():
	case sender == "":
		notice = fmt.Sprintf("Removed the opt-out of %s for all senders.", recipient.International())
	default:
		notice = fmt.Sprintf("Removed the opt-out of %s for sender %s.", recipient.International(), sender.International())
	}
	return notice + " If the recipient texted STOP, Plivo keeps rejecting messages until they text START."
}

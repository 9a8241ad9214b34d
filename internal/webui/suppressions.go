package webui

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const suppressionsPath = "/admin/suppressions"

// suppressionsPage lists the pairs of numbers between which nothing is sent.
type suppressionsPage struct {
	List       []mms.Suppression
	Search     string // as it was typed
	NoMatch    string // why the search could not be made
	More       string // the address of the page behind; empty at the end
	Senders    []mms.PhoneNumber
	Numbers    string // as they were typed
	Sender     string
	Violations invalid.Fields
}

func (p *Pages) suppressions(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	p.showSuppressions(w, r, http.StatusOK, suppressionsPage{})
}

// showSuppressions completes the page with the list that the address asks for.
func (p *Pages) showSuppressions(w http.ResponseWriter, r *http.Request, status int, body suppressionsPage) {
	query := r.URL.Query()
	body.Senders, body.Search = p.Senders, query.Get("recipient")
	var recipient mms.PhoneNumber
	if body.Search != "" {
		var err error
		if recipient, err = mms.ParseTypedPhoneNumber(body.Search); err != nil {
			body.NoMatch = err.Error()
			show(p, w, r, status, "suppressions", frame{Title: "Suppressed numbers"}, body)
			return
		}
	}
	after := mms.Suppression{Recipient: mms.PhoneNumber(query.Get("after")), Sender: mms.PhoneNumber(query.Get("sender"))}
	list, more, err := p.Suppressions.Suppressions(r.Context(), recipient, after, pageSize)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	body.List = list
	if more {
		last := list[len(list)-1]
		body.More = suppressionsPath + "?" + url.Values{"recipient": {body.Search}, "after": {string(last.Recipient)}, "sender": {string(last.Sender)}}.Encode()
	}
	show(p, w, r, status, "suppressions", frame{Title: "Suppressed numbers"}, body)
}

func (p *Pages) addSuppressions(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	body := suppressionsPage{Numbers: r.PostForm.Get("numbers"), Sender: r.PostForm.Get("sender")}
	list, err := mms.ParseSuppressions(body.Numbers, body.Sender, p.Senders)
	if errors.As(err, &body.Violations) {
		p.showSuppressions(w, r, http.StatusUnprocessableEntity, body)
		return
	}
	added, err := p.Suppressions.AddSuppressions(r.Context(), list)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	p.Auth.Flash(r.Context(), fmt.Sprintf("%s added, %d had been there.", mms.Counted(added, "pair"), len(list)-added))
	http.Redirect(w, r, suppressionsPath, http.StatusSeeOther)
}

func (p *Pages) removeSuppression(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	sender, recipient := mms.PhoneNumber(r.PostForm.Get("sender")), mms.PhoneNumber(r.PostForm.Get("recipient"))
	lifted, err := p.Suppressions.RemoveSuppression(r.Context(), sender, recipient)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	if lifted {
		p.Auth.Flash(r.Context(), fmt.Sprintf("Messages from %s to %s are sent again. If the recipient opted out at Plivo, only their START ends that.", sender.International(), recipient.International()))
	}
	http.Redirect(w, r, suppressionsPath, http.StatusSeeOther)
}

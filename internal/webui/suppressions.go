package webui

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"postcard/internal/identity"
	"postcard/internal/invalid"
	"postcard/internal/mms"
)

const suppressionsPath = "/admin/suppressions"

// suppressionsPage lists the pairs of numbers between which nothing is sent.
type suppressionsPage struct {
	List    []mms.Suppression
	Search  string // as it was typed
	NoMatch string // why the search could not be made
	More    string // the address of the page behind; empty at the end
	Senders []mms.Number
	Numbers string // as they were typed
	Sender  string
	Faults  invalid.Fields
}

func (p *Pages) suppressions(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	p.showSuppressions(w, r, http.StatusOK, suppressionsPage{})
}

// showSuppressions completes the page with the list that the address asks for.
func (p *Pages) showSuppressions(w http.ResponseWriter, r *http.Request, status int, body suppressionsPage) {
	query := r.URL.Query()
	body.Senders, body.Search = p.Senders, query.Get("recipient")
	var recipient mms.Number
	if body.Search != "" {
		var err error
		if recipient, err = mms.ReadNumber(body.Search); err != nil {
			body.NoMatch = err.Error()
			show(p, w, r, status, "suppressions", frame{Title: "Suppressed numbers"}, body)
			return
		}
	}
	after := mms.Suppression{Recipient: mms.Number(query.Get("after")), Sender: mms.Number(query.Get("sender"))}
	list, more, err := p.Suppressed.Suppressions(r.Context(), recipient, after, pageSize)
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

func (p *Pages) suppress(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	body := suppressionsPage{Numbers: r.PostForm.Get("numbers"), Sender: r.PostForm.Get("sender")}
	list, err := mms.ReadSuppressions(body.Numbers, body.Sender, p.Senders)
	if errors.As(err, &body.Faults) {
		p.showSuppressions(w, r, http.StatusUnprocessableEntity, body)
		return
	}
	added, err := p.Suppressed.Suppress(r.Context(), list)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	p.Door.Flash(r.Context(), fmt.Sprintf("%s added, %d had been there.", mms.Counted(added, "pair"), len(list)-added))
	http.Redirect(w, r, suppressionsPath, http.StatusSeeOther)
}

func (p *Pages) lift(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	if !p.readForm(w, r) {
		return
	}
	sender, recipient := mms.Number(r.PostForm.Get("sender")), mms.Number(r.PostForm.Get("recipient"))
	lifted, err := p.Suppressed.Lift(r.Context(), sender, recipient)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	if lifted {
		p.Door.Flash(r.Context(), fmt.Sprintf("Messages from %s to %s are sent again. If the recipient opted out at Plivo, only their START ends that.", sender.International(), recipient.International()))
	}
	http.Redirect(w, r, suppressionsPath, http.StatusSeeOther)
}

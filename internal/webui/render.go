package webui

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

//go:embed templates/*.html
var templateFiles embed.FS

// templates are the pages by name, each with the layout around it.
type templates map[string]*template.Template

var pageNames = []string{"login", "signup", "list", "compose", "message", "suppressions", "overview", "keys", "webhooks", "webhook", "batches", "newbatch", "batch", "error"}

func (p *Pages) parse() (templates, error) {
	functions := template.FuncMap{
		"static": p.static.url,
		"when":   when,
		"since":  func(from time.Time, to *time.Time) string { return duration(to.Sub(from)) },
		"took":   duration,
		"add":    func(a, b int) int { return a + b },
		"units":  func(n *int) string { return mms.Counted(*n, "unit") },
		"number": func(n mms.PhoneNumber) string { return n.International() },
	}
	parsed := templates{}
	for _, name := range pageNames {
		t, err := template.New("layout.html").Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("reading the template %s: %w", name, err)
		}
		parsed[name] = t
	}
	return parsed, nil
}

// frame is what the layout shows around every page.
type frame struct {
	Title     string
	User      *identity.Principal // nil for strangers
	Simulated bool
	Signup    bool   // strangers may sign up
	Flash     string // a notice of the page before
	Pauses    []mms.Pause
	Failing   []webhook.Endpoint // the user's, that were switched off
	Refresh   bool               // without JavaScript, load again in a few seconds
}

// page is a frame with what stands in it.
type page[T any] struct {
	frame
	Body T
}

// show renders a page to the end before anything is written.
func show[T any](p *Pages, w http.ResponseWriter, r *http.Request, status int, name string, f frame, body T) {
	p.fill(r.Context(), &f)
	var out bytes.Buffer
	if err := p.templates[name].Execute(&out, page[T]{f, body}); err != nil {
		p.Logger.ErrorContext(r.Context(), "rendering a page", slog.String("page", name), slog.Any("error", err))
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // the browser may be gone
}

// fill completes the frame. What cannot be read is left out: the page itself
// matters more.
func (p *Pages) fill(ctx context.Context, f *frame) {
	f.Simulated, f.Signup = p.Simulated, p.Auth.SignupOpen()
	who, ok := identity.PrincipalFrom(ctx)
	if !ok {
		return
	}
	f.User = &who
	f.Flash = p.Auth.PopFlash(ctx)
	webhooks, err := p.Webhooks.Webhooks(ctx, who.UserID)
	if err != nil {
		p.Logger.WarnContext(ctx, "webhooks cannot be shown", slog.Any("error", err))
	}
	f.Failing = slices.DeleteFunc(webhooks, func(w webhook.Endpoint) bool { return w.DisabledAt == nil })
	if f.Pauses, err = p.Pauses.Pauses(ctx); err != nil {
		p.Logger.WarnContext(ctx, "pauses cannot be shown", slog.Any("error", err))
	}
}

type errorPage struct {
	Message   string
	RequestID string
}

// showError is the one page for everything that goes wrong; it reveals nothing
// of the inside.
func (p *Pages) showError(w http.ResponseWriter, r *http.Request, status int, title, words string) {
	show(p, w, r, status, "error", frame{Title: title}, errorPage{Message: words, RequestID: httpkit.RequestID(r.Context())})
}

// NotFound says that there is no such page.
func (p *Pages) NotFound(w http.ResponseWriter, r *http.Request) {
	p.showError(w, r, http.StatusNotFound, "Not found", "There is no such page, or it is not yours to see.")
}

// Forbidden says that a form came from another site.
func (p *Pages) Forbidden(w http.ResponseWriter, _ *http.Request) {
	// It stands before the session, so the frame cannot be filled.
	http.Error(w, "The form comes from another site's page.", http.StatusForbidden)
}

// Broken says that something went wrong on our side. It may stand where no
// session has been loaded.
func (p *Pages) Broken(w http.ResponseWriter, r *http.Request) {
	bare(w, r, http.StatusInternalServerError, "Something went wrong on our side.")
}

// Unavailable answers when a session cannot be loaded, and logs why.
func (p *Pages) Unavailable(w http.ResponseWriter, r *http.Request, err error) {
	p.Logger.ErrorContext(r.Context(), "a session cannot be loaded", slog.Any("error", err))
	status := http.StatusInternalServerError
	if errors.Is(err, mms.ErrUnavailable) {
		status = http.StatusServiceUnavailable
	}
	bare(w, r, status, "Postcard cannot reach its database at present. Please try again in a moment.")
}

// bare is an error without a frame, for where there is no session to fill it.
func bare(w http.ResponseWriter, r *http.Request, status int, words string) {
	http.Error(w, fmt.Sprintf("%s\nRequest %s", words, httpkit.RequestID(r.Context())), status)
}

// failed answers for an error of the store: logged once, told in general.
func (p *Pages) failed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, mms.ErrNotFound) || errors.Is(err, mms.ErrBatchNotFound) || errors.Is(err, webhook.ErrNotFound) {
		p.NotFound(w, r)
		return
	}
	if p.logFailure(r, err) == http.StatusServiceUnavailable {
		p.showError(w, r, http.StatusServiceUnavailable, "Not available", "Postcard cannot reach its database at present. Please try again in a moment.")
		return
	}
	p.showError(w, r, http.StatusInternalServerError, "Something went wrong", "It is on our side, and has been noted. Please try again.")
}

// logFailure logs an error of the store, unless the client has gone, which is then most
// likely the cause, and returns the status to answer with.
func (p *Pages) logFailure(r *http.Request, err error) int {
	if !errors.Is(r.Context().Err(), context.Canceled) {
		p.Logger.ErrorContext(r.Context(), "a page failed", slog.String("request_id", httpkit.RequestID(r.Context())), slog.Any("error", err))
	}
	if errors.Is(err, mms.ErrUnavailable) {
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func (p *Pages) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	p.showError(w, r, http.StatusMethodNotAllowed, "Not possible", "This page cannot be used in that way.")
}

// stamp is a time for people and for the script that rewrites it to their zone.
type stamp struct{ Machine, Text string }

func when(t time.Time) stamp {
	t = t.UTC()
	return stamp{Machine: t.Format(time.RFC3339Nano), Text: t.Format("2 Jan 2006, 15:04:05 UTC")}
}

// duration is rounded to what people care about.
func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

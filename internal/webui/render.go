package webui

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

//go:embed templates/*.html
var templateFiles embed.FS

const layoutFile = "templates/layout.html"

// templates maps the name of each page to its template, which includes the
// layout.
type templates map[string]*template.Template

func (p *Pages) parseTemplates() (templates, error) {
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("listing templates: %w", err)
	}
	parsed := templates{}
	for _, file := range files {
		if file == layoutFile {
			continue
		}
		t, err := template.New(path.Base(layoutFile)).Funcs(p.functions()).ParseFS(templateFiles, layoutFile, file)
		if err != nil {
			return nil, fmt.Errorf("parsing %s: %w", file, err)
		}
		parsed[strings.TrimSuffix(path.Base(file), ".html")] = t
	}
	return parsed, nil
}

// functions are available in every template.
func (p *Pages) functions() template.FuncMap {
	return template.FuncMap{
		"base":     func() string { return p.base }, // precedes each path of ours
		"static":   func(name string) string { return p.base + p.static.url(name) },
		"when":     when,
		"since":    func(from time.Time, to *time.Time) string { return duration(to.Sub(from)) },
		"duration": duration,
		"ago":      func(now, at time.Time) string { return duration(max(now.Sub(at), 0).Round(time.Second)) },
		"add":      func(a, b int) int { return a + b },
		"units":    func(n *int) string { return mms.Counted(*n, "unit") },
		"number":   func(n mms.PhoneNumber) string { return n.International() },
		"label":    fieldLabel,
	}
}

// layout is the data of layout.html, which surrounds every page. Handlers set
// Title and Refresh; fillLayout sets the rest.
type layout struct {
	Title            string
	Refresh          bool                // reload every few seconds if there is no JavaScript
	User             *identity.Principal // nil for visitors
	Unfinished       bool                // the visitor has logged in, except for the second factor
	Simulated        bool
	Signup           bool   // sign-up is open
	SSO              string // the name of the provider of single sign-on; empty: none
	Flash            string // notice set by the previous request
	Pauses           []mms.Pause
	SilenceOff       bool               // DOUBT_SILENCE was wrong and is off; for admins
	Zone             string             // the user's time zone; empty: the browser's
	DisabledWebhooks []webhook.Endpoint // of the user
}

// page is the data of a whole page.
type page[T any] struct {
	layout
	Body T
}

// render writes the page only after the template has succeeded, so that an
// error never follows half a page.
func render[T any](p *Pages, w http.ResponseWriter, r *http.Request, status int, name string, l layout, body T) {
	p.fillLayout(r.Context(), &l)
	var out bytes.Buffer
	if err := p.templates[name].Execute(&out, page[T]{l, body}); err != nil {
		p.Logger.ErrorContext(r.Context(), "page not rendered", slog.String("page", name), slog.Any("error", err))
		http.Error(w, "Postcard could not render this page. Please try again.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // fails only if the browser has disconnected
}

// fillLayout leaves out what cannot be read: the page itself matters more than
// the notices above it.
func (p *Pages) fillLayout(ctx context.Context, l *layout) {
	l.Simulated, l.Signup, l.SSO = p.Simulated, p.Auth.SignupOpen(), p.Auth.SSOName()
	if _, ok := auth.MustSetUpFactor(ctx); ok {
		l.Unfinished = true
	}
	principal, ok := identity.PrincipalFrom(ctx)
	if !ok {
		return
	}
	l.User = &principal
	l.Flash = p.Auth.PopFlash(ctx)
	if user, err := p.Auth.Profile(ctx, principal.UserID); err == nil && user.TimeZone != defaultZone {
		l.Zone = user.TimeZone
	}
	webhooks, err := p.Webhooks.Webhooks(ctx, principal.WorkspaceID)
	if err != nil {
		p.Logger.WarnContext(ctx, "disabled webhooks left out of a page", slog.Any("error", err))
	}
	l.DisabledWebhooks = slices.DeleteFunc(webhooks, func(w webhook.Endpoint) bool { return w.DisabledAt == nil })
	if l.Pauses, err = p.Pauses.Pauses(ctx); err != nil {
		p.Logger.WarnContext(ctx, "pauses left out of a page", slog.Any("error", err))
	}
	if principal.IsAdmin() {
		off, err := p.Pauses.SilenceOff(ctx)
		if err != nil {
			p.Logger.WarnContext(ctx, "the state of DOUBT_SILENCE left out of a page", slog.Any("error", err))
		}
		l.SilenceOff = off > 0
	}
}

// defaultZone stands for the zone of the browser: users have it until they choose another.
const defaultZone = "UTC"

type errorPage struct {
	Message   string
	RequestID string
}

func (p *Pages) renderError(w http.ResponseWriter, r *http.Request, status int, title, message string) {
	render(p, w, r, status, "error", layout{Title: title}, errorPage{Message: message, RequestID: httpkit.RequestID(r.Context())})
}

// Texts of errors that are not the user's.
const (
	internalErrorText = "An internal error occurred. Please try again."
	unavailableText   = "Postcard cannot use its database at the moment. Please try again in a minute."
)

// unknownText is for a request that changes something: its change may have been made.
const unknownText = "Postcard’s database did not answer in time, so it is unknown whether your change was made. Check it before you repeat it."

// unavailableTextFor returns the text for a request during which the database was
// unavailable.
func unavailableTextFor(r *http.Request, err error) string {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if reads || errors.Is(err, mms.ErrNotStored) {
		return unavailableText
	}
	return unknownText
}

// NotFound answers 404. It does not tell a missing object from another workspace's.
func (p *Pages) NotFound(w http.ResponseWriter, r *http.Request) {
	p.renderError(w, r, http.StatusNotFound, "Not found", "This page does not exist, or you do not have access to it.")
}

// Forbidden answers 403 to a form from another site. It runs before the session
// is loaded and therefore has no layout.
func (p *Pages) Forbidden(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "The form was submitted from another site and was rejected.", http.StatusForbidden)
}

// InternalError answers 500 without the layout, which needs the session: that may not
// have been loaded.
func (p *Pages) InternalError(w http.ResponseWriter, r *http.Request) {
	plainError(w, r, http.StatusInternalServerError, internalErrorText)
}

// Unavailable logs err and answers a request whose session cannot be loaded.
func (p *Pages) Unavailable(w http.ResponseWriter, r *http.Request, err error) {
	p.Logger.ErrorContext(r.Context(), "session not loaded", slog.Any("error", err))
	status := http.StatusInternalServerError
	if errors.Is(err, mms.ErrUnavailable) {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", retryAfter)
	}
	plainError(w, r, status, unavailableTextFor(r, err))
}

// retryAfter is the Retry-After of a 503, in seconds.
const retryAfter = "5"

// plainError answers without the layout, which needs a session.
func plainError(w http.ResponseWriter, r *http.Request, status int, message string) {
	http.Error(w, fmt.Sprintf("%s\nRequest ID: %s", message, httpkit.RequestID(r.Context())), status)
}

// fail answers 404, 503 or 500 for an error of the store. It shows nothing of
// err, which it logs.
func (p *Pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, mms.ErrNotFound) || errors.Is(err, mms.ErrBatchNotFound) || errors.Is(err, webhook.ErrNotFound) {
		p.NotFound(w, r)
		return
	}
	if p.logFailure(r, err) == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
		p.renderError(w, r, http.StatusServiceUnavailable, "Not available", unavailableTextFor(r, err))
		return
	}
	p.renderError(w, r, http.StatusInternalServerError, "Internal error", internalErrorText)
}

// logFailure logs an error of the store and returns the status to answer with.
// It logs nothing if the client has disconnected, which is then the likely cause.
func (p *Pages) logFailure(r *http.Request, err error) int {
	if !errors.Is(r.Context().Err(), context.Canceled) {
		p.Logger.ErrorContext(r.Context(), "page failed", slog.String("request_id", httpkit.RequestID(r.Context())), slog.Any("error", err))
	}
	if errors.Is(err, mms.ErrUnavailable) {
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func (p *Pages) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	p.renderError(w, r, http.StatusMethodNotAllowed, "Method not allowed", "This page does not support the method "+r.Method+".")
}

// timestamp is a time in UTC. The script replaces Text with the browser's zone.
type timestamp struct{ Machine, Text string }

func when(t time.Time) timestamp {
	t = t.UTC()
	return timestamp{Machine: t.Format(time.RFC3339Nano), Text: t.Format("2 Jan 2006, 15:04:05 UTC")}
}

// duration formats d with less precision the longer it is.
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

// fieldLabels are the labels of the forms by the field of the API.
var fieldLabels = map[string]string{
	"currentPassword": "Current password",
	"dailyCap":        "Maximum messages a day",
	"description":     "Description",
	"email":           "Email",
	"expiresInDays":   "Expiry in days",
	"file":            "File",
	"from":            "Sender",
	"mediaUrl":        "Picture",
	"mediaUrls":       "Picture",
	"mediaIds":        "Picture",
	"name":            "Name",
	"newPassword":     "New password",
	"number":          "Number",
	"numbers":         "Recipients",
	"password":        "Password",
	"permissions":     "Permission",
	"priority":        "Priority",
	"rate":            "Messages per minute",
	"scopes":          "Permission",
	"sendAt":          "Send at",
	"sender":          "Sender",
	"statuses":        "Event",
	"text":            "Text",
	"timeZone":        "Time zone",
	"to":              "Recipient",
	"validFor":        "Give up after",
	"url":             "URL",
}

// fieldLabel returns the label of a field such as "statuses[2]", or field
// unchanged if it has no label.
func fieldLabel(field string) string {
	name, _, _ := strings.Cut(field, "[")
	if label, ok := fieldLabels[name]; ok {
		return label
	}
	return field
}

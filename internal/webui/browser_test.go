package webui_test

import (
	"bytes"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/google/uuid"
	"golang.org/x/crypto/bcrypt"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webui"
)

const (
	userEmail  = "ada@example.com"
	adminEmail = "root@example.com"
	password   = "correct horse"
)

// passwordHash has the lowest bcrypt cost: hashing is slow by design.
var passwordHash = sync.OnceValue(func() identity.PasswordHash {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return identity.PasswordHash(hash)
})

// newBackend returns a backend with a user (users[0]) and an admin (users[1]),
// and a browser that shows its pages.
func newBackend(t *testing.T, signupOpen bool, change ...func(*webui.Options)) (*fakeBackend, *browser) {
	t.Helper()
	f := &fakeBackend{
		messages: map[uuid.UUID]mms.History{}, batches: map[uuid.UUID]mms.Batch{},
		workspaces: fakeWorkspaces{invitations: map[[32]byte]identity.Invitation{}},
		rules:      mms.Rules{Countries: []string{"US"}, Senders: []mms.PhoneNumber{"+14155550100", "+14155550101"}},
	}
	for _, u := range []struct {
		email string
		role  identity.Role
	}{{userEmail, identity.RoleUser}, {adminEmail, identity.RoleAdmin}} {
		f.users = append(f.users, identity.User{ID: uuid.Must(uuid.NewV7()), Email: u.email, Role: u.role, PasswordHash: passwordHash(), TimeZone: "UTC"})
	}
	f.Find, f.Replace = f.findUser, f.replaceUser
	sessions := scs.New()
	sessions.Store = memstore.NewWithCleanupInterval(0)
	service := auth.New(f, f, sessions, signupOpen)
	o := webui.Options{
		Auth: service, Intake: f, Messages: f, Batches: f, Keys: auth.NewKeyService(f, auth.NewKeyCache(f)), Webhooks: f,
		Workspaces: auth.NewWorkspaceService(f, auth.NewUserCache(f)),
		Pauses:     f, Suppressions: f, OptOutScope: mms.OptOutsOfEverySender, Senders: f.rules.Senders, Rates: f, Simulated: true, Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&o)
	}
	pages, err := webui.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f, &browser{t: t, pages: pages, handler: service.Middleware(pages.Unavailable)(pages)}
}

// browser keeps a cookie between requests and checks every page that it gets.
type browser struct {
	t       *testing.T
	pages   *webui.Pages
	handler http.Handler
	cookie  *http.Cookie
}

type response struct {
	status   int
	location string
	header   http.Header
	body     string
}

func (b *browser) do(method, target string, form url.Values) response {
	b.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return b.request(r)
}

func (b *browser) request(r *http.Request) response {
	b.t.Helper()
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	for _, cookie := range w.Result().Cookies() {
		b.cookie = cookie
	}
	got := response{w.Code, w.Header().Get("Location"), w.Header(), w.Body.String()}
	b.checkPage(r.Method+" "+r.URL.Path, got)
	return got
}

func (b *browser) get(target string) response { b.t.Helper(); return b.do("GET", target, nil) }

func (b *browser) post(target string, pairs ...string) response {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return b.do("POST", target, form)
}

// upload posts the form of a batch, without a file if file is empty.
func (b *browser) upload(file string, fields ...string) response {
	b.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i < len(fields); i += 2 {
		if err := form.WriteField(fields[i], fields[i+1]); err != nil {
			b.t.Fatal(err)
		}
	}
	if file != "" {
		part, err := form.CreateFormFile("file", "rows.csv")
		if err != nil {
			b.t.Fatal(err)
		}
		_, _ = part.Write([]byte(file))
	}
	form.Close()
	r := httptest.NewRequest("POST", "/batches/new", &body)
	r.Header.Set("Content-Type", form.FormDataContentType())
	return b.request(r)
}

func (b *browser) login(email string) *browser {
	b.t.Helper()
	if got := b.post("/login", "email", email, "password", password); got.status != http.StatusSeeOther {
		b.t.Fatalf("login as %s: got status %d, want 303: %s", email, got.status, got.body)
	}
	return b
}

// inlineCode matches scripts and styles that the content security policy forbids.
var inlineCode = regexp.MustCompile(`(?i)<script>|<style|\son[a-z]+=|\sstyle=|javascript:`)

// checkPage checks what holds for every page.
func (b *browser) checkPage(name string, got response) {
	b.t.Helper()
	if !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") || got.status/100 == 3 {
		return
	}
	if found := inlineCode.FindString(got.body); found != "" {
		b.t.Errorf("%s: the page contains inline code %q", name, found)
	}
	if n := strings.Count(got.body, "<h1>"); n != 1 {
		b.t.Errorf("%s: got %d h1 headings, want 1", name, n)
	}
	if !strings.Contains(got.body, `<html lang="en">`) {
		b.t.Errorf("%s: the page has no language", name)
	}
	if cache := got.header.Get("Cache-Control"); cache != "no-store" {
		b.t.Errorf("%s: got Cache-Control %q, want no-store", name, cache)
	}
	if !strings.Contains(got.body, "Simulated:") {
		b.t.Errorf("%s: the page does not say that sending is simulated", name)
	}
}

// want checks the status of a response, and that its page contains the texts as
// they appear in HTML.
func (b *browser) want(name string, got response, status int, texts ...string) {
	b.t.Helper()
	if got.status != status {
		b.t.Errorf("%s: got status %d, want %d", name, got.status, status)
	}
	for _, text := range texts {
		if !strings.Contains(got.body, text) {
			b.t.Errorf("%s: the page does not contain %q", name, text)
		}
	}
}

package webui_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
	"github.com/postcard-mms/postcard/internal/webui"
)

// world plays everything behind the pages, in memory.
type world struct {
	mu         sync.Mutex
	users      []identity.User
	messages   map[uuid.UUID]mms.History
	place      mms.QueuePosition
	more       bool
	pauses     []mms.Pause
	decided    mms.Decision
	throttle   time.Duration
	err        error // of every call about messages
	rules      mms.Rules
	replies    map[uuid.UUID][]mms.Inbound
	suppressed []mms.Suppression
	shown      mms.Overview
	asked      []string // overviews
	once       []string // idempotency keys
	batches    map[uuid.UUID]mms.Batch
	faults     []mms.RowError
	keys       []identity.Key
	webhooks   []webhook.Endpoint
	secret     webhook.Secret
	told       []webhook.Event
}

func (w *world) user(is func(identity.User) bool) (identity.User, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, u := range w.users {
		if is(u) {
			return u, nil
		}
	}
	return identity.User{}, identity.ErrNoUser
}

func (w *world) UserByEmail(_ context.Context, email string) (identity.User, error) {
	return w.user(func(u identity.User) bool { return u.Email == email })
}

func (w *world) UserByID(_ context.Context, id uuid.UUID) (identity.User, error) {
	return w.user(func(u identity.User) bool { return u.ID == id })
}

func (w *world) NotifyLogout(context.Context, uuid.UUID) error { return nil }

func (w *world) CreateUser(ctx context.Context, u identity.User) error {
	if _, err := w.UserByEmail(ctx, u.Email); err == nil {
		return identity.ErrEmailTaken
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.users = append(w.users, u)
	return nil
}

func (w *world) Throttle(context.Context, [32]byte, int, time.Duration) (time.Duration, error) {
	return w.throttle, nil
}
func (w *world) Unthrottle(context.Context, [32]byte) error { return nil }

func (w *world) CreateMessage(_ context.Context, by mms.Submitter, d mms.CreateParams) (mms.CreateResult, error) {
	if w.err != nil {
		return mms.CreateResult{}, w.err
	}
	w.once = append(w.once, d.Idempotency.Key)
	m, err := w.rules.Validate(d, uuid.Must(uuid.NewV7()), by.User, time.Time{})
	if err == nil {
		w.messages[m.ID] = mms.History{Message: m}
	}
	return mms.CreateResult{Message: m}, err
}

func (w *world) Resend(ctx context.Context, by mms.Submitter, id uuid.UUID, i mms.Idempotency) (mms.CreateResult, error) {
	old, err := w.Message(ctx, by.User, id)
	if err != nil {
		return mms.CreateResult{}, err
	}
	if !old.Final() {
		return mms.CreateResult{}, mms.ErrNotFinal
	}
	return w.CreateMessage(ctx, by, mms.CreateParams{To: string(old.Recipient), MediaURLs: old.MediaURLs, Idempotency: i})
}

func (w *world) Cancel(ctx context.Context, owner, id uuid.UUID) error {
	h, err := w.Message(ctx, owner, id)
	switch {
	case err != nil:
		return err
	case h.Status != mms.Queued:
		return mms.ErrTooLate
	}
	h.Status = mms.Canceled
	w.messages[id] = h
	return nil
}

// CreateBatch counts the rows that can be read.
func (w *world) CreateBatch(_ context.Context, by mms.Submitter, d mms.BatchParams, list intake.Rows) (mms.BatchResult, error) {
	b, err := w.rules.ValidateBatch(d, uuid.Must(uuid.NewV7()), by.User, time.Time{})
	if err != nil {
		return mms.BatchResult{}, err
	}
	var bad mms.RowErrors
	for row := 1; ; row++ {
		values, err := list.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			_, err = w.rules.ValidateRow(d, values, b, uuid.New(), time.Time{})
		}
		var fields invalid.Fields
		if errors.As(err, &fields) {
			bad.Rejected++
			bad.Errors = append(bad.Errors, mms.NewRowErrors(row, fields)...)
			continue
		}
		if err != nil {
			return mms.BatchResult{}, err
		}
		b.Created++
	}
	if bad.Rejected > 0 && !d.CreateValid {
		return mms.BatchResult{}, bad
	}
	b.Counts, b.Rejected = map[mms.Status]int{mms.Queued: b.Created}, bad.Rejected
	w.batches[b.ID], w.faults = b, bad.Errors
	return mms.BatchResult{Batch: b}, w.err
}

func (w *world) Batch(_ context.Context, owner, id uuid.UUID) (mms.Batch, error) {
	b, ok := w.batches[id]
	if w.err == nil && (!ok || b.Owner != owner) {
		return b, mms.ErrBatchNotFound
	}
	return b, w.err
}

func (w *world) Batches(_ context.Context, owner, _ uuid.UUID, _ int) (list []mms.Batch, more bool, err error) {
	for _, b := range w.batches {
		if b.Owner == owner {
			list = append(list, b)
		}
	}
	return list, false, w.err
}

func (w *world) BatchErrors(context.Context, uuid.UUID, uuid.UUID, int, int) ([]mms.RowError, bool, error) {
	return w.faults, false, w.err
}

func (w *world) SetBatchState(ctx context.Context, owner, id uuid.UUID, state mms.BatchState) error {
	b, err := w.Batch(ctx, owner, id)
	if err == nil {
		b.State = state
		w.batches[id] = b
	}
	return err
}

func (w *world) PrincipalByKey(context.Context, [32]byte) (identity.Principal, error) {
	return identity.Principal{}, identity.ErrNoKey
}

func (w *world) CreateKey(_ context.Context, k identity.Key, _ [32]byte, _ *int) (identity.Key, error) {
	w.keys = append(w.keys, k)
	return k, w.err
}

func (w *world) Keys(_ context.Context, user uuid.UUID) (list []identity.Key, err error) {
	for _, k := range w.keys {
		if k.UserID == user {
			list = append(list, k)
		}
	}
	return list, w.err
}

func (w *world) CreateWebhook(_ context.Context, hook webhook.Endpoint, _ webhook.Secret) (webhook.Endpoint, error) {
	w.webhooks = append(w.webhooks, hook)
	return hook, w.err
}

func (w *world) Webhooks(_ context.Context, owner uuid.UUID) (list []webhook.Endpoint, err error) {
	for _, hook := range w.webhooks {
		if hook.Owner == owner {
			list = append(list, hook)
		}
	}
	return list, w.err
}

func (w *world) Webhook(ctx context.Context, owner, id uuid.UUID) (webhook.Endpoint, error) {
	list, err := w.Webhooks(ctx, owner)
	for _, hook := range list {
		if hook.ID == id {
			return hook, err
		}
	}
	return webhook.Endpoint{}, webhook.ErrNotFound
}

func (w *world) DeleteWebhook(_ context.Context, _, id uuid.UUID) error {
	w.webhooks = slices.DeleteFunc(w.webhooks, func(hook webhook.Endpoint) bool { return hook.ID == id })
	return w.err
}

func (w *world) RotateSecret(_ context.Context, _, _ uuid.UUID, secret webhook.Secret) error {
	w.secret = secret
	return w.err
}

func (w *world) EnableWebhook(_ context.Context, _, id uuid.UUID) error {
	for i := range w.webhooks {
		w.webhooks[i].DisabledAt, w.webhooks[i].DisabledReason = nil, ""
	}
	return w.err
}

func (w *world) CreateTestEvent(_ context.Context, _, id uuid.UUID) (webhook.Event, error) {
	e := webhook.Event{ID: uuid.New(), WebhookID: id, State: webhook.Failed, Attempts: 2, HTTPStatus: 500, Error: "It answered 500."}
	w.told = append(w.told, e)
	return e, w.err
}

func (w *world) WebhookEvents(context.Context, uuid.UUID, uuid.UUID, int64, int) ([]webhook.Event, bool, error) {
	return w.told, false, w.err
}

func (w *world) ReplayEvent(_ context.Context, _, _, id uuid.UUID) (webhook.Event, error) {
	for i := range w.told {
		if w.told[i].ID == id {
			w.told[i].State = webhook.Pending
			return w.told[i], w.err
		}
	}
	return webhook.Event{}, webhook.ErrNotFound
}

func (w *world) RevokeKey(_ context.Context, user, id uuid.UUID) error {
	for i, k := range w.keys {
		if k.ID == id && k.UserID == user {
			w.keys[i].RevokedAt = &k.CreatedAt
			return w.err
		}
	}
	return identity.ErrNoKey
}

func (w *world) Message(_ context.Context, owner, id uuid.UUID) (mms.History, error) {
	h, ok := w.messages[id]
	if w.err == nil && (!ok || h.Owner != owner) {
		return h, mms.ErrNotFound
	}
	return h, w.err
}

func (w *world) Messages(_ context.Context, owner uuid.UUID, p mms.Page) (list []mms.Message, next uuid.UUID, err error) {
	for _, h := range w.messages {
		if h.Owner == owner && (p.Status == "" || p.Status == h.Status) {
			list = append(list, h.Message)
		}
	}
	if w.more && len(list) > 0 {
		next = list[len(list)-1].ID
	}
	return list, next, w.err
}

func (w *world) QueuePosition(context.Context, uuid.UUID, uuid.UUID) (mms.QueuePosition, bool, error) {
	return w.place, w.place != mms.QueuePosition{}, w.err
}

func (w *world) Replies(_ context.Context, _, id uuid.UUID) ([]mms.Inbound, error) {
	return w.replies[id], w.err
}

func (w *world) Suppressions(_ context.Context, recipient mms.PhoneNumber, _ mms.Suppression, _ int) ([]mms.Suppression, bool, error) {
	var list []mms.Suppression
	for _, s := range w.suppressed {
		if recipient == "" || s.Recipient == recipient {
			list = append(list, s)
		}
	}
	return list, w.more && len(list) > 0, w.err
}

func (w *world) AddSuppressions(_ context.Context, list []mms.Suppression) (int, error) {
	if w.err == nil {
		w.suppressed = append(w.suppressed, list...)
	}
	return len(list), w.err
}

func (w *world) RemoveSuppression(_ context.Context, sender, recipient mms.PhoneNumber) (bool, error) {
	before := len(w.suppressed)
	w.suppressed = slices.DeleteFunc(w.suppressed, func(s mms.Suppression) bool { return s.Sender == sender && s.Recipient == recipient })
	return len(w.suppressed) < before, w.err
}

func (w *world) Overview(_ context.Context, owner uuid.UUID, days int) (mms.Overview, error) {
	w.asked = append(w.asked, fmt.Sprintf("%d of %s", days, owner))
	return w.shown, w.err
}

func (w *world) Decide(_ context.Context, owner, id uuid.UUID, d mms.Decision) error {
	if h := w.messages[id]; w.err == nil && h.Owner != owner {
		return mms.ErrNotFound
	} else if w.err == nil && !h.Held {
		return mms.ErrNotHeld
	}
	w.decided = d
	return w.err
}

func (w *world) Pauses(context.Context) ([]mms.Pause, error) { return w.pauses, nil }

func (w *world) Resume(_ context.Context, cause mms.Reason) (bool, error) {
	ended := len(w.pauses) > 0 && w.pauses[0].Cause == cause
	if ended {
		w.pauses = nil
	}
	return ended, w.err
}

// browser keeps a cookie between requests.
type browser struct {
	t       *testing.T
	handler http.Handler
	cookie  *http.Cookie
}

type answer struct {
	status   int
	location string
	header   http.Header
	body     string
}

// correctHorse is the hash of everybody's password, made once: hashing is slow
// by design.
var correctHorse = sync.OnceValue(func() identity.PasswordHash {
	hash, err := identity.HashPassword("correct horse")
	if err != nil {
		panic(err)
	}
	return hash
})

func newWorld(t *testing.T, signup bool) (*world, *browser) {
	t.Helper()
	w := &world{messages: map[uuid.UUID]mms.History{}, batches: map[uuid.UUID]mms.Batch{}, rules: mms.Rules{Countries: []string{"US"}, Senders: []mms.PhoneNumber{"+14155550100", "+14155550101"}}}
	for _, u := range []struct {
		email string
		role  identity.Role
	}{{"ada@example.com", identity.RoleUser}, {"root@example.com", identity.RoleAdmin}} {
		w.users = append(w.users, identity.User{ID: uuid.Must(uuid.NewV7()), Email: u.email, Role: u.role, PasswordHash: correctHorse()})
	}
	sessions := scs.New()
	sessions.Store = memstore.NewWithCleanupInterval(0)
	door, err := auth.New(w, w, sessions, signup)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := webui.New(webui.Options{
		Batches: w, Keys: auth.NewKeyService(w, auth.NewKeyCache(w)), Webhooks: w,
		Auth: door, Intake: w, Messages: w, Pauses: w, Suppressions: w, Senders: w.rules.Senders, Simulated: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w, &browser{t: t, handler: door.Middleware(pages.Unavailable)(pages)}
}

func (b *browser) do(method, target string, form url.Values) answer {
	b.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return b.request(r)
}

func (b *browser) request(r *http.Request) answer {
	b.t.Helper()
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	for _, cookie := range w.Result().Cookies() {
		b.cookie = cookie
	}
	got := answer{w.Code, w.Header().Get("Location"), w.Header(), w.Body.String()}
	b.check(r.Method+" "+r.URL.Path, got)
	return got
}

func (b *browser) get(target string) answer { b.t.Helper(); return b.do("GET", target, nil) }

func (b *browser) post(target string, pairs ...string) answer {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return b.do("POST", target, form)
}

func (b *browser) login(email string) *browser {
	b.t.Helper()
	if got := b.post("/login", "email", email, "password", "correct horse"); got.status != http.StatusSeeOther {
		b.t.Fatalf("login: %d %s", got.status, got.body)
	}
	return b
}

// inline is what our policy would stop a browser from running.
var inline = regexp.MustCompile(`(?i)<script>|<style|\son[a-z]+=|\sstyle=|javascript:`)

// check holds for every page.
func (b *browser) check(what string, got answer) {
	b.t.Helper()
	if !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") || got.status/100 == 3 {
		return
	}
	if found := inline.FindString(got.body); found != "" {
		b.t.Errorf("%s: the page has inline %q", what, found)
	}
	if strings.Count(got.body, "<h1>") != 1 || !strings.Contains(got.body, `<html lang="en">`) {
		b.t.Errorf("%s: not one heading and a language", what)
	}
	if got.header.Get("Cache-Control") != "no-store" {
		b.t.Errorf("%s: may be cached", what)
	}
	if !strings.Contains(got.body, "Simulated:") {
		b.t.Errorf("%s: does not say that it is simulated", what)
	}
}

func (b *browser) want(what string, got answer, status int, contains ...string) {
	b.t.Helper()
	if got.status != status {
		b.t.Errorf("%s: %d, want %d", what, got.status, status)
	}
	for _, words := range contains {
		if !strings.Contains(got.body, words) {
			b.t.Errorf("%s: the page lacks %q", what, words)
		}
	}
}

func TestStrangersLogInAndComeBack(t *testing.T) {
	t.Parallel()
	_, b := newWorld(t, false)
	got := b.get("/messages/new?x=1")
	if got.status != http.StatusSeeOther || got.location != "/login?next=%2Fmessages%2Fnew%3Fx%3D1" {
		t.Errorf("a stranger is sent to %q with %d", got.location, got.status)
	}
	b.want("the login", b.get(got.location), http.StatusOK, `value="/messages/new?x=1"`)
	wrong := b.post("/login", "email", "ada@example.com", "password", "nonsense", "next", "/messages/new")
	b.want("a wrong password", wrong, http.StatusUnprocessableEntity, "email or the password is wrong", `value="ada@example.com"`)
	if strings.Contains(wrong.body, "nonsense") {
		t.Error("the password comes back")
	}
	if got := b.post("/login", "email", "ada@example.com", "password", "correct horse", "next", "/messages/new?x=1"); got.location != "/messages/new?x=1" {
		t.Errorf("after the login one comes to %q", got.location)
	}
	if got := b.get("/login"); got.location != "/messages" {
		t.Errorf("somebody who is logged in is sent to %q", got.location)
	}
	b.post("/logout")
	if got := b.get("/messages"); got.status != http.StatusSeeOther {
		t.Errorf("after the logout: %d, want a redirect", got.status)
	}
}

func TestLoginLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	_, b := newWorld(t, false)
	for _, next := range []string{
		"//evil.example", `/\evil.example`, "https://evil.example", "evil.example", "javascript:alert(1)", "/\t/evil.example", "", "/%0d%0aX: y\r\n", `\\evil.example`,
	} {
		b.cookie = nil
		got := b.post("/login", "email", "ada@example.com", "password", "correct horse", "next", next)
		if got.location != "/messages" && got.location != "/%0d%0aX:%20y" {
			t.Errorf("next=%q leads to %q", next, got.location)
		}
	}
}

func TestTooManyLogins(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	w.throttle = 90 * time.Second
	got := b.post("/login", "email", "ada@example.com", "password", "correct horse")
	b.want("too many", got, http.StatusTooManyRequests, "in 2 minutes")
	if got.header.Get("Retry-After") != "90" {
		t.Errorf("Retry-After is %q, want 90", got.header.Get("Retry-After"))
	}
}

func TestSignup(t *testing.T) {
	t.Parallel()
	_, closed := newWorld(t, false)
	closed.want("a closed sign-up", closed.get("/signup"), http.StatusForbidden, "closed")
	closed.want("a form for a closed sign-up", closed.post("/signup", "email", "x@example.com", "password", "long enough"), http.StatusForbidden, "closed")
	_, b := newWorld(t, true)
	b.want("the form", b.get("/signup"), http.StatusOK, `name="password"`)
	b.want("a short password", b.post("/signup", "email", "new@example.com", "password", "short"), http.StatusUnprocessableEntity, "Password must be at least 10", `value="new@example.com"`)
	b.want("a taken email", b.post("/signup", "email", "ada@example.com", "password", "long enough"), http.StatusUnprocessableEntity, "belongs to a user already")
	if got := b.post("/signup", "email", "new@example.com", "password", "long enough"); got.location != "/messages" {
		t.Errorf("after the sign-up: %d to %q", got.status, got.location)
	}
	b.want("the list", b.get("/messages"), http.StatusOK, "Nothing sent yet", "new@example.com")
}

func TestComposeKeepsWhatWasTyped(t *testing.T) {
	t.Parallel()
	_, b := newWorld(t, false)
	b.login("ada@example.com")
	b.want("the form", b.get("/messages/new"), http.StatusOK, `id="media-2"`, "Choose for me")
	const hostile = `<script>alert(1)</script>"'>`
	got := b.post("/messages/new", "to", hostile, "text", hostile, "mediaUrl", hostile, "mediaUrl", "", "mediaUrl", "https://ok.example.com/x.jpg", "from", "+14155550101")
	b.want("faults", got, http.StatusUnprocessableEntity, "Nothing was sent yet", `href="#to"`, `href="#media-0"`, "Recipient must be a phone number, like (415) 555-0123",
		`id="media-1" name="mediaUrl" type="url" inputmode="url" value="https://ok.example.com/x.jpg"`, `<option value="&#43;14155550101" selected>`)
	if strings.Contains(got.body, "<script>alert") || strings.Count(got.body, "&lt;script&gt;alert(1)") != 3 {
		t.Error("what was typed is not escaped, or not kept")
	}
	long := b.post("/messages/new", "to", "4155550123", "text", strings.Repeat("x", 70<<10))
	b.want("a body too large", long, http.StatusRequestEntityTooLarge, "64 KiB")
}

func TestComposeReadsUsualSpellings(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	got := b.post("/messages/new", "to", "(415) 555-0123", "text", "Hi", "mediaUrl", "https://example.com/a.jpg")
	if got.status != http.StatusSeeOther || !strings.HasPrefix(got.location, "/messages/") || len(w.messages) != 1 {
		t.Fatalf("sending: %d to %q", got.status, got.location)
	}
	b.want("the message", b.get(got.location), http.StatusOK, "We read “(415) 555-0123” as &#43;1 415-555-0123", "waits for a worker", `http-equiv="refresh"`)
	if again := b.get(got.location); strings.Contains(again.body, "We read") {
		t.Error("the notice is shown twice")
	}
}

func TestAStoreThatFailsLosesNoInput(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	for err, status := range map[error]int{errors.New("secret inside"): 500, fmt.Errorf("x: %w", mms.ErrUnavailable): 503} {
		w.err = err
		got := b.post("/messages/new", "once", "click-1", "to", "4155550123", "text", "Keep me", "mediaUrl", "https://example.com/a.jpg")
		// It may have been stored: sending the form again must not send a second message.
		b.want("sending", got, status, "Keep me", "will not be sent twice", `value="4155550123"`, `name="once" value="click-1"`)
		got = b.upload("to\n+14155550123\n", "once", "click-2", "mediaUrl", "https://example.com/a.jpg")
		b.want("sending a batch", got, status, "nothing will be sent twice", `name="once" value="click-2"`)
		id := uuid.NewString()
		for _, page := range []answer{got, b.get("/messages"), b.get("/messages/" + id), b.post("/messages/"+id+"/decision", "decision", "give_up")} {
			if page.status != status || strings.Contains(page.body, "secret inside") {
				t.Errorf("a page: %d, want %d, or it tells of the inside", page.status, status)
			}
		}
	}
}

// told is a message with everything a page can show.
func told(owner uuid.UUID, status mms.Status) mms.History {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	later := now.Add(1500 * time.Millisecond)
	h := mms.History{Message: mms.Message{
		ID: uuid.Must(uuid.NewV7()), Owner: owner, Sender: "+14155550100", Recipient: "+14155550123", Text: "<b>Hi</b>",
		MediaURLs: []string{"https://example.com/a.jpg?<x>"}, Status: status, Reason: mms.ReasonNoResponse, PlivoUUID: "plivo-1", PlivoCode: "30",
		Attempts: 1, Version: 7, CreatedAt: now, NextAttemptAt: &later,
	}}
	if status.Final() {
		units := 2
		h.FinalAt, h.Details = &later, mms.Details{Units: &units, Cost: "0.032000", SentAt: &now, ReportedAt: &later}
	}
	h.AttemptList = []mms.Attempt{{Ordinal: 1, StartedAt: now, FinishedAt: &later, Outcome: mms.Unknown, HTTPStatus: 500, Detail: "<i>temporary failure</i>"}, {Ordinal: 2, StartedAt: now}}
	h.Events = []mms.Event{{At: now, Kind: mms.EventCreated, Status: mms.Queued}, {At: later, Kind: mms.EventInDoubt, Status: mms.InDoubt, Attempt: 1, Detail: "no_response"}}
	return h
}

func TestMessagePageOfEveryStatus(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	for _, status := range mms.Statuses() {
		h := told(w.users[0].ID, status)
		w.messages[h.ID] = h
		got := b.get("/messages/" + h.ID.String())
		b.want(string(status), got, http.StatusOK, status.Title(), "&lt;b&gt;Hi&lt;/b&gt;", "plivo-1", "1.5s", "Taken on and stored", "no answer came back", "&lt;i&gt;temporary")
		if status.Final() {
			b.want(string(status), got, http.StatusOK, "0.032000 US dollars for 2 units", "by Plivo’s clock", "1.5s later")
		}
		if polls := !strings.Contains(got.body, "data-final"); polls == status.Final() {
			t.Errorf("%s: the page follows: %v", status, polls)
		}
		b.want("the list", b.get("/messages?status="+string(status)), http.StatusOK, `class="status `+string(status)+`"`)
	}
}

func TestPlaceInLine(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	h := told(w.users[0].ID, mms.Queued)
	w.messages[h.ID] = h
	if got := b.get("/messages/" + h.ID.String()); strings.Contains(got.body, "data-waiting") {
		t.Error("the page of a message that stands in no line is renewed without news")
	}
	w.place = mms.QueuePosition{Ahead: 3, Wait: 61 * time.Second}
	b.want("a place", b.get("/messages/"+h.ID.String()), http.StatusOK, "3 messages ahead, about 2 minutes.", " data-waiting")
}

// TestWhatWasWrittenOutlivesTheSession: a form that comes from somebody who has been
// logged out is given back, and nothing of the installation is shown with it.
func TestWhatWasWrittenOutlivesTheSession(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	got := b.post("/messages/new", "once", "click-1", "to", "(415) 555-0123", "from", "+14155550101", "text", "Dear <Bob>", "mediaUrl", "https://example.com/a.jpg")
	b.want("the form", got, http.StatusForbidden, "You have been logged out", "(415) 555-0123",
		`name="from" value="&#43;14155550101"`, `name="once" value="click-1"`, "Dear &lt;Bob&gt;", "https://example.com/a.jpg")
	if strings.Contains(got.body, "<select") || len(w.messages) > 0 {
		t.Error("a stranger is shown the senders, or sent a message")
	}
}

// TestAFormSentTooLateIsSaidToBeUndone: who was logged out meanwhile comes back to where
// they were, on pages of ours.
func TestAFormSentTooLateIsSaidToBeUndone(t *testing.T) {
	t.Parallel()
	_, b := newWorld(t, false)
	for referer, next := range map[string]string{
		"":                            "/messages",
		"http://example.com/batches":  "/batches",
		"http://evil.example/batches": "/messages",
		"http://example.com//evil":    "/messages",
	} {
		r := httptest.NewRequest("POST", "http://example.com/batches/1/pause", nil)
		r.Header.Set("Referer", referer)
		got, login := b.request(r), url.Values{"next": {next}, "undone": {"1"}}
		if got.location != "/login?"+login.Encode() {
			t.Errorf("from %q: sent to %q", referer, got.location)
		}
		b.want("the login", b.get(got.location), http.StatusOK, "nothing was done", `value="`+next+`"`)
	}
}

func TestSettingsBeginWithTheKeys(t *testing.T) {
	t.Parallel()
	_, b := newWorld(t, false)
	b.login("ada@example.com")
	if got := b.get("/settings"); got.location != "/settings/keys" {
		t.Errorf("/settings leads to %q", got.location)
	}
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	h := told(w.users[0].ID, mms.InDoubt)
	h.Held = true
	w.messages[h.ID] = h
	path := "/messages/" + h.ID.String()
	b.want("the choice", b.get(path), http.StatusOK, "It was sent", "Send it again", "Give up")
	b.want("nonsense", b.post(path+"/decision", "decision", "perhaps"), http.StatusBadRequest, "no such decision")
	if got := b.post(path+"/decision", "decision", "resend"); got.location != path || w.decided != mms.DecideResend {
		t.Errorf("decided %q, sent to %q", w.decided, got.location)
	}
	h.Held = false
	w.messages[h.ID] = h
	b.post(path+"/decision", "decision", "give_up")
	b.want("too late", b.get(path), http.StatusOK, "nothing to decide any more")
}

func TestNobodySeesAnothersMessage(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	h := told(uuid.New(), mms.Delivered)
	w.messages[h.ID] = h
	for _, got := range []answer{
		b.get("/messages/" + h.ID.String()), b.post("/messages/"+h.ID.String()+"/decision", "decision", "give_up"),
		b.get("/messages/" + uuid.NewString()), b.get("/messages/1"), b.get("/nowhere"), b.get("/messages?status=gone"), b.get("/messages?before=1"),
	} {
		b.want("what is not there", got, http.StatusNotFound, "no such page")
	}
	b.want("a method that is not there", b.do("DELETE", "/messages", nil), http.StatusMethodNotAllowed, "cannot be used")
}

// TestAllSeePausesAndAdminsEndThem: only admins are told what Plivo said.
func TestAllSeePausesAndAdminsEndThem(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	w.pauses = []mms.Pause{{Cause: mms.ReasonCredentials, Detail: "<no>", Since: time.Now()}}
	if got := b.get("/login"); strings.Contains(got.body, "paused") {
		t.Error("strangers see the pause")
	}
	b.login("ada@example.com")
	got := b.get("/messages")
	b.want("the pause", got, http.StatusOK, "Sending is paused", "credentials")
	if strings.Contains(got.body, "&lt;no&gt;") || strings.Contains(got.body, "Go on now") {
		t.Error("somebody who is no admin sees what Plivo said, or may end the pause")
	}
	b.want("ending it as no admin", b.post("/admin/resume", "cause", string(mms.ReasonCredentials)), http.StatusNotFound)
	b.post("/logout")
	b.login("root@example.com")
	b.want("the pause", b.get("/messages"), http.StatusOK, "Sending is paused", "credentials", "&lt;no&gt;", "Go on now", "/admin/queues")
	b.post("/admin/resume", "cause", string(mms.ReasonCredentials))
	b.want("afterwards", b.get("/messages"), http.StatusOK, "That pause is over.")
}

func TestOlderMessages(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	h := told(w.users[0].ID, mms.Sent)
	w.messages[h.ID], w.more = h, true
	b.want("the first page", b.get("/messages?status=sent"), http.StatusOK, "/messages?before="+h.ID.String()+"&amp;status=sent")
	w.more = false
	b.want("the last page", b.get("/messages?before="+h.ID.String()), http.StatusOK, "Newest")
}

func TestStaticFiles(t *testing.T) {
	t.Parallel()
	_, b := newWorld(t, false)
	page := b.get("/login")
	for _, name := range []string{"postcard.css", "postcard.js", "postcard.svg"} {
		address := regexp.MustCompile(`/static/` + regexp.QuoteMeta(name) + `\?v=[0-9a-f]+`).FindString(page.body)
		got := b.get(address)
		if got.status != http.StatusOK || !strings.Contains(got.header.Get("Cache-Control"), "immutable") || got.header.Get("ETag") == "" {
			t.Errorf("%s: %d, %v", address, got.status, got.header)
		}
		if plain := b.get("/static/" + name); plain.header.Get("Cache-Control") != "" {
			t.Errorf("%s without its version may be kept for ever", name)
		}
	}
	for _, path := range []string{"/static/", "/static/x.css", "/static/../webui.go"} {
		if got := b.get(path); got.status != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, got.status)
		}
	}
}

func TestSuppressedNumbers(t *testing.T) {
	t.Parallel()
	const path = "/admin/suppressions"
	w, b := newWorld(t, false)
	if got := b.get(path); got.status != http.StatusSeeOther {
		t.Errorf("a stranger gets %d", got.status)
	}
	b.login("ada@example.com")
	b.want("as no admin", b.get(path), http.StatusNotFound)
	b.want("adding as no admin", b.post(path, "numbers", "4155550123"), http.StatusNotFound)
	b.want("lifting as no admin", b.post(path+"/lift", "recipient", "+14155550123"), http.StatusNotFound)
	b.login("root@example.com")
	b.want("none", b.get(path), http.StatusOK, "Nobody has opted out")
	got := b.post(path, "numbers", "(415) 555-0123\r\nnonsense\r\n\r\n12", "sender", "+14155550101")
	b.want("faults", got, http.StatusUnprocessableEntity, "line 2 ", "line 4 ", "nonsense", `value="&#43;14155550101" selected`)
	b.want("nothing", b.post(path, "numbers", " \n"), http.StatusUnprocessableEntity, "one phone number per line")
	b.want("another sender", b.post(path, "numbers", "4155550123", "sender", "+14165550199"), http.StatusUnprocessableEntity, "not one of the senders")
	if len(w.suppressed) != 0 {
		t.Errorf("suppressed in spite of faults: %v", w.suppressed)
	}
	b.post(path, "numbers", "(415) 555-0123\n+14155550124,\n")
	if len(w.suppressed) != 4 || w.suppressed[0].Reason != mms.SuppressedByAdmin {
		t.Errorf("suppressed: %+v, want two numbers for two senders", w.suppressed)
	}
	b.want("all", b.get(path), http.StatusOK, "4 pairs added", "&#43;1 415-555-0124", "An admin entered it")
	w.more = true
	b.want("one", b.get(path+"?recipient=4155550124"), http.StatusOK, "&#43;1 415-555-0124", "after=%2B14155550124")
	b.want("none of that", b.get(path+"?recipient=4155550125"), http.StatusOK, "Nothing is suppressed for this recipient")
	b.want("a search that cannot be", b.get(path+"?recipient=x"), http.StatusOK, "The recipient must be a phone number")
	b.post(path+"/lift", "sender", "+14155550100", "recipient", "+14155550123")
	b.want("lifted", b.get(path), http.StatusOK, "are sent again")
	if len(w.suppressed) != 3 {
		t.Errorf("suppressed: %+v, want one less", w.suppressed)
	}
	w.err = mms.ErrUnavailable
	b.want("away", b.get(path), http.StatusServiceUnavailable)
	b.want("adding while away", b.post(path, "numbers", "4155550123"), http.StatusServiceUnavailable)
	b.want("lifting while away", b.post(path+"/lift"), http.StatusServiceUnavailable)
}

func TestReplies(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	h := told(w.users[0].ID, mms.Sent)
	w.messages[h.ID] = h
	w.replies = map[uuid.UUID][]mms.Inbound{h.ID: {{Text: "<i>Stop</i>", Keyword: mms.KeywordStop, MediaURLs: []string{"https://media.example.com/1"}}, {}}}
	b.want("replies", b.get("/messages/"+h.ID.String()), http.StatusOK, "&lt;i&gt;Stop&lt;/i&gt;", "opts out", "https://media.example.com/1", "(no text)")
}

func TestOverviewPage(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, false)
	b.login("ada@example.com")
	ada := w.users[0].ID.String()
	b.want("nothing", b.get("/overview"), http.StatusOK, "Nothing was sent in the last 7 days")
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	w.shown = mms.Overview{
		Days: []mms.Day{
			{Date: day, Counts: map[mms.Status]int{}},
			{Date: day.AddDate(0, 0, 1), Counts: map[mms.Status]int{mms.Delivered: 3000, mms.Sent: 1, mms.Failed: 1, mms.Queued: 2}},
		},
		Totals:  map[mms.Status]int{mms.Delivered: 3000, mms.Sent: 1, mms.Failed: 1, mms.Queued: 2},
		Medians: []mms.Median{{Status: mms.Delivered, Took: 2500 * time.Millisecond, Messages: 3000}},
		Reasons: []mms.ReasonCount{{Reason: mms.ReasonReported, PlivoCode: "30", Messages: 1}},
	}
	got := b.get("/overview?days=30&whose=everyone")
	b.want("hers", got, http.StatusOK, "100.0 %", "<td>3004</td><td>3001</td><td>1</td><td>2</td>", "2 Mar", "2.5s", "took it for spam",
		`<rect class="good"`, `<rect class="bad"`, `<rect class="open"`)
	if strings.Contains(got.body, "everyone") || strings.Contains(got.body, "Everyone") {
		t.Error("no admin is offered everyone's")
	}
	b.login("root@example.com")
	b.want("everyone's", b.get("/overview?days=90&whose=everyone"), http.StatusOK, "Overview of everyone", "Only mine")
	b.get("/overview?days=1000000")
	want := []string{"7 of " + ada, "30 of " + ada, "90 of " + uuid.Nil.String(), "7 of " + w.users[1].ID.String()}
	if diff := cmp.Diff(want, w.asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	w.err = mms.ErrUnavailable
	b.want("away", b.get("/overview"), http.StatusServiceUnavailable)
}

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/postcard-mms/postcard/internal/devstack"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// api starts an api process and returns it with its URL.
func (r *rig) api(vars ...string) (*process, string) {
	r.t.Helper()
	port, err := devstack.FreePort()
	if err != nil {
		r.t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	return r.apiAt(addr, vars...), "http://" + addr
}

// apiAt starts an api process on addr and waits until it is ready.
func (r *rig) apiAt(addr string, vars ...string) *process {
	r.t.Helper()
	p := r.start("api", append([]string{
		"API_ADDR=" + addr, "SIGNUP=open",
		"ADMIN_EMAIL=admin@example.com", "ADMIN_PASSWORD=correct horse",
	}, vars...)...)
	testkit.Eventually(r.t, "the api is ready", func() bool {
		status, _, err := get(r.t.Context(), "http://"+addr+"/readyz")
		return err == nil && status == http.StatusOK
	})
	return p
}

// browser starts Chromium. An exception in a script of a page fails the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := devstack.FindChromium()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(t.Context(),
		chromedp.WithAllocatorOptions(append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))...),
		chromedp.WithListener(func(event any) {
			if e, ok := event.(*runtime.EventExceptionThrown); ok {
				t.Errorf("script exception: %s", e.ExceptionDetails.Text)
			}
		}))
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

type action = chromedp.Action[chromedp.Void]

// do runs actions. name says in a failure which part of the test they are.
func do(t *testing.T, ctx context.Context, name string, actions ...action) {
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// read runs an action that returns a value.
func read[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// screenshot checks the width of the page on a phone. If POSTCARD_SCREENSHOTS
// names a directory, it also saves the page there: wide, wide and dark, and on a
// phone.
func screenshot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	checkPhoneWidth(t, ctx, name)
	dir := os.Getenv("POSTCARD_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, view := range []struct {
		suffix string
		width  int64
		scheme string
	}{{"-phone", phoneWidth, "light"}, {"-dark", desktopWidth, "dark"}, {"", desktopWidth, "light"}} {
		features := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: view.scheme}}}
		if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, features); err != nil {
			t.Fatal(err)
		}
		do(t, ctx, "resizing", chromedp.EmulateViewport(view.width, 700))
		png := read(t, ctx, chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(dir, name+view.suffix+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Widths of the viewport, in CSS pixels.
const (
	phoneWidth   = 390
	desktopWidth = 1100
)

// checkPhoneWidth checks that the page does not scroll sideways on a phone. It
// skips the queue dashboard, whose pages are not ours.
func checkPhoneWidth(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	if strings.Contains(read(t, ctx, chromedp.Location()), "/admin/queues") {
		return
	}
	do(t, ctx, "resizing to a phone", chromedp.EmulateViewport(phoneWidth, 700))
	if width := read(t, ctx, chromedp.Evaluate[float64](`document.documentElement.scrollWidth`)); width > phoneWidth {
		t.Errorf("%s: got a page of %v px on a phone of %d px", name, width, phoneWidth)
	}
	do(t, ctx, "resizing back", chromedp.EmulateViewport(desktopWidth, 700))
}

// markPage sets a variable that is lost when the page is reloaded.
func markPage(t *testing.T, ctx context.Context) {
	t.Helper()
	read(t, ctx, chromedp.Evaluate[bool](`window.notReloaded = true`))
}

// wantNotReloaded checks that the page is still the one that was marked.
func wantNotReloaded(t *testing.T, ctx context.Context) {
	t.Helper()
	if !read(t, ctx, chromedp.Evaluate[bool](`window.notReloaded === true`)) {
		t.Error("the page was reloaded, want it updated in place")
	}
}

// TestUserSendsAMessage signs up, logs out and in, submits invalid input and then
// a valid message, whose page reaches the final status without a reload.
func TestUserSendsAMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{TimeScale: 0.5})
	_, url := r.api()
	ctx := browser(t)

	do(t, ctx, "opening a page without a session", chromedp.Navigate(url+"/messages/new"), chromedp.WaitVisible(`#password`))
	screenshot(t, ctx, "login")
	do(t, ctx, "signing up with a short password", chromedp.Navigate(url+"/signup"),
		chromedp.SendKeys(`#email`, "grace@example.com"), chromedp.SendKeys(`#password`, "short"), chromedp.Submit(`#password`), chromedp.WaitVisible(`#password-error`))
	screenshot(t, ctx, "signup-error")
	do(t, ctx, "signing up", chromedp.SendKeys(`#password`, "long enough now"), chromedp.Submit(`#password`), chromedp.WaitVisible(`.empty`))
	screenshot(t, ctx, "list-empty")
	do(t, ctx, "logging out", chromedp.Click(`.account button`), chromedp.WaitVisible(`#password`))
	do(t, ctx, "logging in", chromedp.Navigate(url+"/messages/new"), chromedp.WaitVisible(`#email`),
		chromedp.SendKeys(`#email`, "grace@example.com"), chromedp.SendKeys(`#password`, "long enough now"), chromedp.Submit(`#password`),
		chromedp.WaitVisible(`form.postcard`))

	const login = `fetch("/login", {method: "POST", body: new URLSearchParams({email: "grace@example.com", password: "long enough now"})}).then(() => { document.body.id = "logged-in" }), true`
	do(t, ctx, "typing a text", chromedp.SendKeys(`#text`, "Written"))
	if _, err := r.store.DB().Exec(`DELETE FROM sessions`); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, "submitting after the session ended", chromedp.Submit(`#to`), chromedp.WaitVisible(`//p[contains(., "Your session has ended")]`))
	screenshot(t, ctx, "compose-logged-out")
	if text := read(t, ctx, chromedp.Value(`#text`)); text != "Written" {
		t.Errorf("got text %q after the session ended, want %q", text, "Written")
	}
	read(t, ctx, chromedp.Evaluate[bool](login)) // as from another tab
	do(t, ctx, "submitting after the new login", chromedp.WaitVisible(`#logged-in`), chromedp.Submit(`#to`), chromedp.WaitVisible(`#summary`))

	do(t, ctx, "submitting invalid input", chromedp.SendKeys(`#to`, "12"), chromedp.SetValue(`#text`, "Greetings"),
		chromedp.SendKeys(`#media-0`, "ftp://example.com/x"), chromedp.Submit(`#to`), chromedp.WaitVisible(`#summary`))
	screenshot(t, ctx, "compose-errors")
	if text := read(t, ctx, chromedp.Value(`#text`)); text != "Greetings" {
		t.Errorf("got text %q after an error, want %q", text, "Greetings")
	}
	if errors := read(t, ctx, chromedp.Text(`#summary`)); !strings.Contains(errors, "Recipient has 2 digits") || !strings.Contains(errors, "Link to a picture must start") {
		t.Errorf("got errors %q, want one of the recipient and one of the picture", errors)
	}

	do(t, ctx, "submitting a private picture", chromedp.SetValue(`#to`, "(416) 555-1234"), chromedp.SetValue(`#media-0`, url+"/static/postcard.svg"),
		chromedp.Submit(`#to`), chromedp.WaitVisible(`#media-0-error`))
	do(t, ctx, "submitting a valid message", chromedp.SetValue(`#media-0`, "https://example.com/picture.jpg"), chromedp.Submit(`#to`), chromedp.WaitVisible(`#live`))
	markPage(t, ctx)
	if flash := read(t, ctx, chromedp.Text(`.notice.good`)); !strings.Contains(flash, "+1 416-555-1234") {
		t.Errorf("got notice %q, want one with the recipient as it was read", flash)
	}
	if status := read(t, ctx, chromedp.Text(`#status`)); status != mms.Queued.Title() {
		t.Errorf("got status %q before a worker runs, want %q", status, mms.Queued.Title())
	}
	r.worker("")
	do(t, ctx, "waiting for delivery", chromedp.WaitVisible(`#status.delivered`))
	screenshot(t, ctx, "message")
	wantNotReloaded(t, ctx)
	do(t, ctx, "opening the list", chromedp.Navigate(url+"/messages"), chromedp.WaitVisible(`.messages .delivered`))
	screenshot(t, ctx, "list")
	do(t, ctx, "opening the overview", chromedp.Navigate(url+"/overview"), chromedp.WaitVisible(`.chart rect.good`))
	screenshot(t, ctx, "overview")
	do(t, ctx, "opening the queues as a user", chromedp.Navigate(url+"/admin/queues"), chromedp.WaitVisible(`h1`))
	if title := read(t, ctx, chromedp.Text(`h1`)); title != "Not found" {
		t.Errorf("queues as a user: got heading %q, want Not found", title)
	}
	screenshot(t, ctx, "not-found")
}

// TestPagesSurviveAnAPIRestart kills and restarts the api while a message and
// then the list are open.
func TestPagesSurviveAnAPIRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	api, url := r.api()
	ctx := browser(t)
	do(t, ctx, "creating a message", chromedp.Navigate(url+"/messages/new"), chromedp.WaitVisible(`#email`),
		chromedp.SendKeys(`#email`, "admin@example.com"), chromedp.SendKeys(`#password`, "correct horse"), chromedp.Submit(`#password`),
		chromedp.WaitVisible(`form.postcard`),
		chromedp.SendKeys(`#to`, "4165551234"), chromedp.SendKeys(`#media-0`, "https://example.com/picture.jpg"),
		chromedp.Submit(`#to`), chromedp.WaitVisible(`#status.queued`))
	if _, err := r.store.DB().Exec(`UPDATE messages SET backlog_state = 'waiting', task_check_at = 'infinity'`); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, "opening a waiting message", chromedp.Reload(), chromedp.WaitReady(`#live[data-waiting]`))
	markPage(t, ctx)
	do(t, ctx, "focusing a button", chromedp.Focus(`#cancel`))
	if _, err := r.store.DB().Exec(`INSERT INTO pauses (cause, detail, probe_at) VALUES ('plivo_credit', '', now() + interval '1 hour')`); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, "waiting for the pause", chromedp.WaitVisible(`#pauses .notice`),
		chromedp.WaitVisible(fmt.Sprintf(`//div[@id="live"]//section[contains(., "%s")]`, mms.ReasonCredit.Description())))
	if focused := read(t, ctx, chromedp.Evaluate[string](`document.activeElement.id`)); focused != "cancel" {
		t.Errorf("got focus on %q after an update, want cancel", focused)
	}
	screenshot(t, ctx, "paused")
	if _, err := r.store.DB().Exec(`DELETE FROM pauses`); err != nil {
		t.Fatal(err)
	}
	api.end()
	do(t, ctx, "waiting for the message page to notice the kill", chromedp.WaitVisible(`#live-status.bad`))
	screenshot(t, ctx, "disconnected")
	api = r.apiAt(strings.TrimPrefix(url, "http://"))
	r.worker("")
	do(t, ctx, "waiting for delivery", chromedp.WaitVisible(`#status.delivered`), chromedp.WaitReady(`#live-status.sr`))
	wantNotReloaded(t, ctx)

	do(t, ctx, "opening the list", chromedp.Navigate(url+"/messages"), chromedp.WaitVisible(`.messages .delivered`))
	markPage(t, ctx)
	api.end()
	do(t, ctx, "waiting for the list to notice the kill", chromedp.WaitVisible(`#live-status.bad`))
	r.apiAt(strings.TrimPrefix(url, "http://"))
	admin := loggedIn(t, url)
	if status, body, err := admin.post("/api/send-mms", `{"to":"+14165551235","mediaUrl":"https://example.com/b.jpg"}`); err != nil || status != http.StatusAccepted {
		t.Fatalf("creating a message: got %d %s %v, want 202", status, body, err)
	}
	do(t, ctx, "waiting for the new message", chromedp.WaitVisible(`//a[contains(., "555-1235")]//span[contains(@class, "delivered")]`))
	wantNotReloaded(t, ctx)
}

// TestAdminOpensTheQueues opens the queue dashboard, which has a content security
// policy of its own, adds an opt-out, and finds a permanently failed task.
func TestAdminOpensTheQueues(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.RefusedDestination}); err != nil {
		t.Fatal(err)
	}
	r.create(1)
	r.worker("")
	r.awaitFinal()
	_, url := r.api()
	ctx := browser(t)
	do(t, ctx, "logging in for the queues", chromedp.Navigate(url+"/admin/queues"), chromedp.WaitVisible(`#email`),
		chromedp.SendKeys(`#email`, "admin@example.com"), chromedp.SendKeys(`#password`, "correct horse"), chromedp.Submit(`#password`),
		chromedp.WaitVisible(`//a[text()="messages"]`))
	screenshot(t, ctx, "queues")
	do(t, ctx, "adding an opt-out", chromedp.Navigate(url+"/admin/suppressions"), chromedp.WaitVisible(`.empty`),
		chromedp.SendKeys(`#numbers`, "(416) 555-1234"), chromedp.Submit(`#numbers`), chromedp.WaitVisible(`//th[contains(., "416-555-1234")]`))
	screenshot(t, ctx, "opt-outs")
	do(t, ctx, "opening archived tasks", chromedp.Navigate(url+"/admin/queues/queues/messages?status=archived"),
		chromedp.WaitVisible(`//*[contains(text(), "`+string(mms.ReasonRejected)+`")]`))
	screenshot(t, ctx, "archived-tasks")
}

// TestUserSendsABatch creates an API key and a webhook, uploads a file with an
// invalid row, and follows the batch until it is done.
func TestUserSendsABatch(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api("ALLOW_PRIVATE_WEBHOOKS=true")
	r.worker("", "ALLOW_PRIVATE_WEBHOOKS=true")
	hook := newReceiver(t, func(int) int { return 200 })
	file := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(file, []byte("to,name\n+14165601000,Ada\n123,Bob\n+14165601001,Eve\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := browser(t)
	do(t, ctx, "creating an API key", chromedp.Navigate(url+"/settings/keys"), chromedp.WaitVisible(`#email`),
		chromedp.SendKeys(`#email`, "admin@example.com"), chromedp.SendKeys(`#password`, "correct horse"), chromedp.Submit(`#password`),
		chromedp.WaitVisible(`#name`), chromedp.SendKeys(`#name`, "Web shop"), chromedp.Submit(`#name`), chromedp.WaitVisible(`.secret`))
	screenshot(t, ctx, "keys")
	do(t, ctx, "adding a webhook", chromedp.Navigate(url+"/settings/webhooks"), chromedp.SendKeys(`#url`, hook.URL), chromedp.Submit(`#url`), chromedp.WaitVisible(`.secret`))
	screenshot(t, ctx, "webhook-new")

	do(t, ctx, "uploading an invalid row", chromedp.Navigate(url+"/batches/new"), chromedp.SendKeys(`#name`, "Spring greetings"),
		chromedp.SetUploadFiles(`#file`, []string{file}), chromedp.SendKeys(`#text`, "Hello {{name}}"), chromedp.SendKeys(`#mediaUrl`, "https://example.com/picture.jpg"),
		chromedp.Submit(`#name`), chromedp.WaitVisible(`#summary`))
	screenshot(t, ctx, "batch-errors")
	if errors := read(t, ctx, chromedp.Text(`#summary`)); !strings.Contains(errors, "Row 3: Recipient has ") {
		t.Errorf("got errors %q, want one of row 3", errors)
	}
	do(t, ctx, "creating the valid rows", chromedp.Click(`input[value=create_valid]`), chromedp.SetUploadFiles(`#file`, []string{file}),
		chromedp.Submit(`#name`), chromedp.WaitVisible(`progress`), chromedp.WaitVisible(`//progress[@value="100"]`), chromedp.WaitVisible(`.status.delivered`))
	screenshot(t, ctx, "batch")
	do(t, ctx, "opening the batch's messages", chromedp.Click(`//a[text()="Show all messages"]`), chromedp.WaitVisible(`.messages .delivered`))
	screenshot(t, ctx, "list-of-batch")
	do(t, ctx, "opening the batches", chromedp.Navigate(url+"/batches"), chromedp.WaitVisible(`//a[text()="Spring greetings"]`))
	screenshot(t, ctx, "batches")
	testkit.Eventually(t, "all events are delivered", func() bool {
		return r.count(`SELECT count(*) FROM webhook_events WHERE state = 'delivered'`) == 8
	})
	do(t, ctx, "opening the webhook", chromedp.Navigate(url+"/settings/webhooks"), chromedp.WaitVisible(`th a`))
	screenshot(t, ctx, "webhooks")
	do(t, ctx, "reading its deliveries", chromedp.Click(`th a`), chromedp.WaitVisible(`//td[text()="delivered"]`))
	screenshot(t, ctx, "webhook")
	do(t, ctx, "opening the API reference", chromedp.Navigate(url+"/docs/"), chromedp.WaitVisible(`//h3//span[text()="webhooks"] | //h2[contains(., "Postcard")]`))
}

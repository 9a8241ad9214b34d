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
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// api starts an api process and returns its address.
func (r *rig) api(vars ...string) (*process, string) {
	r.t.Helper()
	port, err := devstack.FreePort()
	if err != nil {
		r.t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	return r.apiAt(addr, vars...), "http://" + addr
}

// apiAt starts an api process at an address.
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

// browser starts a Chromium that reports what its pages complain about.
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
				t.Errorf("a script failed: %s", e.ExceptionDetails.Text)
			}
		}))
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

type step = chromedp.Action[chromedp.Void]

func do(t *testing.T, ctx context.Context, what string, steps ...step) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// ask runs an action that has a value.
func ask[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// picture saves screenshots where POSTCARD_SCREENSHOTS names a folder.
func picture(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	fitsAPhone(t, ctx, name)
	dir := os.Getenv("POSTCARD_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, view := range []struct {
		name   string
		width  int64
		scheme string
	}{{"-phone", 390, "light"}, {"-dark", 1100, "dark"}, {"", 1100, "light"}} {
		features := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: view.scheme}}}
		if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, features); err != nil {
			t.Fatal(err)
		}
		do(t, ctx, "resizing", chromedp.EmulateViewport(view.width, 700))
		png := ask(t, ctx, chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(dir, name+view.name+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fitsAPhone looks whether the page has to be moved sideways on a small phone. The
// dashboard's pages are not ours.
func fitsAPhone(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	if strings.Contains(ask(t, ctx, chromedp.Location()), "/admin/queues") {
		return
	}
	const phone = 390
	do(t, ctx, "resizing to a phone", chromedp.EmulateViewport(phone, 700))
	if width := ask(t, ctx, chromedp.Evaluate[float64](`document.documentElement.scrollWidth`)); width > phone {
		t.Errorf("%s is %v px wide on a phone of %d", name, width, phone)
	}
	do(t, ctx, "resizing back", chromedp.EmulateViewport(1100, 700))
}

// TestAPersonSendsAPicture goes the whole way in a browser: sign up, log out,
// log in, a first try with faults, then a message whose page reaches its final
// status by itself, without being loaded again.
func TestAPersonSendsAPicture(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{TimeScale: 0.5})
	_, url := r.api()
	ctx := browser(t)

	do(t, ctx, "opening a page as a stranger", chromedp.Navigate(url+"/messages/new"), chromedp.WaitVisible(`#password`))
	picture(t, ctx, "login")
	do(t, ctx, "signing up", chromedp.Navigate(url+"/signup"),
		chromedp.SendKeys(`#email`, "grace@example.com"), chromedp.SendKeys(`#password`, "short"), chromedp.Submit(`#password`), chromedp.WaitVisible(`#password-fault`))
	picture(t, ctx, "signup-fault")
	do(t, ctx, "signing up again", chromedp.SendKeys(`#password`, "long enough now"), chromedp.Submit(`#password`), chromedp.WaitVisible(`.empty`))
	picture(t, ctx, "empty")
	do(t, ctx, "logging out", chromedp.Click(`.who button`), chromedp.WaitVisible(`#password`))
	do(t, ctx, "logging in for a page", chromedp.Navigate(url+"/messages/new"), chromedp.WaitVisible(`#email`),
		chromedp.SendKeys(`#email`, "grace@example.com"), chromedp.SendKeys(`#password`, "long enough now"), chromedp.Submit(`#password`),
		chromedp.WaitVisible(`form.postcard`))

	const login = `fetch("/login", {method: "POST", body: new URLSearchParams({email: "grace@example.com", password: "long enough now"})}).then(() => { document.body.id = "entered" }), true`
	do(t, ctx, "writing", chromedp.SendKeys(`#text`, "Written"))
	if _, err := r.store.DB().Exec(`DELETE FROM sessions`); err != nil { // it is over meanwhile
		t.Fatal(err)
	}
	do(t, ctx, "sending all the same", chromedp.Submit(`#to`), chromedp.WaitVisible(`//p[contains(., "You have been logged out")]`))
	picture(t, ctx, "compose-logged-out")
	if kept := ask(t, ctx, chromedp.Value(`#text`)); kept != "Written" {
		t.Errorf("kept %q", kept)
	}
	ask(t, ctx, chromedp.Evaluate[bool](login)) // in another tab
	do(t, ctx, "sending it then", chromedp.WaitVisible(`#entered`), chromedp.Submit(`#to`), chromedp.WaitVisible(`#summary`))

	do(t, ctx, "sending with faults", chromedp.SendKeys(`#to`, "12"), chromedp.SetValue(`#text`, "Greetings"),
		chromedp.SendKeys(`#media-0`, "ftp://example.com/x"), chromedp.Submit(`#to`), chromedp.WaitVisible(`#summary`))
	picture(t, ctx, "compose-faults")
	kept := ask(t, ctx, chromedp.Value(`#text`))
	if faults := ask(t, ctx, chromedp.Text(`#summary`)); kept != "Greetings" || !strings.Contains(faults, "Recipient is not a phone number") || !strings.Contains(faults, "Picture must start") {
		t.Errorf("kept %q, faults %q", kept, faults)
	}

	do(t, ctx, "sending", chromedp.SetValue(`#to`, "(416) 555-1234"), chromedp.SetValue(`#media-0`, url+"/static/postcard.svg"),
		chromedp.Submit(`#to`), chromedp.WaitVisible(`#media-0-fault`))
	do(t, ctx, "sending at last", chromedp.SetValue(`#media-0`, "https://example.com/picture.jpg"), chromedp.Submit(`#to`), chromedp.WaitVisible(`#live`))
	ask(t, ctx, chromedp.Evaluate[bool](`window.neverReloaded = true`))
	if flash := ask(t, ctx, chromedp.Text(`.notice.good`)); !strings.Contains(flash, "+1 416-555-1234") {
		t.Errorf("the notice %q does not say what was made of the number", flash)
	}
	if status := ask(t, ctx, chromedp.Text(`#status`)); status != "Queued" {
		t.Errorf("the status is %q before a worker runs, want Queued", status)
	}
	r.worker("")
	do(t, ctx, "watching the message to its end", chromedp.WaitVisible(`#status.delivered`))
	picture(t, ctx, "message")
	if !ask(t, ctx, chromedp.Evaluate[bool](`window.neverReloaded === true`)) {
		t.Error("the page was loaded again")
	}
	do(t, ctx, "going to the list", chromedp.Navigate(url+"/messages"), chromedp.WaitVisible(`.messages .delivered`))
	picture(t, ctx, "list")
	do(t, ctx, "looking at the overview", chromedp.Navigate(url+"/overview"), chromedp.WaitVisible(`.chart rect.good`))
	picture(t, ctx, "overview")
	do(t, ctx, "looking for the queues as no admin", chromedp.Navigate(url+"/admin/queues"), chromedp.WaitVisible(`h1`))
	if title := ask(t, ctx, chromedp.Text(`h1`)); title != "Not found" {
		t.Errorf("no admin sees %q", title)
	}
	picture(t, ctx, "not-found")
}

// TestAnOpenPageOutlivesTheAPI has a person look at a message, and at the list,
// while the api is killed and started again.
func TestAnOpenPageOutlivesTheAPI(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	api, url := r.api()
	ctx := browser(t)
	do(t, ctx, "logging in", chromedp.Navigate(url+"/messages/new"), chromedp.WaitVisible(`#email`),
		chromedp.SendKeys(`#email`, "admin@example.com"), chromedp.SendKeys(`#password`, "correct horse"), chromedp.Submit(`#password`),
		chromedp.WaitVisible(`form.postcard`),
		chromedp.SendKeys(`#to`, "4165551234"), chromedp.SendKeys(`#media-0`, "https://example.com/picture.jpg"),
		chromedp.Submit(`#to`), chromedp.WaitVisible(`#status.queued`))
	ask(t, ctx, chromedp.Evaluate[bool](`window.neverReloaded = true`))
	if _, err := r.store.DB().Exec(`UPDATE messages SET backlog_state = 'waiting', task_check_at = 'infinity'`); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, "opening the page of a message in line", chromedp.Reload(), chromedp.WaitReady(`#live[data-waiting]`))
	ask(t, ctx, chromedp.Evaluate[bool](`window.neverReloaded = true`))
	do(t, ctx, "being about to press a button", chromedp.Focus(`#cancel`))
	if _, err := r.store.DB().Exec(`INSERT INTO pauses (cause, detail, probe_at) VALUES ('plivo_credit', '', now() + interval '1 hour')`); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, "being told of a pause", chromedp.WaitVisible(`#pauses .notice`), chromedp.WaitVisible(`//section[contains(., "All sending is paused")]`))
	if focused := ask(t, ctx, chromedp.Evaluate[string](`document.activeElement.id`)); focused != "cancel" {
		t.Errorf("the focus has gone to %q", focused)
	}
	picture(t, ctx, "paused")
	if _, err := r.store.DB().Exec(`DELETE FROM pauses`); err != nil {
		t.Fatal(err)
	}
	api.end()
	do(t, ctx, "being told that the api is away", chromedp.WaitVisible(`#live-status.bad`))
	picture(t, ctx, "away")
	api = r.apiAt(strings.TrimPrefix(url, "http://"))
	r.worker("")
	do(t, ctx, "watching the message to its end", chromedp.WaitVisible(`#status.delivered`), chromedp.WaitReady(`#live-status.sr`))
	if !ask(t, ctx, chromedp.Evaluate[bool](`window.neverReloaded === true`)) {
		t.Error("the page was loaded again")
	}

	do(t, ctx, "opening the list", chromedp.Navigate(url+"/messages"), chromedp.WaitVisible(`.messages .delivered`))
	ask(t, ctx, chromedp.Evaluate[bool](`window.neverReloaded = true`))
	api.end()
	do(t, ctx, "being told that the api is away", chromedp.WaitVisible(`#live-status.bad`))
	r.apiAt(strings.TrimPrefix(url, "http://"))
	admin := loggedIn(t, url)
	if status, body, err := admin.post("/api/send-mms", `{"to":"+14165551235","mediaUrl":"https://example.com/b.jpg"}`); err != nil || status != http.StatusAccepted {
		t.Fatalf("sending: %d %s %v", status, body, err)
	}
	do(t, ctx, "seeing the new message arrive", chromedp.WaitVisible(`//a[contains(., "555-1235")]//span[contains(@class, "delivered")]`))
	if !ask(t, ctx, chromedp.Evaluate[bool](`window.neverReloaded === true`)) {
		t.Error("the list was loaded again")
	}
}

// TestAnAdminWatchesTheQueues opens asynqmon in a browser, under its own
// policy, and sees a task that failed for good.
func TestAnAdminWatchesTheQueues(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.RefusedDestination}); err != nil {
		t.Fatal(err)
	}
	r.accept(1)
	r.worker("")
	r.awaitFinal()
	_, url := r.api()
	ctx := browser(t)
	do(t, ctx, "logging in for the queues", chromedp.Navigate(url+"/admin/queues"), chromedp.WaitVisible(`#email`),
		chromedp.SendKeys(`#email`, "admin@example.com"), chromedp.SendKeys(`#password`, "correct horse"), chromedp.Submit(`#password`),
		chromedp.WaitVisible(`//a[text()="messages"]`))
	picture(t, ctx, "queues")
	do(t, ctx, "suppressing somebody", chromedp.Navigate(url+"/admin/suppressions"), chromedp.WaitVisible(`.empty`),
		chromedp.SendKeys(`#numbers`, "(416) 555-1234"), chromedp.Submit(`#numbers`), chromedp.WaitVisible(`//th[contains(., "416-555-1234")]`))
	picture(t, ctx, "suppressions")
	do(t, ctx, "opening the dead letters", chromedp.Navigate(url+"/admin/queues/queues/messages?status=archived"),
		chromedp.WaitVisible(`//*[contains(text(), "rejected_by_plivo")]`))
	picture(t, ctx, "dead-letters")
}

// TestAPersonSendsABatch makes a key and a webhook, uploads a file with a bad
// row, and watches the batch.
func TestAPersonSendsABatch(t *testing.T) {
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
	do(t, ctx, "logging in", chromedp.Navigate(url+"/settings/keys"), chromedp.WaitVisible(`#email`),
		chromedp.SendKeys(`#email`, "admin@example.com"), chromedp.SendKeys(`#password`, "correct horse"), chromedp.Submit(`#password`),
		chromedp.WaitVisible(`#name`), chromedp.SendKeys(`#name`, "Web shop"), chromedp.Submit(`#name`), chromedp.WaitVisible(`.secret`))
	picture(t, ctx, "keys")
	do(t, ctx, "adding a webhook", chromedp.Navigate(url+"/settings/webhooks"), chromedp.SendKeys(`#url`, hook.URL), chromedp.Submit(`#url`), chromedp.WaitVisible(`.secret`))

	do(t, ctx, "uploading a bad row", chromedp.Navigate(url+"/batches/new"), chromedp.SendKeys(`#name`, "Spring greetings"),
		chromedp.SetUploadFiles(`#file`, []string{file}), chromedp.SendKeys(`#text`, "Hello {{name}}"), chromedp.SendKeys(`#mediaUrl`, "https://example.com/picture.jpg"),
		chromedp.Submit(`#name`), chromedp.WaitVisible(`#summary`))
	picture(t, ctx, "batch-faults")
	if faults := ask(t, ctx, chromedp.Text(`#summary`)); !strings.Contains(faults, "Row 2: to") {
		t.Errorf("the faults are %q", faults)
	}
	do(t, ctx, "sending the others", chromedp.Click(`input[value=create_valid]`), chromedp.SetUploadFiles(`#file`, []string{file}),
		chromedp.Submit(`#name`), chromedp.WaitVisible(`progress`), chromedp.WaitVisible(`//progress[@value="100"]`), chromedp.WaitVisible(`.status.delivered`))
	picture(t, ctx, "batch")
	do(t, ctx, "looking at its messages", chromedp.Click(`//a[text()="All its messages"]`), chromedp.WaitVisible(`.messages .delivered`))
	picture(t, ctx, "list-of-batch")
	do(t, ctx, "looking at the batches", chromedp.Navigate(url+"/batches"), chromedp.WaitVisible(`//a[text()="Spring greetings"]`))
	picture(t, ctx, "batches")
	testkit.Eventually(t, "the webhook was told of all", func() bool {
		return r.count(`SELECT count(*) FROM webhook_events WHERE state = 'delivered'`) == 8
	})
	do(t, ctx, "looking at the webhook", chromedp.Navigate(url+"/settings/webhooks"), chromedp.WaitVisible(`th a`), chromedp.Click(`th a`), chromedp.WaitVisible(`//td[text()="delivered"]`))
	picture(t, ctx, "webhook")
	do(t, ctx, "reading about the API", chromedp.Navigate(url+"/docs/"), chromedp.WaitVisible(`//h3//span[text()="webhooks"] | //h2[contains(., "Postcard")]`))
}

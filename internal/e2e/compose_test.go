package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// sampleFile stores a sample picture as a file.
func (r *rig) sampleFile(name string) string {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), name)
	if err := os.WriteFile(path, r.samplePicture(name), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// openCompose opens the form for a new message as the admin.
func openCompose(t *testing.T, ctx context.Context, url string) {
	t.Helper()
	do(t, ctx, "logging in", chromedp.Navigate(url+"/messages/new"), chromedp.WaitVisible(`#email`),
		chromedp.SendKeys(`#email`, "admin@example.com"), chromedp.SendKeys(`#password`, "correct horse"), chromedp.Submit(`#password`),
		chromedp.WaitVisible(`form.postcard`))
}

// handOver makes the page receive a file as from a drag or from the clipboard.
func handOver(t *testing.T, ctx context.Context, event string, data []byte) {
	t.Helper()
	script := fmt.Sprintf(`(() => {
		const bytes = Uint8Array.from(atob(%q), (c) => c.charCodeAt(0));
		const data = new DataTransfer();
		data.items.add(new File([bytes], "handed-over.png", {type: "image/png"}));
		const target = document.getElementById("drop");
		target.dispatchEvent(%q === "paste"
			? new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true})
			: new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
		return true;
	})()`, base64.StdEncoding.EncodeToString(data), event)
	read(t, ctx, chromedp.Evaluate[bool](script))
}

// TestComposeWithPictures chooses, drops and pastes pictures, removes one, and sends the
// others. The pages then show them.
func TestComposeWithPictures(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	r.worker("")
	ctx := browser(t)
	openCompose(t, ctx, url)
	do(t, ctx, "choosing a photo", chromedp.SetUploadFiles(`#file`, []string{r.sampleFile("photo.jpg")}), chromedp.WaitVisible(`#uploads img`))
	if note := read(t, ctx, chromedp.Text(`#uploads .note`)); !strings.Contains(note, "MB → ") || !strings.Contains(note, "location removed") {
		t.Errorf("got note %q, want the sizes and that the location was removed", note)
	}
	handOver(t, ctx, "drop", r.samplePicture("drawing.png"))
	do(t, ctx, "dropping a picture", chromedp.WaitVisible(`#uploads li:nth-child(2) img`))
	handOver(t, ctx, "paste", r.samplePicture("transparent.png"))
	do(t, ctx, "pasting a picture", chromedp.WaitVisible(`#uploads li:nth-child(3) img`))
	handOver(t, ctx, "drop", []byte("no picture"))
	do(t, ctx, "dropping a text", chromedp.WaitVisible(`#uploads .bad`))
	if note := read(t, ctx, chromedp.Text(`#uploads .bad .note`)); !strings.Contains(note, "must be a JPEG, PNG, GIF or WebP picture") || !strings.Contains(note, "handed-over.png") {
		t.Errorf("got %q of a text, want the rule and the name", note)
	}
	do(t, ctx, "typing", chromedp.SendKeys(`#text`, "From the coast"), chromedp.SendKeys(`#to`, "(416) 555-1234"))
	screenshot(t, ctx, "compose-pictures")
	if n := read(t, ctx, chromedp.Evaluate[int](`document.querySelectorAll("#phone-pictures img").length`)); n != 3 {
		t.Errorf("got %d pictures on the phone, want 3", n)
	}
	if text := read(t, ctx, chromedp.Text(`#phone-text`)); text != "From the coast" {
		t.Errorf("got %q on the phone, want the text", text)
	}
	do(t, ctx, "removing the second by keyboard", chromedp.Focus(`#uploads li:nth-child(2) button`), chromedp.KeyEvent("\r"), chromedp.WaitNotPresent(`#uploads li:nth-child(4)`))
	if focused := read(t, ctx, chromedp.Evaluate[string](`document.activeElement.getAttribute("aria-label")`)); focused != "Remove handed-over.png" {
		t.Errorf("got the focus on %q, want it on the next picture's button", focused)
	}
	do(t, ctx, "sending", chromedp.Submit(`#to`), chromedp.WaitVisible(`#status.delivered`), chromedp.WaitVisible(`.pictures li:nth-child(2) img`))
	screenshot(t, ctx, "message-pictures")
	wantPictures(t, ctx, `.pictures img`, 2)
	do(t, ctx, "opening the list", chromedp.Navigate(url+"/messages"), chromedp.WaitVisible(`.messages img`))
	screenshot(t, ctx, "list-pictures")
	wantPictures(t, ctx, `.messages img`, 1)
	if sent := r.sim.Ledger(); len(sent) != 1 || len(sent[0].Media) != 2 {
		t.Errorf("got %+v at Plivo, want one message with two pictures", sent)
	}
}

// wantPictures checks that the page shows n pictures that could be loaded.
func wantPictures(t *testing.T, ctx context.Context, selector string, n int) {
	t.Helper()
	script := fmt.Sprintf(`Promise.all(Array.from(document.querySelectorAll(%q), (i) => i.decode().then(() => 1, () => 0))).then((l) => l.reduce((a, b) => a + b, 0))`, selector)
	if got := read(t, ctx, chromedp.Evaluate[int](script, chromedp.EvalAwaitPromise)); got != n {
		t.Errorf("%s: got %d pictures that can be shown, want %d", selector, got, n)
	}
}

// TestComposeWithoutScripts sends a picture by the form alone. One that is refused leaves the
// others chosen, and the text.
func TestComposeWithoutScripts(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	ctx := browser(t)
	openCompose(t, ctx, url)
	text := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(text, []byte("no picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, "choosing a picture and a text", chromedp.Reload(), chromedp.WaitVisible(`#file`),
		chromedp.SendKeys(`#to`, "(416) 555-1234"), chromedp.SendKeys(`#text`, "Hello"),
		chromedp.SetUploadFiles(`#file`, []string{r.sampleFile("small-photo.jpg"), text}), chromedp.Click(`form.postcard button`), chromedp.WaitVisible(`#file-error`))
	if message := read(t, ctx, chromedp.Text(`#file-error`)); !strings.Contains(message, "notes.txt") {
		t.Errorf("got error %q, want one that names the file", message)
	}
	screenshot(t, ctx, "compose-refused-file")
	if typed := read(t, ctx, chromedp.Value(`#text`)); typed != "Hello" {
		t.Errorf("got text %q after the error, want Hello", typed)
	}
	do(t, ctx, "sending what is left", chromedp.WaitVisible(`#uploads img`), chromedp.Click(`form.postcard button`), chromedp.WaitVisible(`#status.queued`))
	if n := r.count(`SELECT count(*) FROM message_media WHERE upload_id IS NOT NULL`); n != 1 {
		t.Errorf("got a message with %d uploads, want 1", n)
	}
}

// TestComposeChecksLinks enters links that work and that do not, and one that nobody could
// fetch.
func TestComposeChecksLinks(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api("MEDIA_CHECK=on", "ALLOW_PRIVATE_MEDIA=true")
	ctx := browser(t)
	openCompose(t, ctx, url)
	for link, want := range map[string]string{
		r.plivoURL + "/sim/pictures/drawing.png": "A picture of",
		r.plivoURL + "/sim/pictures/missing.jpg": "404",
		"https://-example.com/a.jpg":             "The link must name a host",
	} {
		do(t, ctx, "entering a link", chromedp.SetValue(`#media-0`, link))
		read(t, ctx, chromedp.Evaluate[bool](`document.getElementById("media-0").dispatchEvent(new Event("change", {bubbles: true}))`))
		do(t, ctx, "waiting for what is behind it", chromedp.WaitVisible(`//p[contains(@class, "found") and contains(., "`+want+`")]`))
	}
	caller := loggedIn(t, url)
	if status, body, err := caller.post("/api/media/check", fmt.Sprintf(`{"url":%q}`, r.plivoURL+"/sim/pictures/moved.jpg")); err != nil || status != 200 || !strings.Contains(body, `"redirected":true`) {
		t.Errorf("checking a redirect: got %d %s, %v", status, body, err)
	}
}

// TestBatchWithUploadedPicture creates a batch whose picture is a file, after a first try
// with a file that is no picture.
func TestBatchWithUploadedPicture(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	r.worker("")
	ctx := browser(t)
	openCompose(t, ctx, url)
	rows := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(rows, []byte("to,name\n+14165551000,Ada\n+14165551001,Bob\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, "choosing a picture and a table as pictures", chromedp.Navigate(url+"/batches/new"), chromedp.WaitVisible(`#picture`),
		chromedp.SetUploadFiles(`#file`, []string{rows}), chromedp.SetUploadFiles(`#picture`, []string{r.sampleFile("small-photo.jpg"), rows}),
		chromedp.SendKeys(`#text`, "Hi {{name}}"), chromedp.Submit(`#name`), chromedp.WaitVisible(`#summary`))
	if errors := read(t, ctx, chromedp.Text(`#summary`)); !strings.Contains(errors, "rows.csv") {
		t.Errorf("got errors %q, want one that names the file", errors)
	}
	do(t, ctx, "submitting with the picture that is left", chromedp.WaitVisible(`.uploads img`), chromedp.SetUploadFiles(`#file`, []string{rows}),
		chromedp.Submit(`#name`), chromedp.WaitVisible(`//dd[normalize-space()="Finished"] | //*[contains(., "has been submitted")]`))
	r.wantUploads(1)
	if sent := r.sim.Ledger(); len(sent) != 2 || len(sent[0].Media) != 1 || len(sent[1].Media) != 1 {
		t.Errorf("got %+v at Plivo, want two messages with the picture", sent)
	}
}

// TestComposeWaitsForUploads presses Send while a picture is being uploaded, cancels the
// upload, and drops and pastes where people do.
func TestComposeWaitsForUploads(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	ctx := browser(t)
	openCompose(t, ctx, url)
	do(t, ctx, "typing", chromedp.SendKeys(`#to`, "(416) 555-1234"), chromedp.SendKeys(`#media-0`, "https://example.com/a.jpg"))
	read(t, ctx, chromedp.Evaluate[bool](`(() => { window.send = XMLHttpRequest.prototype.send; XMLHttpRequest.prototype.send = () => {}; return true; })()`))
	handOver(t, ctx, "drop", r.samplePicture("drawing.png"))
	do(t, ctx, "sending too early", chromedp.WaitVisible(`#uploads progress`), chromedp.Click(`form.postcard .left > button`),
		chromedp.WaitVisible(`//p[@id="upload-waiting" and contains(., "still being uploaded")]`))
	screenshot(t, ctx, "compose-uploading")
	if n := r.count(`SELECT count(*) FROM messages`); n != 0 {
		t.Errorf("got %d messages while a picture was being uploaded, want 0", n)
	}
	do(t, ctx, "canceling", chromedp.Click(`#uploads button`), chromedp.WaitNotPresent(`#uploads li`))
	if text := read(t, ctx, chromedp.Evaluate[string](`document.getElementById("upload-waiting").textContent`)); text != "" {
		t.Errorf("got %q after the upload was canceled, want nothing", text)
	}

	// Word processors put a picture of a copied text beside it; a file may miss the field.
	script := fmt.Sprintf(`(() => {
		XMLHttpRequest.prototype.send = window.send;
		const file = new File([Uint8Array.from(atob(%q), (c) => c.charCodeAt(0))], "missed.png", {type: "image/png"});
		const copied = new DataTransfer();
		copied.setData("text/plain", "Hello");
		copied.items.add(file);
		const untouched = document.getElementById("text").dispatchEvent(new ClipboardEvent("paste", {clipboardData: copied, bubbles: true, cancelable: true}));
		const dragged = new DataTransfer();
		dragged.items.add(file);
		return untouched && !document.querySelector("h1").dispatchEvent(new DragEvent("drop", {dataTransfer: dragged, bubbles: true, cancelable: true}));
	})()`, base64.StdEncoding.EncodeToString(r.samplePicture("drawing.png")))
	if !read(t, ctx, chromedp.Evaluate[bool](script)) {
		t.Error("got a pasted text taken as a picture, or a dropped file left to the browser")
	}
	do(t, ctx, "sending", chromedp.WaitVisible(`#uploads img`), chromedp.Click(`form.postcard .left > button`), chromedp.WaitVisible(`#status.queued`))
	if n := r.count(`SELECT count(*) FROM message_media`); n != 2 {
		t.Errorf("got a message with %d pictures, want the link and the upload", n)
	}
}

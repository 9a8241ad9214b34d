package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"image"
	"image/color/palette"
	"image/gif"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
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

// TestComposeChecksLinks types links that work and that do not, and one that nobody could
// fetch. The phone shows the picture behind the one that works.
func TestComposeChecksLinks(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api("MEDIA_CHECK=on", "ALLOW_PRIVATE_MEDIA=true")
	ctx := browser(t)
	openCompose(t, ctx, url)
	empty := func() {
		t.Helper()
		read(t, ctx, chromedp.Evaluate[string](`document.getElementById("media-0").value = ""`))
	}
	for link, want := range map[string]string{
		r.plivoURL + "/sim/pictures/drawing.png": "A picture of",
		r.plivoURL + "/sim/pictures/missing.jpg": "404",
		"https://-example.com/a.jpg":             "The link must name a host",
	} {
		empty()
		do(t, ctx, "typing a link", chromedp.SendKeys(`#media-0`, link), // and staying in the field
			chromedp.WaitVisible(`//p[contains(@class, "found") and contains(., "`+want+`")]`))
	}
	empty()
	do(t, ctx, "typing two links", chromedp.SendKeys(`#media-0`, r.plivoURL+"/sim/pictures/drawing.png "+r.plivoURL+"/sim/pictures/missing.jpg"),
		chromedp.WaitVisible(`//p[contains(@class, "found") and contains(., "A picture of") and contains(., "404")]`))
	wantPictures(t, ctx, `#phone-pictures img`, 1)
	screenshot(t, ctx, "compose-links")
	if described := read(t, ctx, chromedp.Evaluate[string](`document.getElementById("media-0").getAttribute("aria-describedby")`)); described != "media-hint media-0-found" {
		t.Errorf("got the field described by %q, want also what was found", described)
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

// awaitTrue waits until a condition in JavaScript holds.
func awaitTrue(t *testing.T, ctx context.Context, name, condition string) {
	t.Helper()
	script := fmt.Sprintf(`new Promise((done) => { const look = () => ((%s) ? done(true) : setTimeout(look, 20)); look(); })`, condition)
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// TestComposeCancelsASlowUpload cancels an upload that would take a minute, by keyboard. The
// server keeps nothing of it.
func TestComposeCancelsASlowUpload(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	ctx := browser(t)
	openCompose(t, ctx, url)
	slow := network.Conditions{DownloadThroughput: -1, UploadThroughput: 60_000}
	if _, err := chromedp.Call(ctx, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{&slow}}); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, "choosing a large photo", chromedp.SetUploadFiles(`#file`, []string{r.sampleFile("photo.jpg")}), chromedp.WaitVisible(`#uploads progress`))
	awaitTrue(t, ctx, "progress", `document.querySelector("#uploads progress").position > 0`)
	if position := read(t, ctx, chromedp.Evaluate[float64](`document.querySelector("#uploads progress").position`)); position >= 1 {
		t.Errorf("got a progress of %v of a slow upload, want less than 1", position)
	}
	do(t, ctx, "canceling by keyboard", chromedp.Focus(`#uploads button`), chromedp.KeyEvent("\r"), chromedp.WaitNotPresent(`#uploads li`))
	if status := read(t, ctx, chromedp.Evaluate[string](`document.getElementById("upload-status").textContent`)); status != "The upload of photo.jpg is canceled" {
		t.Errorf("got %q announced, want that the upload is canceled", status)
	}
	if focused := read(t, ctx, chromedp.Evaluate[string](`document.activeElement.id`)); focused != "file" {
		t.Errorf("got the focus on %q after canceling, want it on the field for files", focused)
	}
	if n := r.count(`SELECT count(*) FROM media_uploads`); n != 0 {
		t.Errorf("got %d uploads after canceling, want none", n)
	}
}

// TestComposeByKeyboard fills in the form in the order of its fields and sends it, without a
// mouse, at 200 % zoom and in a narrow window.
func TestComposeByKeyboard(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	ctx := browser(t)
	openCompose(t, ctx, url)
	do(t, ctx, "zooming to 200 %", chromedp.EmulateViewport(desktopWidth/2, 350, chromedp.EmulateScale(2)),
		chromedp.Focus(`#to`), chromedp.KeyEvent("(416) 555-1234"), chromedp.SetUploadFiles(`#file`, []string{r.sampleFile("small-photo.jpg")}), chromedp.WaitVisible(`#uploads img`))
	focused := func() string {
		return read(t, ctx, chromedp.Evaluate[string](`(() => { const e = document.activeElement; return e.id || (e.getAttribute("aria-label") ?? e.textContent).trim(); })()`))
	}
	var order []string
	for len(order) < 20 && focused() != "Send message" {
		do(t, ctx, "going on", chromedp.KeyEvent("\t"))
		order = append(order, focused())
		if focused() == "text" {
			do(t, ctx, "typing", chromedp.KeyEvent("By keyboard"))
		}
	}
	if want := []string{"file", "Remove small-photo.jpg", "media-0", "Add another link", "text", "More options", "Send message"}; !slices.Equal(order, want) {
		t.Fatalf("got the order %q, want %q", order, want)
	}
	for _, width := range []int64{desktopWidth / 2, phoneWidth, 320} {
		do(t, ctx, "resizing", chromedp.EmulateViewport(width, 350, chromedp.EmulateScale(2)))
		if got := read(t, ctx, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`)); got > width {
			t.Errorf("got a page of %d px in a window of %d px", got, width)
		}
	}
	if below := read(t, ctx, chromedp.Evaluate[bool](`document.querySelector(".right").getBoundingClientRect().top >= document.querySelector(".left").getBoundingClientRect().bottom - 1`)); !below {
		t.Error("got the phone beside the form in a narrow window, want it below")
	}
	do(t, ctx, "sending", chromedp.KeyEvent("\r"), chromedp.WaitVisible(`#status.queued`))
	if n := r.count(`SELECT count(*) FROM messages m JOIN message_media ON message_id = m.id WHERE m.text = 'By keyboard' AND upload_id IS NOT NULL`); n != 1 {
		t.Errorf("got %d messages with the text and the picture, want 1", n)
	}
}

// TestComposeKeepsPicturesAfterTheSession ends the session while a message is written. After a
// log-in in another tab, the message is sent with its text and picture.
func TestComposeKeepsPicturesAfterTheSession(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	ctx := browser(t)
	openCompose(t, ctx, url)
	endSession := func() {
		t.Helper()
		if _, err := r.store.DB().Exec(`DELETE FROM sessions`); err != nil {
			t.Fatal(err)
		}
	}
	logIn := func() {
		t.Helper()
		const script = `fetch("/login", {method: "POST", body: new URLSearchParams({email: "admin@example.com", password: "correct horse"})}).then((r) => r.ok)`
		if !read(t, ctx, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise)) {
			t.Fatal("logging in as from another tab failed")
		}
	}
	do(t, ctx, "writing", chromedp.SendKeys(`#to`, "(416) 555-1234"), chromedp.SendKeys(`#text`, "Kept"),
		chromedp.SetUploadFiles(`#file`, []string{r.sampleFile("small-photo.jpg")}), chromedp.WaitVisible(`#uploads img`))
	endSession()
	handOver(t, ctx, "drop", r.samplePicture("drawing.png"))
	do(t, ctx, "dropping a picture without a session", chromedp.WaitVisible(`//*[@id="uploads"]//span[contains(., "Your session has ended")]`), chromedp.Click(`#uploads .bad button`))
	do(t, ctx, "sending without a session", chromedp.Submit(`#to`), chromedp.WaitVisible(`//p[contains(., "Your session has ended")]`))
	screenshot(t, ctx, "compose-session-ended")
	if text := read(t, ctx, chromedp.Value(`#text`)); text != "Kept" {
		t.Errorf("got text %q, want what was written", text)
	}
	logIn()
	do(t, ctx, "sending after the log-in", chromedp.Submit(`#to`), chromedp.WaitVisible(`#status.queued`))
	if n := r.count(`SELECT count(*) FROM messages m JOIN message_media ON message_id = m.id WHERE m.text = 'Kept' AND upload_id IS NOT NULL`); n != 1 {
		t.Errorf("got %d messages with the text and the picture, want 1", n)
	}
}

// TestComposeOffersTheFirstFrame uploads an animation that is too large.
func TestComposeOffersTheFirstFrame(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api("MMS_BUDGET=20000")
	ctx := browser(t)
	openCompose(t, ctx, url)
	film := filepath.Join(t.TempDir(), "film.gif")
	if err := os.WriteFile(film, noisyFilm(t), 0o600); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, "choosing an animation", chromedp.SetUploadFiles(`#file`, []string{film}), chromedp.WaitVisible(`//button[.="Use the first frame"]`))
	screenshot(t, ctx, "compose-first-frame")
	do(t, ctx, "using its first frame", chromedp.Focus(`//button[.="Use the first frame"]`), chromedp.KeyEvent("\r"), chromedp.WaitVisible(`#uploads img`))
	if note := read(t, ctx, chromedp.Text(`#uploads .note`)); !strings.Contains(note, "first frame only") {
		t.Errorf("got note %q, want one that says that only the first frame is sent", note)
	}
}

// noisyFilm returns an animation that hardly compresses.
func noisyFilm(t *testing.T) []byte {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	film := &gif.GIF{}
	for range 2 {
		frame := image.NewPaletted(image.Rect(0, 0, 150, 150), palette.Plan9)
		for i := range frame.Pix {
			frame.Pix[i] = byte(random.Uint32())
		}
		film.Image, film.Delay = append(film.Image, frame), append(film.Delay, 10)
	}
	var out bytes.Buffer
	if err := gif.EncodeAll(&out, film); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

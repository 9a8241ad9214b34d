package e2e

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// narrowWidth is that of the smallest phones, and of a page at 400 % on a desktop (WCAG 2.2,
// reflow).
const narrowWidth = 320

// TestAdminOperates walks through the operator's pages at 320 px: it adds a sender, lets it
// rest, sees a message wait for it, and puts it back.
func TestAdminOperates(t *testing.T) {
	t.Parallel()
	const added = mms.PhoneNumber("+14155550109")
	r := newRig(t, plivosim.Config{MessageURL: "https://other.example.com/callbacks/plivo/inbound"})
	r.worker("")
	_, url := r.api("PUBLIC_URL=http://localhost", "CALLBACK_URL=http://callbacks.example.com")
	ctx := browser(t)
	wantWidth := func(name string) {
		t.Helper()
		if width := read(t, ctx, chromedp.Evaluate[float64](`document.documentElement.scrollWidth`)); width > narrowWidth {
			t.Errorf("%s: got a page of %v px on a phone of %d px", name, width, narrowWidth)
		}
	}
	do(t, ctx, "logging in", chromedp.EmulateViewport(narrowWidth, 700), chromedp.Navigate(url+"/login?next=/admin/health"), chromedp.WaitVisible(`#email`),
		chromedp.SendKeys(`#email`, "admin@example.com"), chromedp.SendKeys(`#password`, "correct horse"), chromedp.Submit(`#password`), chromedp.WaitVisible(`nav.top, .top nav`))
	testkit.Eventually(t, "the page shows the worker, the account and a sample", func() bool {
		do(t, ctx, "opening the health", chromedp.Navigate(url+"/admin/health"), chromedp.WaitVisible(`#processes`))
		text := read(t, ctx, chromedp.Text(`main`))
		return strings.Contains(text, "100.00000 US dollars") && strings.Contains(text, "alive") && read(t, ctx, chromedp.Evaluate[bool](`document.querySelector("svg.chart polyline") !== null`))
	})
	wantWidth("health")

	do(t, ctx, "adding a sender", chromedp.Navigate(url+"/admin/senders"), chromedp.WaitVisible(`#number`),
		chromedp.SendKeys(`#number`, string(added)), chromedp.SendKeys(`#rate`, "0"), chromedp.Submit(`#number`), chromedp.WaitVisible(`section[aria-label="+1 415-555-0109"]`))
	wantWidth("senders")
	if text := read(t, ctx, chromedp.Text(`main`)); !strings.Contains(text, "its message URL is not ours") {
		t.Errorf("the page does not say that replies are lost: %s", text)
	}
	do(t, ctx, "letting it rest", chromedp.Click(`button[aria-label="Rest +1 415-555-0109"]`), chromedp.WaitVisible(`button[aria-label="Put back +1 415-555-0109"]`))
	r.intake.Rules.Senders = []mms.PhoneNumber{added} // as a message that was created before
	id := r.create(1)[0].ID
	testkit.Eventually(t, "the message waits", func() bool {
		position, waiting, err := r.store.QueuePosition(t.Context(), r.workspace, id)
		return err == nil && waiting && position.Resting
	})
	do(t, ctx, "invalid rate", chromedp.SetValue(`[id="rate-+14155550109"]`, "fast"), chromedp.Submit(`[id="rate-+14155550109"]`), chromedp.WaitVisible(`[id="rate-+14155550109"][aria-invalid]`))
	wantWidth("senders with an error")
	do(t, ctx, "putting it back", chromedp.Click(`button[aria-label="Put back +1 415-555-0109"]`), chromedp.WaitVisible(`button[aria-label="Rest +1 415-555-0109"]`))
	r.awaitFinal()

	for path, selector := range map[string]string{"/admin/settings": `//code[text()="SENDER_RATE"]`, "/admin/verification": `main h1`} {
		do(t, ctx, "opening "+path, chromedp.Navigate(url+path), chromedp.WaitReady(selector))
		wantWidth(path)
	}
}

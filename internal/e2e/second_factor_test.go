package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/pquerna/otp/totp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// secretKey is a SECRET_KEY for tests.
const secretKey = "SECRET_KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// TestSecondFactor sets up an authenticator app, which the installation requires, logs out,
// and logs in with a code at another api process and with a recovery code.
func TestSecondFactor(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{TimeScale: 0.5})
	_, url := r.api(secretKey, "REQUIRE_2FA=all")
	_, other := r.api(secretKey, "REQUIRE_2FA=all")
	ctx := browser(t)
	const email, password = "admin@example.com", "correct horse"
	logIn := []action{chromedp.WaitVisible(`#email`), chromedp.SendKeys(`#email`, email), chromedp.SendKeys(`#password`, password), chromedp.Submit(`#password`)}

	do(t, ctx, "logging in without a second factor", append([]action{chromedp.Navigate(url + "/login")}, logIn...)...)
	do(t, ctx, "being led to the second factor", chromedp.WaitVisible(`//p[contains(., "requires a second factor")]`))
	screenshot(t, ctx, "second-factor-required")
	do(t, ctx, "opening another page", chromedp.Navigate(url+"/messages"), chromedp.WaitVisible(`//p[contains(., "requires a second factor")]`))
	do(t, ctx, "starting", chromedp.SendKeys(`#password`, password), chromedp.Submit(`#password`), chromedp.WaitVisible(`#totp-secret`))
	screenshot(t, ctx, "second-factor-setup")
	if width := read(t, ctx, chromedp.Evaluate[int](`document.querySelector(".qr").naturalWidth`)); width < 100 {
		t.Errorf("got a QR code of %d px: the content security policy may have blocked it", width)
	}
	appSecret := strings.ReplaceAll(read(t, ctx, chromedp.Text(`#totp-secret`)), " ", "")
	// A code works once, so the log-in uses the code of the next step, which is valid already.
	code := func(ahead time.Duration) string {
		code, err := totp.GenerateCode(appSecret, time.Now().Add(ahead))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	do(t, ctx, "confirming with a wrong code", chromedp.SendKeys(`#code`, "12345"), chromedp.Submit(`#code`), chromedp.WaitVisible(`.notice.bad`))
	do(t, ctx, "confirming", chromedp.SendKeys(`#code`, code(0)), chromedp.Submit(`#code`), chromedp.WaitVisible(`.codes`))
	screenshot(t, ctx, "second-factor-codes")
	recovery := read(t, ctx, chromedp.Text(`.codes li:first-child code`))
	do(t, ctx, "continuing", chromedp.Click(`.notice.good a`), chromedp.WaitVisible(`.empty`))

	do(t, ctx, "logging out", chromedp.Click(`.account button`), chromedp.WaitVisible(`#email`))
	do(t, ctx, "logging in at another process", append([]action{chromedp.Navigate(other + "/batches")}, logIn...)...)
	do(t, ctx, "being asked for the code", chromedp.WaitVisible(`#code`))
	screenshot(t, ctx, "login-factor")
	next := code(30 * time.Second)
	do(t, ctx, "entering the code", chromedp.SendKeys(`#code`, next), chromedp.Submit(`#code`), chromedp.WaitVisible(`//h1[contains(., "Batches")]`))

	do(t, ctx, "logging out again", chromedp.Click(`.account button`), chromedp.WaitVisible(`#email`))
	do(t, ctx, "logging in once more", append([]action{chromedp.Navigate(url + "/batches")}, logIn...)...)
	do(t, ctx, "repeating the code", chromedp.WaitVisible(`#code`), chromedp.SendKeys(`#code`, next), chromedp.Submit(`#code`), chromedp.WaitVisible(`.notice.bad`))
	do(t, ctx, "entering a recovery code", chromedp.SendKeys(`#code`, recovery), chromedp.Submit(`#code`), chromedp.WaitVisible(`//h1[contains(., "Batches")]`))
	do(t, ctx, "opening the settings", chromedp.Navigate(url+"/account/second-factor"), chromedp.WaitVisible(`//p[contains(., "9 of your recovery codes")]`))
	screenshot(t, ctx, "second-factor")
}

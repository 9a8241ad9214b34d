package e2e

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/postcard-mms/postcard/internal/devstack"
	"github.com/postcard-mms/postcard/internal/plivosim"
)

// TestPasskeys adds a passkey of a virtual authenticator, logs in with it alone and as the
// second factor, and removes it.
func TestPasskeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{TimeScale: 0.5})
	port, err := devstack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://localhost:%d", port) // passkeys belong to a name, not to an address
	r.apiAt(fmt.Sprintf("127.0.0.1:%d", port), secretKey, "PUBLIC_URL="+url)
	ctx := browser(t)
	do(t, ctx, "opening a page", chromedp.Navigate(url+"/login"), chromedp.WaitVisible(`#email`))
	if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	device := webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}
	if _, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &device}); err != nil {
		t.Fatal(err)
	}
	const email, password = "admin@example.com", "correct horse"
	logIn := []action{chromedp.WaitVisible(`#email`), chromedp.SendKeys(`#email`, email), chromedp.SendKeys(`#password`, password), chromedp.Submit(`#password`)}
	const usePasskey, addPasskey = `form[data-passkey="get"] button`, `form[data-passkey="create"] button`

	do(t, ctx, "logging in", logIn...)
	do(t, ctx, "adding a passkey with a wrong password", chromedp.WaitVisible(`.empty`), chromedp.Navigate(url+"/account/second-factor"), chromedp.WaitVisible(`#passkey-name`),
		chromedp.SendKeys(`#passkey-name`, "Laptop"), chromedp.SendKeys(`#passkey-password`, "wrong"), chromedp.Click(addPasskey),
		chromedp.WaitVisible(`//p[contains(., "The password is wrong")]`))
	do(t, ctx, "adding a passkey", chromedp.SetValue(`#passkey-password`, password), chromedp.Click(addPasskey), chromedp.WaitVisible(`.codes`))
	screenshot(t, ctx, "passkey-added")

	do(t, ctx, "logging out", chromedp.Click(`.account button`), chromedp.WaitVisible(usePasskey))
	screenshot(t, ctx, "login-passkey")
	do(t, ctx, "logging in with the passkey alone", chromedp.Click(usePasskey), chromedp.WaitVisible(`.empty`))

	do(t, ctx, "logging out again", chromedp.Click(`.account button`))
	do(t, ctx, "logging in with the password", logIn...)
	do(t, ctx, "confirming with the passkey", chromedp.WaitVisible(`#code`), chromedp.Click(usePasskey), chromedp.WaitVisible(`.empty`))

	do(t, ctx, "removing the passkey", chromedp.Navigate(url+"/account/second-factor"), chromedp.WaitVisible(`.passkeys input`))
	screenshot(t, ctx, "passkeys")
	do(t, ctx, "entering the password", chromedp.SendKeys(`.passkeys input[name="password"]`, password), chromedp.Submit(`.passkeys input[name="password"]`),
		chromedp.WaitVisible(`//p[contains(., "The passkey is removed")]`))
	do(t, ctx, "logging out for the last time", chromedp.Click(`.account button`), chromedp.WaitVisible(usePasskey))
	do(t, ctx, "using the removed passkey", chromedp.Click(usePasskey), chromedp.WaitVisible(`.notice.bad`))
	do(t, ctx, "logging in without a second factor", append(logIn, chromedp.WaitVisible(`.empty`))...)
}

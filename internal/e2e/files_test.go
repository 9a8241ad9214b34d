package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestUserUploadsAFileFromExcel uploads what a Canadian Excel saves as "CSV (Comma
// delimited)": semicolons, and Windows-1252, which has to be confirmed.
func TestUserUploadsAFileFromExcel(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	r.worker("")
	file := filepath.Join(t.TempDir(), "clients.csv")
	if err := os.WriteFile(file, []byte("Pr\xe9nom;Phone Number;;\r\nJos\xe9;+14165601000;;\r\n;;;\r\n\"Anne, dite \"\"Zo\xeb\"\"\";+14165601001;;\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := browser(t)
	do(t, ctx, "logging in", chromedp.Navigate(url+"/batches/new"), chromedp.WaitVisible(`#email`),
		chromedp.SendKeys(`#email`, "admin@example.com"), chromedp.SendKeys(`#password`, "correct horse"), chromedp.Submit(`#password`), chromedp.WaitVisible(`#file`))
	do(t, ctx, "uploading the file", chromedp.SetUploadFiles(`#file`, []string{file}), chromedp.SendKeys(`#text`, "Bonjour {{prénom}}"),
		chromedp.SendKeys(`#mediaUrl`, "https://example.com/picture.jpg"), chromedp.Submit(`#name`), chromedp.WaitVisible(`#summary`))
	screenshot(t, ctx, "batch-encoding")
	if errors := read(t, ctx, chromedp.Text(`#summary`)); !strings.Contains(errors, "line 1") || !strings.Contains(errors, "“Prénom”") {
		t.Errorf("got errors %q, want the first line and its word", errors)
	}
	do(t, ctx, "confirming the encoding", chromedp.Click(`#charset`), chromedp.SetUploadFiles(`#file`, []string{file}), chromedp.Submit(`#name`), chromedp.WaitVisible(`progress`))
	r.awaitFinal()
	for recipient, want := range map[string]string{"+14165601000": "Bonjour José", "+14165601001": `Bonjour Anne, dite "Zoë"`} {
		if r.count(`SELECT count(*) FROM messages WHERE recipient = $1 AND text = $2`, recipient, want) != 1 {
			t.Errorf("%s: got no message %q", recipient, want)
		}
	}
	if sent := len(r.sim.Ledger()); sent != 2 {
		t.Errorf("got %d messages, want 2", sent)
	}
}

// TestDotenv starts a worker with settings from a file.
func TestDotenv(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	programs, err := r.build()
	if err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{
		"# settings\r\nSENDER_RATES=15\r\n":            "reading .env: line 2: SENDER_RATES is not a setting: did you mean SENDER_RATE?",
		"SENDER_RATE=15\nPLIVO_AUTH_TOKEN='ab$CD99x\n": "reading .env: line 2: the quote at which the value of PLIVO_AUTH_TOKEN begins is never closed",
		"\ufeffSENDER_RATE=fast\n":                     "SENDER_RATE must be a number",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		command := exec.CommandContext(t.Context(), filepath.Join(programs, "worker"))
		command.Dir, command.Env = dir, []string{"DATABASE_URL=" + r.database}
		out, err := command.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) || strings.Contains(string(out), "ab$") {
			t.Errorf("%q: got %v with %s, want %s", content, err, out, want)
		}
	}
	r.worker("", "LOG_LEVELS=warn").awaitLog("LOG_LEVELS is not a setting: did you mean LOG_LEVEL?")
}

// TestTextsInCSVArriveUnchanged uploads a file whose texts have everything that CSV can
// have, and compares with what arrives.
func TestTextsInCSVArriveUnchanged(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	r.worker("")
	c := &contract{t: t, url: url}
	admin := c.user("")
	admin.http.Transport = nil
	admin.want(200, "POST", "/api/login", "\ufeff"+`{"email":"admin@example.com","password":"correct horse"}`)
	file := "sep=;\r\nMobile;\" Message \"\r\n"
	texts := []string{"two\nlines", "a; b, c | d", `"quoted"`, "😀 ’", "=1+1"}
	for i, text := range texts {
		file += fmt.Sprintf("+1416560100%d;\"%s\"\r\n", i, strings.ReplaceAll(text, `"`, `""`))
	}
	admin.want(202, "POST", "/api/batches?text={{message}}&mediaUrl=https://example.com/a.jpg", file+";\r\n   ", "Content-Type", "text/csv")
	testkit.Eventually(t, "all messages are sent", func() bool { return len(r.sim.Ledger()) == len(texts) })
	for i, text := range texts {
		if r.count(`SELECT count(*) FROM messages WHERE recipient = $1 AND text = $2`, fmt.Sprintf("+1416560100%d", i), text) != 1 {
			t.Errorf("got no message %q", text)
		}
	}
}

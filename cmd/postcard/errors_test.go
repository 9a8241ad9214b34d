package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/client"
)

// goError matches the words of Go's own errors, which mean nothing to an operator.
var goError = regexp.MustCompile(`parsing time|parse error|strconv|dial tcp|invalid character|Post "|Get "|parse "|flag provided|for flag|time: |reading the flags|protocol scheme`)

// TestErrorsAreForPeople checks what the command line says about arguments that people get
// wrong: the name of the flag, the rule, and an example.
func TestErrorsAreForPeople(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer page.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	const message = "send --to 4165551234 --media https://example.com/a.jpg "
	const atRule = "--at must be a time in RFC 3339 form with its zone, like 2026-12-24T18:00:00-05:00 or 2026-12-24T23:00:00Z, not "
	for _, tt := range []struct{ args, server, key, want string }{
		{message + "--at 2026-12-24T18:00:00", page.URL, "k", atRule + `"2026-12-24T18:00:00"`},
		{message + "--at 2026-12-24", page.URL, "k", atRule + `"2026-12-24"`},
		{message + "--at tomorrow", page.URL, "k", atRule + `"tomorrow"`},
		{message + "--at 2026-13-24T18:00:00Z", page.URL, "k", atRule + `"2026-13-24T18:00:00Z"`},
		{message + "--at", page.URL, "k", "--at needs a value: postcard --help describes it"},
		{message + "--for 5", page.URL, "k", `--for must be a duration like 90s or 10m, not "5"`},
		{message + "--for soon", page.URL, "k", `--for must be a duration like 90s or 10m, not "soon"`},
		{message + "--for 99999999h", page.URL, "k", `--for must be a duration like 90s or 10m, not "99999999h"`},
		{message + "--for -5s", page.URL, "k", "--for must be longer than 0s"},
		{message + "--wait=maybe", page.URL, "k", `--wait takes no value: remove "maybe"`},
		{message + "--dry-run=2", page.URL, "k", `--dry-run takes no value: remove "2"`},
		{message + "--metadata order", page.URL, "k", `--metadata must be NAME=VALUE, like order=1017, not "order"`},
		{message + "--schedule now", page.URL, "k", "there is no flag --schedule: postcard --help lists the flags"},
		{message + "---at x", page.URL, "k", `"---at" is not a flag: write --name value, as postcard --help shows`},
		{message, page.URL, "", "POSTCARD_API_KEY is missing"},
		{message, "localhost:8080", "k", "POSTCARD_URL must"},
		{"healthcheck localhost:8080", page.URL, "k", `the address must be a URL like http://localhost:8080/livez, not "localhost:8080"`},
		{"healthcheck ://x", page.URL, "k", `the address must be a URL like http://localhost:8080/livez, not "://x"`},
		{"healthcheck " + closed.URL, page.URL, "k", closed.URL + " cannot be reached: nothing listens there"},
		{"verify --simulator localhost", page.URL, "k", `--simulator must be a URL like http://localhost:9090, not "localhost"`},
		{"verify --plivo 24", page.URL, "k", `--plivo needs a duration like 90m or 24h, not "24"`},
		{"workspace cap 01a21eea-3111-759e-9c38-a96e77f4e629 many", page.URL, "k", `MESSAGES must be a whole number from 0 to`},
		{"workspace members shop", page.URL, "k", `WORKSPACE must be an id`},
		{"workspace add 01a21eea-3111-759e-9c38-a96e77f4e629 ada@example.com root", page.URL, "k", `must be read, send or manage`},
	} {
		t.Setenv("POSTCARD_URL", tt.server)
		t.Setenv("POSTCARD_API_KEY", tt.key)
		t.Setenv("DATABASE_URL", "")
		_, err := call(t, secret, tt.args)
		if err == nil || !strings.Contains(err.Error(), tt.want) || goError.MatchString(err.Error()) {
			t.Errorf("postcard %s: got error %v, want %q", tt.args, err, tt.want)
		}
	}
}

// TestUnreachableAPI checks that the address and what to check are named, and how to repeat
// the command if the message may have been created.
func TestUnreachableAPI(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer page.Close()
	dropping := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer dropping.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	const check = "heck POSTCARD_URL, and that the api is running"
	const again = ". Repeat the command with --key order-17: the message is not sent twice"
	for server, want := range map[string]string{
		closed.URL:                "cannot be reached: nothing listens there. C" + check + again,
		"http://postcard.invalid": `cannot be reached: there is no host "postcard.invalid". C` + check + again,
		dropping.URL:              "cannot be reached: it closed the connection without an answer. C" + check + again,
		page.URL:                  "sent an unexpected response: c" + check,
	} {
		o, err := parseSendOptions(strings.Fields("--to 4165551234 --media https://example.com/a.jpg --key order-17"))
		if err != nil {
			t.Fatal(err)
		}
		api := client.New(server, "k")
		api.MaxAttempts = 1
		if err := o.explain(server, o.run(t.Context(), api, io.Discard)); err == nil || err.Error() != "the api at "+server+" "+want {
			t.Errorf("got error %v, want %q", err, want)
		}
		o.dryRun = true
		if err := o.explain(server, o.run(t.Context(), api, io.Discard)); err == nil || strings.Contains(err.Error(), "--key") {
			t.Errorf("dry run: got error %v, want none about the key", err)
		}
	}
}

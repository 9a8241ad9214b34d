package httpkit_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/httpkit"
)

func TestBasePath(t *testing.T) {
	t.Parallel()
	for publicURL, want := range map[string]string{
		"": "", "https://example.com": "", "https://example.com/": "", "https://example.com:8443/postcard": "/postcard",
		"https://example.com/postcard/": "/postcard", "https://example.com/a/b": "/a/b", "%": "",
	} {
		if got := httpkit.BasePath(publicURL); got != want {
			t.Errorf("%q: got %q, want %q", publicURL, got, want)
		}
	}
}

func TestTrimBasePath(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"/postcard":                        "/",
		"/postcard?a=b":                    "/?a=b",
		"/postcard/":                       "/",
		"/postcard/messages?a=b":           "/messages?a=b",
		"/messages":                        "/messages",
		"/":                                "/",
		"/postcards":                       "/postcards",
		"/postcard.html":                   "/postcard.html",
		"/Postcard/messages":               "/Postcard/messages",
		"/postcard/postcard/x":             "/postcard/x",
		"/other/postcard/x":                "/other/postcard/x",
		"/postcard/messages/a%2Fb":         "/messages/a%2Fb",
		"/p%6Fstcard/messages":             "/messages",
		"/p%6Fstcard/messages/a%20b":       "/messages/a%20b",
		"/postcard//messages":              "//messages",
		"//postcard/messages":              "//postcard/messages",
		"/postcard%2Fmessages":             "/messages",
		"/postcard/callbacks/plivo/status": "/callbacks/plivo/status",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		var err error
		if r.URL, err = r.URL.Parse("http://host" + target); err != nil {
			t.Fatal(err)
		}
		before := r.URL.String()
		got := httpkit.TrimBasePath(r, "/postcard")
		// RequestURI writes a path that starts with // without its host as ambiguous.
		if uri := strings.TrimPrefix(got.URL.String(), "http://host"); uri != want {
			t.Errorf("%s: got %s, want %s", target, uri, want)
		}
		if r.URL.String() != before {
			t.Errorf("%s: the original request was changed to %s", target, r.URL)
		}
		if same := httpkit.TrimBasePath(r, ""); same != r {
			t.Errorf("%s: the request was changed without a base path", target)
		}
	}
}

package config_test

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/config"
)

// TestURLs reads PUBLIC_URL and CALLBACK_URL. A want that begins with a name is an error.
func TestURLs(t *testing.T) {
	t.Parallel()
	const (
		form  = "PUBLIC_URL must be a URL like https://example.com, without user, query or fragment"
		shape = "PUBLIC_URL must have a path like /postcard: only letters, digits and - . _ ~, and no part that is empty or begins with a dot"
	)
	for value, want := range map[string]string{
		"":                                    "",
		"https://example.com":                 "https://example.com",
		"https://example.com/":                "https://example.com",
		"https://example.com//":               "https://example.com",
		"HTTPS://Example.COM:8443/Postcard":   "https://example.com:8443/Postcard",
		"http://[::1]:8080/postcard/":         "http://[::1]:8080/postcard",
		"https://example.com/tools/mms-2.0_~": "https://example.com/tools/mms-2.0_~",
		"https://example.com/my/api":          "https://example.com/my/api",
		"https://example.com/messages2":       "https://example.com/messages2",
		"example.com/postcard":                form,
		"//example.com":                       form,
		"https://":                            form,
		"https:///postcard":                   form,
		"ftp://example.com":                   form,
		"https://u:url-hush@example.com":      form,
		"https://example.com/?":               form,
		"https://example.com/#":               form,
		"https://example.com/?x=url-hush":     form,
		"https://example.com/a//b":            shape,
		"https://example.com//a":              shape,
		"https://example.com/../a":            shape,
		"https://example.com/a/..":            shape,
		"https://example.com/a/./b":           shape,
		"https://example.com/.well-known":     shape,
		"https://example.com/%2e%2e/a":        shape,
		"https://example.com/my%20post":       shape,
		"https://example.com/my post":         shape,
		"https://example.com/carte-postée":    shape,
		"https://example.com/a;b":             shape,
		`https://example.com/"><b>`:           shape,
		"https://example.com/{id}":            shape,
		"https://example.com/messages":        "PUBLIC_URL must not have a path that begins with /messages, which is a path of Postcard itself",
		"https://example.com/api/v1":          "PUBLIC_URL must not have a path that begins with /api, which is a path of Postcard itself",
	} {
		got, err := config.ReadAPI(completeEnv("PUBLIC_URL", value))
		switch {
		case strings.HasPrefix(want, "PUBLIC_URL"):
			if err == nil || strings.TrimSpace(strings.TrimPrefix(err.Error(), "the configuration has 1 error(s):")) != want {
				t.Errorf("%q: got error %v, want %q", value, err, want)
			}
		case err != nil:
			t.Errorf("%q: got error %v", value, err)
		case got.PublicURL != want || got.CallbackURL != want:
			t.Errorf("%q: got PublicURL %q and CallbackURL %q, want %q", value, got.PublicURL, got.CallbackURL, want)
		}
	}
}

func TestCallbackURL(t *testing.T) {
	t.Parallel()
	type urls struct{ Public, Callback string }
	for name, c := range map[string]struct {
		vars []string
		want urls
	}{
		"neither":         {nil, urls{}},
		"only PUBLIC_URL": {[]string{"PUBLIC_URL", "https://a.example/x"}, urls{"https://a.example/x", "https://a.example/x"}},
		"only CALLBACK_URL": {
			[]string{"CALLBACK_URL", "http://API:8080/"}, urls{"", "http://api:8080"},
		},
		"both": {
			[]string{"PUBLIC_URL", "http://localhost:8080", "CALLBACK_URL", "https://a.example/messages/"}, urls{"http://localhost:8080", "https://a.example/messages"},
		},
		"blank": {[]string{"PUBLIC_URL", "http://localhost:8080", "CALLBACK_URL", " "}, urls{"http://localhost:8080", "http://localhost:8080"}},
	} {
		api, err := config.ReadAPI(completeEnv(c.vars...))
		if err != nil {
			t.Errorf("%s: got error %v", name, err)
		}
		worker, err := config.ReadWorker(completeEnv(c.vars...))
		if err != nil {
			t.Errorf("%s: got error %v", name, err)
		}
		for _, got := range []config.Shared{api.Shared, worker.Shared} {
			if diff := cmp.Diff(c.want, urls{got.PublicURL, got.CallbackURL}); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
	if _, err := config.ReadWorker(completeEnv("CALLBACK_URL", "https://a.example", "DOUBT_SILENCE", "90s")); err != nil {
		t.Errorf("DOUBT_SILENCE with CALLBACK_URL alone: got error %v", err)
	}
}

func TestClientURL(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"":                               "http://localhost:8080",
		"https://example.com/postcard/":  "https://example.com/postcard",
		"https://example.com/postcard":   "https://example.com/postcard",
		"https://u:hush@example.com":     "error",
		"https://example.com/postcard?x": "error",
		"example.com/postcard":           "error",
	} {
		got, err := config.ReadClient(map[string]string{"POSTCARD_URL": value, "POSTCARD_API_KEY": "pc_key"})
		if err != nil && (want != "error" || !strings.Contains(err.Error(), "POSTCARD_URL must") || strings.Contains(err.Error(), "hush")) ||
			err == nil && got.URL != want {
			t.Errorf("%q: got %q and error %v, want %q", value, got.URL, err, want)
		}
	}
}

// FuzzPublicURL expects that a URL which is accepted is written in one form, below which
// paths can be appended.
func FuzzPublicURL(f *testing.F) {
	for _, seed := range []string{"https://example.com", "HTTPS://Example.com:443/a/b/", "http://[::1]/x", "https://example.com/%2e%2e", "https://a%41/x", "https://é.example/x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, err := config.ReadAPI(completeEnv("PUBLIC_URL", value))
		if err != nil || got.PublicURL == "" {
			return
		}
		again, err := config.ReadAPI(completeEnv("PUBLIC_URL", got.PublicURL))
		if err != nil || again.PublicURL != got.PublicURL {
			t.Errorf("%q: got %q, and from that %q with error %v", value, got.PublicURL, again.PublicURL, err)
		}
		u, err := url.Parse(got.PublicURL + "/messages")
		if err != nil || u.Host == "" || u.RawQuery != "" || path.Clean(u.Path) != u.Path || u.EscapedPath() != u.Path {
			t.Errorf("%q: got %q, to which no path can be appended", value, got.PublicURL)
		}
	})
}

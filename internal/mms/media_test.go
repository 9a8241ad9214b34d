package mms

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestValidateMediaURL(t *testing.T) {
	t.Parallel()
	for raw, ok := range map[string]bool{
		"https://example.com/a.jpg": true, "HTTP://EXAMPLE.COM": true, "https://example.com:8443/a?b=c#d": true, "https://bücher.example/ü": true,
		"https://93.184.216.34/a": true, "https://[2606:2800:220:1::1]/a": true,
		"https://e.com/" + strings.Repeat("x", MaxMediaURL-14): true,
		"https://e.com/" + strings.Repeat("x", MaxMediaURL-13): false,

		"": false, "example.com/a.jpg": false, "//example.com/a": false, "https://": false, "https:///a": false, "ftp://example.com": false,
		"javascript:alert(1)": false, "data:image/png;base64,x": false, "https://user:pw@example.com/": false, "https://example.com/a b": false,
		"https://example.com/\n": false, "https://example.com/\xff": false, "https://exa mple.com": false,
		"https://example.com/\u200bpic.jpg": false, "https://exam\u00adple.com/a": false, "https://example.com/a\u00a0b": false, "https://example.com/\u0085": false,
		"https://example.com/%E2%80%8Da.jpg": true,
		"http://localhost/":                  false, "http://localhost./": false, "http://printer/": false, "http://nas.local/": false, "http://db.internal/": false,
		"http://127.0.0.1/": false, "http://127.1/": false, "http://2130706433/": false, "http://0x7f.1/": false, "http://0177.0.0.1/": false,
		"http://10.0.0.1/": false, "http://192.168.1.1/": false, "http://172.31.0.1/": false, "http://169.254.169.254/": false, "http://100.64.0.1/": false,
		"http://0.0.0.0/": false, "http://224.0.0.1/": false, "http://255.255.255.255/": false,
		"http://[::1]/": false, "http://[::]/": false, "http://[::ffff:10.0.0.1]/": false, "http://[fd00::1]/": false, "http://[fe80::1]/": false,
		"http://[fe80::1%25eth0]/": false, "http://[64:ff9b::a00:1]/": false,
	} {
		if _, err := parseMediaURL(raw, false); (err == nil) != ok {
			t.Errorf("parseMediaURL(%.60q) = %v, want valid %t", raw, err, ok)
		}
	}
	if _, err := parseMediaURL("http://localhost/a.jpg", true); err != nil {
		t.Errorf("private host, allowed: got %v, want no error", err)
	}
}

// TestUnusableHosts has hosts and ports that no fetcher can use, with a part of the error.
func TestUnusableHosts(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://example.com:65536/a":                      "port",
		"https://example.com:0/a":                          "port",
		"https://example.com:99999999999999999999/a":       "port",
		"https://example..com/a":                           "empty part",
		"https://.example.com/a":                           "empty part",
		"https://example.com../a":                          "empty part",
		"https://-example.com/a":                           `"-example" is none`,
		"https://example-.com/a":                           `"example-" is none`,
		"https://exa!mple.com/a":                           `"exa!mple" is none`,
		"https://example.com,evil.example/a":               `"com,evil" is none`,
		"https://" + strings.Repeat("a", 64) + ".com/a":    "at most 63",
		"https://" + strings.Repeat("aaaa.", 51) + "com/a": "at most 253",
		"https://xn--a.example/a":                          "no host can have",
		"https://\u0627a.example/a":                        "no host can have", // mixed directions
		"https://127.0.0.1\u3002example.com:x/a":           "like https://example.com/picture.jpg",
		"https://example.com/100%":                         "write %25",
		"https://example.com/a?b=%4":                       "write %25",
		"https://example.com/a?b=%zz":                      "write %25",
		"https://exa%mple.com/":                            "write %25",
		"https://b%C3%BCcher.example/":                     "percent signs",
		"https://[2606:2800:220:1::1%25eth0]/":             "percent signs",
		"https://1.2.3.4.5/a":                              "four numbers",
		"https://256.1.1.1/a":                              "four numbers",
		"https://example.123/a":                            "four numbers",
		"http://①②⑦.1/":                                    "four numbers",
		"https://user:pw@example.com/":                     "user name",
		"https://e.com/" + strings.Repeat("ü", 400):        "at most 2000",
		"https://ⅼocalhost/a":                              "private",
		"https://１２７.０.０.１/a":                              "private",
	} {
		if got, err := parseMediaURL(raw, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parseMediaURL(%.60q) = %q, %v, want an error with %q", raw, got, err, want)
		}
	}
}

// TestMediaURLsAreASCII has URLs with other characters, and what is stored.
func TestMediaURLsAreASCII(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://bücher.example/ü%2Fa?ö=ä#ß":       "https://xn--bcher-kva.example/%C3%BC%2Fa?%C3%B6=%C3%A4#%C3%9F",
		"https://BÜCHER.example:8443/a":            "https://xn--bcher-kva.example:8443/a",
		"https://例え.テスト":                           "https://xn--r8jz45g.xn--zckzah",
		"https://ｅxample.com/a":                    "https://example.com/a",
		"https://my_bucket.s3.amazonaws.com/a%20b": "https://my_bucket.s3.amazonaws.com/a%20b",
		"https://r3---sn-4g5e.example.com/":        "https://r3---sn-4g5e.example.com/",
		"https://Example.com./A?b=%7e":             "https://Example.com./A?b=%7e",
		"https://example.com:/a":                   "https://example.com:/a",
		"https://e.example/a?X-Sig=a+b%2Bc&d=[1]":  "https://e.example/a?X-Sig=a+b%2Bc&d=[1]",
		"https://b.c.example?x=ü@b.c.example":      "https://b.c.example?x=%C3%BC@b.c.example",
		"https://[2606:2800:220:1::1]:8443/ü":      "https://[2606:2800:220:1::1]:8443/%C3%BC",
	} {
		if got, err := parseMediaURL(raw, false); err != nil || got != want {
			t.Errorf("parseMediaURL(%q) = %q, %v, want %q", raw, got, err, want)
		}
	}
}

// FuzzParseMediaURL checks that what is stored can be parsed, is ASCII and is stored as it
// is when it comes again.
func FuzzParseMediaURL(f *testing.F) {
	for _, seed := range []string{"https://bücher.example/ü%2Fa?ö=ä#ß", "http://[::1]:80/", "https://example.com:65536", "https://a/ü", "HTTPS://Ü@ü/ü", "http://http/ü", "https://[::1]/ü", "https://e.example/%", "http://１２７.0.0.1/ü"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		stored, err := parseMediaURL(raw, true)
		if err != nil {
			return
		}
		again, err := parseMediaURL(stored, true)
		if err != nil || again != stored || !isASCII(stored) || len(stored) > MaxMediaURL {
			t.Errorf("%q is stored as %q, and that as %q, %v", raw, stored, again, err)
		}
	})
}

// TestMediaURLsOfBatches fills placeholders before a URL is read.
func TestMediaURLsOfBatches(t *testing.T) {
	t.Parallel()
	p := BatchParams{CreateParams: CreateParams{MediaURL: "https://bücher.example/{{name}}.jpg"}, Columns: []string{"to", "name"}}
	for name, want := range map[string]string{"ann": "https://xn--bcher-kva.example/ann.jpg", "José": "https://xn--bcher-kva.example/Jos%C3%A9.jpg", "50%": "", "a b": ""} {
		m, err := testRules.ValidateRow(p, map[string]string{"to": "+14155550123", "name": name}, Batch{}, uuid.New(), time.Now())
		if got := strings.Join(m.MediaURLs, " "); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestMediaURLsArePasted(t *testing.T) {
	t.Parallel()
	const want = "https://example.com/a.jpg"
	for _, typed := range []string{want, " " + want + "\n", "\ufeff" + want, "\u202a" + want + "\u202c", "\u00a0" + want + "\u200b", "\u2066" + want + "\u2069\t"} {
		params := validParams
		params.MediaURL = typed
		m, violations := validate(params)
		if violations != nil || m.MediaURLs[0] != want {
			t.Errorf("%q: got %q, %v, want %q", typed, m.MediaURLs, violations, want)
		}
	}
	_, err := parseMediaURL("https://example.com/\u200bpic.jpg", false)
	if err == nil || !strings.Contains(err.Error(), "U+200B") || !strings.Contains(err.Error(), "after its first 20 characters") {
		t.Errorf("invisible character inside: got %v, want its code and its place", err)
	}
}

package mms

import (
	"strings"
	"testing"
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
		if err := validateMediaURL(raw, false); (err == nil) != ok {
			t.Errorf("validateMediaURL(%.60q) = %v, want valid %t", raw, err, ok)
		}
	}
	if err := validateMediaURL("http://localhost/a.jpg", true); err != nil {
		t.Errorf("private host, allowed: got %v, want no error", err)
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
	err := validateMediaURL("https://example.com/\u200bpic.jpg", false)
	if err == nil || !strings.Contains(err.Error(), "U+200B") || !strings.Contains(err.Error(), "after its first 20 characters") {
		t.Errorf("invisible character inside: got %v, want its code and its place", err)
	}
}

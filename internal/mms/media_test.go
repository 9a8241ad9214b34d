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
		"http://localhost/": false, "http://localhost./": false, "http://printer/": false, "http://nas.local/": false, "http://db.internal/": false,
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

package mms

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/postcard-mms/postcard/internal/pasted"
)

// Limits of a message: up to 10 attachments and 1,600 characters of text (Plivo
// docs, MMS). The limit on a URL's length is Postcard's.
const (
	MaxMedia    = 10
	MaxText     = 1600 // characters
	MaxMediaURL = 2000 // bytes
)

// validateMediaURL returns the violation if Plivo could not fetch a picture from
// the URL. It names an invisible character inside the URL instead of removing it, because
// the character may belong there.
func validateMediaURL(raw string, allowPrivate bool) error {
	if len(raw) > MaxMediaURL {
		return fmt.Errorf("must be at most %d characters long", MaxMediaURL)
	}
	if r, before := pasted.Invisible(raw); before >= 0 {
		return fmt.Errorf("has an invisible character (%U) after its first %d characters: enter the URL again without it, or percent-encode it if it belongs there", r, before)
	}
	u, err := url.Parse(raw)
	if err != nil || !utf8.ValidString(raw) || strings.ContainsFunc(raw, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return errors.New("must be a URL like https://example.com/picture.jpg, without spaces")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("must start with http:// or https://")
	}
	if u.Hostname() == "" {
		return errors.New("must name a host, like https://example.com/picture.jpg")
	}
	if u.User != nil {
		return errors.New("must not contain a user name or password: Plivo fetches the picture without one")
	}
	if !allowPrivate && IsPrivateHost(u.Hostname()) {
		return errors.New("must be reachable from the internet: Plivo fetches the picture itself, and this host is private or local")
	}
	return nil
}

// numericHost matches the old notations of an IPv4 address (2130706433, 0x7f.1,
// 127.1) that some HTTP clients still understand.
var numericHost = regexp.MustCompile(`^(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+))*$`)

// reserved are address blocks that netip has no predicate for: "this network",
// carrier-grade NAT, benchmarking, the former class E, and the NAT64 prefix, which
// can contain a private IPv4 address.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"),
}

// IsPrivateHost reports whether the host is private or local, judged by its name
// or its literal address. It does not resolve names.
func IsPrivateHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if addr, err := netip.ParseAddr(host); err == nil {
		return isPrivateAddr(addr.Unmap())
	}
	if numericHost.MatchString(host) || !strings.Contains(host, ".") {
		return true
	}
	for _, suffix := range []string{".localhost", ".local", ".internal", ".lan", ".home.arpa"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

func isPrivateAddr(addr netip.Addr) bool {
	for _, prefix := range reserved {
		if prefix.Contains(addr) {
			return true
		}
	}
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() ||
		addr.IsMulticast() || addr.IsUnspecified() || addr.Zone() != ""
}

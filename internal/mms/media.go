package mms

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/postcard-mms/postcard/internal/pasted"
)

// Limits of a message: up to 10 attachments and 1,600 characters of text (Plivo
// docs, MMS). The limit on a URL's length is Postcard's.
const (
	MaxMedia    = 10
	MaxText     = 1600 // characters
	MaxMediaURL = 2000 // bytes
)

// ParseMediaURL returns a media URL as messages store it, without the spaces and invisible
// characters around it. The error is what the URL violates.
func (r Rules) ParseMediaURL(raw string) (string, error) {
	return parseMediaURL(pasted.Trim(raw), r.AllowPrivateMedia)
}

// incompleteEscape matches a percent sign that encodes nothing. Some clients send it as it
// is and others as %25, so that another picture is found or none.
var incompleteEscape = regexp.MustCompile(`%($|[^0-9a-fA-F]|[0-9a-fA-F]($|[^0-9a-fA-F]))`)

// parseMediaURL returns the URL of a picture in ASCII, or the violation if Plivo could not
// fetch a picture from it. It names an invisible character inside the URL instead of removing
// it, because the character may belong there.
func parseMediaURL(raw string, allowPrivate bool) (string, error) {
	if r, before := pasted.Invisible(raw); before >= 0 {
		return "", fmt.Errorf("has an invisible character (%U) after its first %d characters: enter the URL again without it, or percent-encode it if it belongs there", r, before)
	}
	if incompleteEscape.MatchString(raw) {
		return "", errors.New("has a % that is not followed by two hexadecimal digits: write %25 for a percent sign")
	}
	u, err := url.Parse(raw)
	if err != nil || !utf8.ValidString(raw) || strings.ContainsFunc(raw, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return "", errors.New("must be a URL like https://example.com/picture.jpg, without spaces")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("must start with http:// or https://")
	}
	if u.Hostname() == "" {
		return "", errors.New("must name a host, like https://example.com/picture.jpg")
	}
	if !strings.Contains(raw, u.Host) {
		return "", errors.New("must name a host without percent signs")
	}
	if u.User != nil {
		return "", errors.New("must not contain a user name or password: Plivo fetches the picture without one")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return "", errors.New("must have a port from 1 to 65535, or none")
	}
	host, err := asciiHost(u.Hostname())
	if err != nil {
		return "", err
	}
	if !allowPrivate && IsPrivateHost(host) {
		return "", errors.New("must be reachable from the internet: Plivo fetches the picture itself, and this host is private or local")
	}
	ascii := asciiURL(raw, u, host)
	if len(ascii) > MaxMediaURL {
		return "", fmt.Errorf("must be at most %d characters long", MaxMediaURL)
	}
	return ascii, nil
}

// hostNames converts internationalized names as browsers do (UTS 46). Names with
// underscores and with hyphens at any place are in use, so hostLabel checks the rest.
var hostNames = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false), idna.CheckHyphens(false))

var hostLabel = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$`)

// Limits of a name in the DNS (RFC 1035, section 2.3.4).
const (
	maxHostName  = 253 // bytes
	maxHostLabel = 63  // bytes
)

// asciiHost returns the name of a host as the DNS knows it, or why no fetcher could use it.
func asciiHost(host string) (string, error) {
	if _, err := netip.ParseAddr(host); err == nil {
		return host, nil
	}
	ascii, err := hostNames.ToASCII(host)
	if err != nil {
		return "", errors.New("must name a host that exists: this name has characters that no host can have")
	}
	name := strings.TrimSuffix(ascii, ".")
	if len(name) > maxHostName {
		return "", fmt.Errorf("must name a host of at most %d characters", maxHostName)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		switch {
		case label == "":
			return "", errors.New("must name a host without an empty part: two dots follow each other, or one stands first")
		case len(label) > maxHostLabel:
			return "", fmt.Errorf("must name a host whose parts between the dots have at most %d characters", maxHostLabel)
		case !hostLabel.MatchString(label):
			return "", fmt.Errorf("must name a host whose parts have letters, digits and hyphens, and no hyphen first or last; %q is none", clip(label, 40))
		}
	}
	if _, err := netip.ParseAddr(ascii); err != nil && numericHost.MatchString(labels[len(labels)-1]) {
		return "", errors.New("must name a host, or have an IP address of four numbers up to 255")
	}
	return ascii, nil
}

// asciiURL returns a URL whose characters are all ASCII, with everything else as it was
// entered: an encoding of other characters could break a signature.
func asciiURL(raw string, u *url.URL, host string) string {
	if isASCII(raw) {
		return raw
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]" // IPv6
	}
	if u.Port() != "" {
		host += ":" + u.Port()
	}
	_, rest, _ := strings.Cut(strings.TrimPrefix(raw[len(u.Scheme):], "://"), u.Host)
	var b strings.Builder
	b.WriteString(u.Scheme + "://" + host)
	for _, c := range []byte(rest) {
		if c < utf8.RuneSelf {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
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

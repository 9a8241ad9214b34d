package plivo

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// ErrSignature says that a callback is not shown to come from Plivo.
var ErrSignature = errors.New("the signature does not match")

// Headers of signature scheme V3 (Plivo docs, voice signature validation; live
// messaging traffic is reported to carry them). The Ma form is made with the
// main account's token, the plain one with that of the account that sent.
const (
	headerV3     = "X-Plivo-Signature-V3"
	headerMaV3   = "X-Plivo-Signature-Ma-V3"
	headerNonce3 = "X-Plivo-Signature-V3-Nonce"
)

// Verifier checks that callbacks were signed with the account's token for the
// URL that we gave to Plivo.
type Verifier struct {
	AuthToken string
	PublicURL string // scheme://host[:port][/path] as Plivo was told it, without a trailing slash
}

// Verify checks the signature of a request whose form fields are given, or
// returns ErrSignature. It goes by the configured public URL: the request's
// own idea of its host may be a proxy's, or forged.
func (v Verifier) Verify(r *http.Request, form url.Values) error {
	nonce := r.Header.Get(headerNonce3)
	if v.AuthToken == "" || nonce == "" {
		return ErrSignature
	}
	uri := v.PublicURL + r.URL.EscapedPath()
	if r.URL.RawQuery != "" {
		uri += "?" + r.URL.RawQuery
	}
	want, err := signV3(v.AuthToken, r.Method, uri, nonce, form)
	if err != nil {
		return ErrSignature
	}
	if matches(r.Header.Values(headerMaV3), want) || matches(r.Header.Values(headerV3), want) {
		return nil
	}
	return ErrSignature
}

// matches compares in constant time with each of the comma-separated
// signatures: there are several while tokens are rotated.
func matches(headers []string, want string) bool {
	found := false
	for _, header := range headers {
		for given := range strings.SplitSeq(header, ",") {
			if hmac.Equal([]byte(strings.TrimSpace(given)), []byte(want)) {
				found = true
			}
		}
	}
	return found
}

// signV3 computes a signature as Plivo's Node and Python SDKs do; the Go SDK
// differs for escaped paths and values that end in a dot.
func signV3(token, method, uri, nonce string, form url.Values) (string, error) {
	uri, _, _ = strings.Cut(uri, "#")
	base, rawQuery, _ := strings.Cut(uri, "?")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return "", errors.New("the query of the URL cannot be read")
	}
	var message string
	if method == http.MethodGet {
		for name, values := range form {
			query[name] = append(query[name], values...)
		}
		message = base + "?" + pairs(query, "=", "&")
	} else {
		message = postBase(base, query, form)
	}
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte(message + "." + nonce))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// postBase is the URL with its query sorted, and the form fields without any
// separators behind a dot.
func postBase(base string, query, form url.Values) string {
	if len(query) == 0 && len(form) == 0 {
		return base
	}
	message := base + "?" + pairs(query, "=", "&")
	if len(query) > 0 && len(form) > 0 {
		message += "."
	}
	return message + pairs(form, "", "")
}

// pairs writes names and values, both in bytewise order.
func pairs(values url.Values, equals, between string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, value := range slices.Sorted(slices.Values(values[name])) {
			out = append(out, name+equals+value)
		}
	}
	return strings.Join(out, between)
}

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

// Headers of the two signature schemes (Plivo docs, signature validation). The
// Ma form is made with the main account's token, the plain one with that of the
// account that sent. By the docs messaging callbacks carry V2; live traffic is
// reported to carry V3.
const (
	headerV3     = "X-Plivo-Signature-V3"
	headerMaV3   = "X-Plivo-Signature-Ma-V3"
	headerNonce3 = "X-Plivo-Signature-V3-Nonce"
	headerV2     = "X-Plivo-Signature-V2"
	headerMaV2   = "X-Plivo-Signature-Ma-V2"
	headerNonce2 = "X-Plivo-Signature-V2-Nonce"
)

// Scheme is how a callback was signed.
type Scheme int

// The schemes. V2 covers the path of the URL and no field.
const (
	V2 Scheme = iota + 2
	V3
)

// Verifier checks that callbacks were signed with the account's token for the
// URL that we gave to Plivo.
type Verifier struct {
	Tokens    []string // any of them may have signed: there are two while they are rotated
	PublicURL string   // scheme://host[:port][/path] as Plivo was told it, without a trailing slash
}

// Verify checks the signature of a request whose form fields are given (none for
// a GET) and returns its scheme, or ErrSignature. It goes by the configured
// public URL: the request's own idea of its host may be a proxy's, or forged.
// With any header of V3, V3 alone decides: a bad one must not fall back to V2.
func (v Verifier) Verify(r *http.Request, form url.Values) (Scheme, error) {
	uri := v.PublicURL + r.URL.EscapedPath()
	if r.URL.RawQuery != "" {
		uri += "?" + r.URL.RawQuery
	}
	scheme, given, nonce := V2, [][]string{r.Header.Values(headerMaV2), r.Header.Values(headerV2)}, r.Header.Get(headerNonce2)
	if has(r.Header, headerV3, headerMaV3, headerNonce3) {
		scheme, given, nonce = V3, [][]string{r.Header.Values(headerMaV3), r.Header.Values(headerV3)}, r.Header.Get(headerNonce3)
	}
	if nonce == "" {
		return 0, ErrSignature
	}
	for _, token := range v.Tokens {
		want, err := sign(scheme, token, r.Method, uri, nonce, form)
		if err != nil || token == "" {
			return 0, ErrSignature
		}
		if matches(given[0], want) || matches(given[1], want) {
			return scheme, nil
		}
	}
	return 0, ErrSignature
}

func has(header http.Header, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return len(header.Values(name)) > 0 })
}

func sign(scheme Scheme, token, method, uri, nonce string, form url.Values) (string, error) {
	if scheme == V2 {
		return signV2(token, uri, nonce), nil
	}
	return signV3(token, method, uri, nonce, form)
}

// signV2 computes a signature over the URL without query and fragment.
func signV2(token, uri, nonce string) string {
	base, _, _ := strings.Cut(uri, "#")
	base, _, _ = strings.Cut(base, "?")
	return mac(token, base+nonce)
}

func mac(token, message string) string {
	h := hmac.New(sha256.New, []byte(token))
	h.Write([]byte(message))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
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
	return mac(token, message+"."+nonce), nil
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

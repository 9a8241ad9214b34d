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

// ErrSignature means that a callback has no valid signature.
var ErrSignature = errors.New("the signature does not match")

// Headers of the two signature schemes (Plivo docs, signature validation). The
// Ma header is signed with the main account's token, the plain one with that of
// the sending account or subaccount. The docs say that messaging callbacks carry
// V2; integrations report that live traffic carries V3.
const (
	headerV3     = "X-Plivo-Signature-V3"
	headerMaV3   = "X-Plivo-Signature-Ma-V3"
	headerNonce3 = "X-Plivo-Signature-V3-Nonce"
	headerV2     = "X-Plivo-Signature-V2"
	headerMaV2   = "X-Plivo-Signature-Ma-V2"
	headerNonce2 = "X-Plivo-Signature-V2-Nonce"
)

// Scheme is a version of Plivo's signature.
type Scheme int

// The schemes. V2 signs the URL without its query, and no form field.
const (
	V2 Scheme = iota + 2
	V3
)

// Verifier verifies that callbacks were signed with the account's token, for the
// URL that we gave to Plivo.
type Verifier struct {
	Tokens      []string // accepted tokens: two during a rotation
	CallbackURL string   // scheme://host[:port][/path] as given to Plivo, without a trailing slash
}

// Verify verifies the signature of a request with the given form fields (none for
// a GET) and returns its scheme, or ErrSignature. It uses the configured URL, because the
// request's host may be a proxy's, or forged. The request comes without the path of that
// URL. If there is any V3 header, V3 alone decides: a bad V3 signature must not fall back
// to V2.
func (v Verifier) Verify(r *http.Request, form url.Values) (Scheme, error) {
	uri := v.CallbackURL + r.URL.EscapedPath()
	if r.URL.RawQuery != "" {
		uri += "?" + r.URL.RawQuery
	}
	scheme, signatures, nonce := V2, slices.Concat(r.Header.Values(headerMaV2), r.Header.Values(headerV2)), r.Header.Get(headerNonce2)
	if hasAny(r.Header, headerV3, headerMaV3, headerNonce3) {
		scheme, signatures, nonce = V3, slices.Concat(r.Header.Values(headerMaV3), r.Header.Values(headerV3)), r.Header.Get(headerNonce3)
	}
	if nonce == "" {
		return 0, ErrSignature
	}
	for _, token := range v.Tokens {
		want, err := sign(scheme, token, r.Method, uri, nonce, form)
		if err != nil || token == "" {
			return 0, ErrSignature
		}
		if matches(signatures, want) {
			return scheme, nil
		}
	}
	return 0, ErrSignature
}

func hasAny(header http.Header, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return len(header.Values(name)) > 0 })
}

func sign(scheme Scheme, token, method, uri, nonce string, form url.Values) (string, error) {
	if scheme == V2 {
		return signV2(token, uri, nonce), nil
	}
	return signV3(token, method, uri, nonce, form)
}

// signV2 signs the URL without query and fragment.
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

// matches reports whether any of the signatures equals want, and compares in
// constant time. A header has several, separated by commas, while Plivo's tokens
// are rotated.
func matches(headers []string, want string) bool {
	found := false
	for _, header := range headers {
		for signature := range strings.SplitSeq(header, ",") {
			if hmac.Equal([]byte(strings.TrimSpace(signature)), []byte(want)) {
				found = true
			}
		}
	}
	return found
}

// signV3 signs as Plivo's Node and Python SDKs do. The Go SDK differs for escaped
// paths and for values that end in a dot.
func signV3(token, method, uri, nonce string, form url.Values) (string, error) {
	uri, _, _ = strings.Cut(uri, "#")
	base, rawQuery, _ := strings.Cut(uri, "?")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return "", errors.New("the URL's query is malformed")
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

// postBase returns the URL with its query sorted, then a dot, then the form fields
// without separators.
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

// pairs joins names and values, both in bytewise order.
func pairs(values url.Values, equals, separator string) string {
	var joined []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, value := range slices.Sorted(slices.Values(values[name])) {
			joined = append(joined, name+equals+value)
		}
	}
	return strings.Join(joined, separator)
}

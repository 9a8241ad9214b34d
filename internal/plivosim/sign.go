package plivosim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// SignV2 returns Plivo's V2 signature: HMAC-SHA256, in Base64, of the URL
// without query and fragment, followed by the nonce. Neither the query nor the
// body is covered.
func SignV2(token, rawURL, nonce string) string {
	base, _ := splitURL(rawURL)
	return mac(token, base+nonce)
}

// SignV3 returns Plivo's V3 signature of a callback to rawURL, which must be the URL given
// to Plivo, character by character. fields are the form of a POST, or the parameters that
// Plivo adds to the query of a GET. As in the Node and Python SDKs, values are decoded, the
// path is not, and every value of a repeated name is signed.
func SignV3(token, method, rawURL, nonce string, fields url.Values) string {
	return mac(token, v3Text(method, rawURL, fields)+"."+nonce)
}

func mac(token, text string) string {
	h := hmac.New(sha256.New, []byte(token))
	h.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// v3Text returns the text that V3 signs, without the nonce.
func v3Text(method, rawURL string, fields url.Values) string {
	base, query := splitURL(rawURL)
	if method == http.MethodGet {
		query = joined(query, fields)
		fields = nil
	}
	if len(query) == 0 && len(fields) == 0 {
		return base
	}
	text := base + "?" + strings.Join(pairs(query, "="), "&")
	if len(query) > 0 && len(fields) > 0 {
		text += "."
	}
	return text + strings.Join(pairs(fields, ""), "")
}

// splitURL splits a URL before its query and drops the fragment. It works on the text,
// because parsing and formatting would change escapes.
func splitURL(rawURL string) (base string, query url.Values) {
	rawURL, _, _ = strings.Cut(rawURL, "#")
	base, rawQuery, _ := strings.Cut(rawURL, "?")
	query = make(url.Values)
	for part := range strings.SplitSeq(rawQuery, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		query.Add(unescape(name), unescape(value))
	}
	return base, query
}

// unescape decodes a query component, or returns it unchanged if it is malformed.
func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}

func joined(a, b url.Values) url.Values {
	all := make(url.Values)
	for _, values := range []url.Values{a, b} {
		for name, v := range values {
			all[name] = append(all[name], v...)
		}
	}
	return all
}

// pairs returns every name and value, sorted bytewise by name and then by value.
func pairs(values url.Values, separator string) []string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	var out []string
	for _, name := range names {
		for _, v := range slices.Sorted(slices.Values(values[name])) {
			out = append(out, name+separator+v)
		}
	}
	return out
}

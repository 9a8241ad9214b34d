package httpkit

import (
	"net/http"
	"net/url"
	"strings"
)

// BasePath returns the path of a URL without a trailing slash: "/postcard" for
// https://example.com/postcard, and "" for a URL without a path or an invalid one. Package
// config checks the URL.
func BasePath(publicURL string) string {
	u, err := url.Parse(publicURL)
	if err != nil {
		return ""
	}
	return strings.TrimRight(u.Path, "/")
}

// TrimBasePath returns the request without the base path, or the request itself if its path
// is not below the base path: some proxies remove the base path and others do not.
func TrimBasePath(r *http.Request, base string) *http.Request {
	rest, below := strings.CutPrefix(r.URL.Path, base)
	if base == "" || !below || rest != "" && rest[0] != '/' {
		return r
	}
	trimmed, address := *r, *r.URL
	address.Path = "/" + strings.TrimPrefix(rest, "/")
	address.RawPath = strings.TrimPrefix(r.URL.RawPath, base)
	if len(address.RawPath) == len(r.URL.RawPath) || !strings.HasPrefix(address.RawPath, "/") {
		address.RawPath = "" // the base path itself was percent-encoded; Path says the same
	}
	trimmed.URL = &address
	return &trimmed
}

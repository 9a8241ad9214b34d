package httpkit

import "net/http"

// hstsYear binds browsers to https for a year, for this host alone: nothing is
// known about its neighbours.
const hstsYear = "max-age=31536000"

// SecurityHeaders sets what browsers need to know before they trust an answer.
// csp is the Content-Security-Policy; https says whether people reach us by
// https, so that browsers may insist on it.
//
// Referrer-Policy is same-origin rather than no-referrer: under the latter
// browsers send "Origin: null" with forms, which the check against cross-site
// requests could not tell from a foreign page.
func SecurityHeaders(csp string, https bool) func(http.Handler) http.Handler {
	headers := map[string]string{
		"Content-Security-Policy":    csp,
		"X-Content-Type-Options":     "nosniff",
		"X-Frame-Options":            "DENY",
		"Referrer-Policy":            "same-origin",
		"Cross-Origin-Opener-Policy": "same-origin",
		"Permissions-Policy":         "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
	}
	if https {
		headers["Strict-Transport-Security"] = hstsYear
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for name, value := range headers {
				w.Header().Set(name, value)
			}
			next.ServeHTTP(w, r)
		})
	}
}

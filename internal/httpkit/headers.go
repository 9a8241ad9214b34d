package httpkit

import "net/http"

// hstsOneYear makes browsers use https for a year. It leaves subdomains out, since
// they may not be ours.
const hstsOneYear = "max-age=31536000"

// SecurityHeaders sets response headers that restrict what browsers do with a
// page. csp is the Content-Security-Policy. https adds Strict-Transport-Security.
//
// Referrer-Policy is same-origin: with no-referrer, browsers send "Origin: null"
// with forms, and the protection against cross-origin requests would reject them.
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
		headers["Strict-Transport-Security"] = hstsOneYear
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

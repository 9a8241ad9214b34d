package httpkit

import (
	"net/http"
	"net/netip"

	"github.com/go-chi/chi/v5/middleware"
)

// TrustClientIP makes ClientIP return the address in a header, which a trusted
// proxy must always set or overwrite. If header is empty, it does nothing.
func TrustClientIP(header string) func(http.Handler) http.Handler {
	if header == "" {
		return func(next http.Handler) http.Handler { return next }
	}
	return middleware.ClientIPFromHeader(header)
}

// ClientIP returns the client's address: the one found by TrustClientIP, or the
// connection's. IPv4-mapped IPv6 addresses become IPv4 and zones are removed, so
// that an address has one form and can be the key of a rate limit.
func ClientIP(r *http.Request) string {
	if ip := middleware.GetClientIP(r.Context()); ip != "" {
		return ip
	}
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return addr.Addr().Unmap().WithZone("").String()
}

package httpkit

import (
	"net/http"
	"net/netip"

	"github.com/go-chi/chi/v5/middleware"
)

// TrustClientIP takes the client's address from a header that the proxy in
// front always sets or overwrites. With header "" it does nothing: then the
// connection's address counts.
func TrustClientIP(header string) func(http.Handler) http.Handler {
	if header == "" {
		return func(next http.Handler) http.Handler { return next }
	}
	return middleware.ClientIPFromHeader(header)
}

// ClientIP is the client's address for counting tries: the one found by
// TrustClientIP, else the connection's. IPv4 inside IPv6 is written as IPv4,
// and zones are dropped, so that one client has one spelling.
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

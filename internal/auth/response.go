package auth

import "net/http"

// responseGuard drops what a handler writes after an error response. scs saves the
// session at the handler's first write. When that fails, scs writes an error through
// its ErrorFunc, and the handler's own response would follow it.
type responseGuard struct {
	http.ResponseWriter
	closed bool // the error response has been written
}

// guardResponse gives endWith the response writer that it needs.
func guardResponse(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&responseGuard{ResponseWriter: w}, r)
	})
}

// endWith makes the response of onError the last thing that is written. It sets no
// cookies: nobody has logged in.
func endWith(onError func(http.ResponseWriter, *http.Request, error)) func(http.ResponseWriter, *http.Request, error) {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		w.Header().Del("Set-Cookie")
		onError(w, r, err)
		if guard, ok := w.(*responseGuard); ok {
			guard.closed = true
		}
	}
}

func (g *responseGuard) WriteHeader(status int) {
	if !g.closed {
		g.ResponseWriter.WriteHeader(status)
	}
}

func (g *responseGuard) Write(b []byte) (int, error) {
	if g.closed {
		return len(b), nil
	}
	return g.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (g *responseGuard) Unwrap() http.ResponseWriter { return g.ResponseWriter }

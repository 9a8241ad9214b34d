package auth

import "net/http"

// responseGuard drops whatever a handler writes after an error response. scs saves
// the session when the handler starts to write. If that fails, scs calls its
// ErrorFunc and then lets the handler go on: the client would get the error
// followed by what looks like success.
type responseGuard struct {
	http.ResponseWriter
	closed bool // the error response has been written
}

// guardResponse gives closeAfter the response writer that it needs.
func guardResponse(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&responseGuard{ResponseWriter: w}, r)
	})
}

// closeAfter makes the response of onError the last thing that is written.
func closeAfter(onError func(http.ResponseWriter, *http.Request, error)) func(http.ResponseWriter, *http.Request, error) {
	return func(w http.ResponseWriter, r *http.Request, err error) {
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

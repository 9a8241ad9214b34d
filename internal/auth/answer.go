package auth

import "net/http"

// answerWriter lets one answer through. scs saves the session when the handler
// begins to write, and when that fails calls its ErrorFunc and goes on with
// the handler's answer: the client would get the error and, behind it, what
// reads like success.
type answerWriter struct {
	http.ResponseWriter
	failed bool // the error has been answered; nothing may follow
}

// oneAnswer gives onceOnly the writer that it needs.
func oneAnswer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&answerWriter{ResponseWriter: w}, r)
	})
}

// onceOnly makes the answer of onError the last thing written.
func onceOnly(onError func(http.ResponseWriter, *http.Request, error)) func(http.ResponseWriter, *http.Request, error) {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		onError(w, r, err)
		if once, ok := w.(*answerWriter); ok {
			once.failed = true
		}
	}
}

func (w *answerWriter) WriteHeader(status int) {
	if !w.failed {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *answerWriter) Write(b []byte) (int, error) {
	if w.failed {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

package plivosim

import (
	"crypto/subtle"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
)

// exchange is one API request and its response.
type exchange struct {
	w        http.ResponseWriter
	r        *http.Request
	epoch    *epoch
	record   *Request // shown by Requests; nil for other requests than POST Message
	scenario Scenario // empty until chosen, and for reads
}

// routes returns the handler of all endpoints. Plivo's paths end in a slash; without it
// they are not found.
func (s *Simulator) routes() http.Handler {
	r := chi.NewRouter()
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, http.StatusNotFound, "The requested URL was not found on the server.")
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, http.StatusMethodNotAllowed, "The method is not allowed for the requested URL.")
	})
	const messages = "/v1/Account/{authID}/Message/"
	r.Post(messages, func(w http.ResponseWriter, r *http.Request) {
		x := s.open(w, r)
		x.record = x.epoch.recordRequest(s.cfg.Now())
		s.guarded(x, s.send)
	})
	r.Get(messages, s.endpoint(s.list))
	r.Get(messages+"{uuid}/", s.endpoint(s.get))
	const media = "/v1/Account/{authID}/Media/"
	r.Post(media, s.endpoint(s.upload))
	r.Get(media, s.endpoint(s.listMedia))
	r.Get(media+"{mediaID}/", s.endpoint(s.getMedia))
	const account = "/v1/Account/{authID}/"
	r.Get(account, s.endpoint(s.account))
	r.Get(account+"Number/", s.endpoint(s.listNumbers))
	r.Get(account+"Number/{number}/", s.endpoint(s.getNumber))
	r.Get(account+"Application/{application}/", s.endpoint(s.getApplication))
	s.controlRoutes(r)
	return r
}

func (s *Simulator) endpoint(serve func(*exchange)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { s.guarded(s.open(w, r), serve) }
}

func (s *Simulator) open(w http.ResponseWriter, r *http.Request) *exchange {
	return &exchange{w: w, r: r, epoch: s.current()}
}

func (s *Simulator) refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	s.answer(s.open(w, r), refusal(status, text), reply{})
}

// guarded checks credentials, the concurrency limit and the request rate, in this order,
// and then calls next.
func (s *Simulator) guarded(x *exchange, next func(*exchange)) {
	if x.epoch.ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
	if !s.authentic(x.r) {
		s.answer(x, refusal(http.StatusUnauthorized, unauthorizedText), reply{})
		return
	}
	if !x.epoch.enter(s.cfg.MaxConcurrent) {
		s.answer(x, refusal(http.StatusTooManyRequests, "too many simultaneous requests"), reply{})
		return
	}
	defer x.epoch.leave()
	if !x.epoch.admit(s.cfg.Now()) {
		s.answer(x, refusal(http.StatusTooManyRequests, tooManyText), reply{})
		return
	}
	next(x)
}

// authentic checks the HTTP Basic credentials and the account id in the path.
func (s *Simulator) authentic(r *http.Request) bool {
	if s.cfg.AuthID == "" || s.cfg.AuthToken == "" {
		return false
	}
	id, token, _ := r.BasicAuth()
	return same(id, s.cfg.AuthID) && same(token, s.cfg.AuthToken) &&
		same(chi.URLParam(r, "authID"), s.cfg.AuthID)
}

func same(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

func (e *epoch) enter(limit int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if limit >= 0 && e.inFlight >= limit {
		return false
	}
	e.inFlight++
	return true
}

func (e *epoch) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inFlight--
}

func (e *epoch) admit(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requestLog.allow(now)
}

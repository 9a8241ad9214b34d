package plivosim

import (
	"crypto/subtle"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
)

// exchange is one API request on its way through the simulator.
type exchange struct {
	w        http.ResponseWriter
	r        *http.Request
	era      *era
	record   *Request // what Requests will show; nil for reads
	scenario Scenario // empty until chosen, and for reads
}

// routes lists everything that is served. Plivo's paths end in a slash; without
// it they are not found.
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
		x.record = x.era.recordRequest(s.cfg.Now())
		s.guarded(x, s.send)
	})
	r.Get(messages, func(w http.ResponseWriter, r *http.Request) {
		s.guarded(s.open(w, r), s.list)
	})
	r.Get(messages+"{uuid}/", func(w http.ResponseWriter, r *http.Request) {
		s.guarded(s.open(w, r), s.get)
	})
	s.controlRoutes(r)
	return r
}

func (s *Simulator) open(w http.ResponseWriter, r *http.Request) *exchange {
	return &exchange{w: w, r: r, era: s.current()}
}

func (s *Simulator) refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	s.answer(s.open(w, r), refusal(status, text), reply{})
}

// guarded lets a request of the account through to next: credentials first,
// then the concurrency cap and the request rate.
func (s *Simulator) guarded(x *exchange, next func(*exchange)) {
	if x.era.ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
	if !s.authentic(x.r) {
		s.answer(x, refusal(http.StatusUnauthorized, unauthorizedText), reply{})
		return
	}
	if !x.era.enter(s.cfg.MaxConcurrent) {
		s.answer(x, refusal(http.StatusTooManyRequests, "too many simultaneous requests"), reply{})
		return
	}
	defer x.era.leave()
	if !x.era.admit(s.cfg.Now()) {
		s.answer(x, refusal(http.StatusTooManyRequests, tooManyText), reply{})
		return
	}
	next(x)
}

// authentic checks HTTP Basic against the account and the id in the path.
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

func (e *era) enter(limit int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if limit >= 0 && e.underWay >= limit {
		return false
	}
	e.underWay++
	return true
}

func (e *era) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.underWay--
}

func (e *era) admit(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requestLog.allow(now)
}

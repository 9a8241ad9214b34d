package plivosim

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Documented bounds of LIST.
const (
	maxPage       = 20             // largest, and default, limit
	defaultWindow = 24 * time.Hour // the period listed without a time filter
)

// page is one page of LIST.
type page struct {
	APIID   string `json:"api_id"`
	Meta    meta   `json:"meta"`
	Objects []mdr  `json:"objects"`
}

type meta struct {
	Limit      int     `json:"limit"`
	Offset     int     `json:"offset"`
	Next       *string `json:"next"`
	Previous   *string `json:"previous"`
	TotalCount int     `json:"total_count"`
}

// list serves GET /v1/Account/{id}/Message/, newest first.
func (s *Simulator) list(x *exchange) {
	now := s.cfg.Now()
	if !x.epoch.admitList(now) {
		s.answer(x, refusal(http.StatusTooManyRequests, tooManyText), reply{})
		return
	}
	query := x.r.URL.Query()
	limit, offset, err := paging(query)
	if err != nil {
		s.answer(x, refusal(http.StatusBadRequest, err.Error()), reply{})
		return
	}
	wanted, err := s.filter(query, now)
	if err != nil {
		s.answer(x, refusal(http.StatusBadRequest, err.Error()), reply{})
		return
	}
	found := s.search(x.epoch, wanted)
	p := page{
		Meta:    newMeta(x.r.URL, limit, offset, len(found)),
		Objects: found[min(offset, len(found)):min(offset+limit, len(found))],
	}
	s.answer(x, answer{status: http.StatusOK, contentType: jsonType, body: func(r reply) string {
		p.APIID = r.apiID
		return jsonText(p)
	}}, reply{})
}

func (e *epoch) admitList(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listLog.allow(now)
}

// paging parses limit and offset. Plivo's behaviour for values out of bounds is not
// documented; we refuse them so that mistakes are noticed.
func paging(query url.Values) (limit, offset int, err error) {
	limit, err = number(query, "limit", maxPage)
	if err != nil || limit < 1 || limit > maxPage {
		return 0, 0, fmt.Errorf("limit must be between 1 and %d", maxPage)
	}
	offset, err = number(query, "offset", 0)
	if err != nil || offset < 0 {
		return 0, 0, fmt.Errorf("offset must not be negative")
	}
	return limit, offset, nil
}

func number(query url.Values, name string, fallback int) (int, error) {
	if !query.Has(name) {
		return fallback, nil
	}
	return strconv.Atoi(query.Get(name))
}

// search returns the visible messages that match, newest first.
func (s *Simulator) search(e *epoch, wanted func(*message, mdr) bool) []mdr {
	e.mu.Lock()
	defer e.mu.Unlock()
	found := []mdr{}
	for _, m := range slices.Backward(e.messages) {
		if !s.visible(m) {
			continue
		}
		if record := s.mdr(m); wanted(m, record) {
			found = append(found, record)
		}
	}
	return found
}

func newMeta(u *url.URL, limit, offset, total int) meta {
	m := meta{Limit: limit, Offset: offset, TotalCount: total}
	if offset+limit < total {
		m.Next = optional(pageURI(u, limit, offset+limit))
	}
	if offset > 0 {
		m.Previous = optional(pageURI(u, limit, max(offset-limit, 0)))
	}
	return m
}

func pageURI(u *url.URL, limit, offset int) string {
	query := u.Query()
	query.Set("limit", strconv.Itoa(limit))
	query.Set("offset", strconv.Itoa(offset))
	return u.Path + "?" + query.Encode()
}

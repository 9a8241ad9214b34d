package plivosim

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// callbackTimeout is how long Plivo waits for an answer; up to three more attempts
// follow (Plivo support, callback retries). It is not scaled: a busy machine must not
// lose reports.
const callbackTimeout = 8 * time.Second

func retryGaps() []time.Duration {
	return []time.Duration{60 * time.Second, 120 * time.Second, 240 * time.Second}
}

// lateBy is the delay of callbacks in scenario CallbacksLate, at TimeScale 1.
const lateBy = 10 * time.Minute

// maxConcurrentCallbacks bounds the connections used by callbacks.
const maxConcurrentCallbacks = 128

// reporting is how the reports of a message are delivered.
type reporting int

const (
	reportNormally reporting = iota
	reportEarly              // the first one before the response
	reportTwice
	reportReversed
	reportNever
	reportLate
)

// report is one delivery report. Its fields do not change after its creation.
type report struct {
	state    State
	sequence int
	fields   url.Values
}

// newCallbackClient returns a client that does not follow redirects.
func newCallbackClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			MaxIdleConnsPerHost: maxConcurrentCallbacks,
			IdleConnTimeout:     30 * time.Second,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// report creates a report of the message's current state and delivers it as the scenario
// specifies.
func (s *Simulator) report(m *message) {
	if m.entry.CallbackURL == "" || m.script.reporting == reportNever {
		return
	}
	m.sequence++
	rep := m.epoch.newReport(m, m.sequence)
	switch m.script.reporting {
	case reportTwice:
		s.dispatch(m, rep, 0)
		s.dispatch(m, rep, 0)
	case reportReversed:
		m.held = append(m.held, rep)
	case reportLate:
		s.dispatch(m, rep, s.scaled(lateBy))
	default:
		s.dispatch(m, rep, 0)
	}
}

// releaseHeld delivers the held reports, latest first.
func (s *Simulator) releaseHeld(m *message) {
	for i := len(m.held) - 1; i >= 0; i-- {
		s.dispatch(m, m.held[i], 0)
	}
}

// dispatch delivers a report in the background. Its first attempt waits for the first
// attempt of the previous report, so that only retries and scenarios change the order.
func (s *Simulator) dispatch(m *message, rep report, delay time.Duration) {
	before, done := m.tail, make(chan struct{})
	m.tail = done
	s.spawn(func() {
		ctx := m.epoch.ctx
		ok := pause(ctx, delay) && await(ctx, ctx, before) && s.call(m, rep, 1)
		close(done)
		for i, gap := range retryGaps() {
			if ok || !pause(ctx, s.scaled(gap)) {
				return
			}
			ok = s.call(m, rep, i+2)
		}
	})
}

// call makes one attempt, records it, and reports whether it succeeded. An attempt that
// Reset or Close interrupts is not recorded.
func (s *Simulator) call(m *message, rep report, attempt int) bool {
	select {
	case s.callSlots <- struct{}{}:
		defer func() { <-s.callSlots }()
	case <-m.epoch.ctx.Done():
		return false
	}
	c := CallbackCall{Status: rep.state, Sequence: rep.sequence, Attempt: attempt, StartedAt: s.cfg.Now()}
	status, err := s.post(m, rep)
	if m.epoch.ctx.Err() != nil {
		return false
	}
	c.HTTPStatus, c.EndedAt = status, s.cfg.Now()
	if err != nil {
		c.Error = plainError(err)
	}
	m.epoch.recordCall(m, c)
	s.log.Info("plivosim: called back", "message", m.entry.UUID, "state", rep.state, "attempt", attempt, "status", status)
	return status >= 200 && status < 300
}

// post makes the HTTP request of an attempt; the answer's body is ignored.
func (s *Simulator) post(m *message, rep report) (status int, err error) {
	ctx, cancel := context.WithTimeout(m.epoch.ctx, callbackTimeout)
	defer cancel()
	req, err := newCall(ctx, m.entry.Method, m.entry.CallbackURL, rep.fields)
	if err != nil {
		return 0, err
	}
	s.signCall(req.Header, m.script.signing, m.entry.Method, m.entry.CallbackURL, rep.fields)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	return resp.StatusCode, nil
}

// newCall creates the request: fields are the form of a POST or the query of a GET.
func newCall(ctx context.Context, method, rawURL string, fields url.Values) (*http.Request, error) {
	if method == http.MethodGet {
		return http.NewRequestWithContext(ctx, method, withQuery(rawURL, fields), nil)
	}
	req, err := http.NewRequestWithContext(ctx, method, rawURL, strings.NewReader(fields.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req, nil
}

func withQuery(rawURL string, fields url.Values) string {
	rawURL, _, _ = strings.Cut(rawURL, "#")
	separator := "?"
	if strings.Contains(rawURL, "?") {
		separator = "&"
	}
	return rawURL + separator + fields.Encode()
}

// plainError removes the callback URL, which contains a secret of the client.
func plainError(err error) string {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err.Error()
	}
	return err.Error()
}

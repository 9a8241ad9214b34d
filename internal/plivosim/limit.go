package plivosim

import (
	"slices"
	"time"
)

// window admits up to limit events in any period of length span. A negative limit admits
// all events.
type window struct {
	limit  int
	span   time.Duration
	passed []time.Time // oldest first, none older than span at the last call
}

// allow reports whether an event at now is admitted, and counts it if so.
func (w *window) allow(now time.Time) bool {
	if w.limit < 0 {
		return true
	}
	w.passed = slices.DeleteFunc(w.passed, func(t time.Time) bool {
		return now.Sub(t) >= w.span
	})
	if len(w.passed) >= w.limit {
		return false
	}
	w.passed = append(w.passed, now)
	return true
}

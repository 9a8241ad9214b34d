// Package retryafter reads the Retry-After header of a response: how long its sender asks
// us to wait before the next request. It decides nothing about retries.
package retryafter

import (
	"net/http"
	"strings"
	"time"
)

// Parse returns the wait that the header Retry-After asks for, in both of its forms (RFC
// 9110): seconds, or a date, which counts from the response's own Date, so that no clock of
// ours takes part. A longer wait than limit is cut to it. Parse returns 0 if there is no
// such header, or its value is neither form.
func Parse(h http.Header, limit time.Duration) time.Duration {
	value := strings.Trim(h.Get("Retry-After"), " \t")
	if wait, ok := parseSeconds(value, limit); ok {
		return wait
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), limit)
}

// parseSeconds reads digits alone, any number of them. It stops at the limit, so that no
// number overflows.
func parseSeconds(value string, limit time.Duration) (time.Duration, bool) {
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return 0, false
	}
	seconds := time.Duration(0)
	for _, digit := range value {
		if seconds = 10*seconds + time.Duration(digit-'0'); seconds*time.Second >= limit {
			return limit, true
		}
	}
	return seconds * time.Second, true
}

package retryafter

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	const limit = 24 * time.Hour
	const date = "Fri, 27 Nov 2026 07:00:00 GMT"
	for value, want := range map[string]time.Duration{
		"120":                            2 * time.Minute,
		" 120\t":                         2 * time.Minute,
		"0":                              0,
		"007":                            7 * time.Second,
		"86399":                          limit - time.Second,
		"86400":                          limit,
		"86401":                          limit,
		strings.Repeat("9", 400):         limit,
		strings.Repeat("0", 400) + "1":   time.Second,
		"Fri, 27 Nov 2026 07:00:30 GMT":  30 * time.Second,
		"Friday, 27-Nov-26 07:00:30 GMT": 30 * time.Second,
		"Fri Nov 27 07:00:30 2026":       30 * time.Second,
		"Fri, 27 Nov 2026 06:00:00 GMT":  0, // past
		"Sat, 27 Nov 2027 07:00:00 GMT":  limit,
		"":                               0,
		"-5":                             0,
		"+5":                             0,
		"1.5":                            0,
		"5s":                             0,
		"5, 10":                          0,
		"soon":                           0,
		"2026-11-27T07:00:30Z":           0,
		"１２０":                            0,
	} {
		if got := Parse(http.Header{"Retry-After": {value}, "Date": {date}}, limit); got != want {
			t.Errorf("%.40q: got %v, want %v", value, got, want)
		}
	}
	if got := Parse(http.Header{"Retry-After": {"Fri, 27 Nov 2026 07:00:30 GMT"}}, limit); got != 0 {
		t.Errorf("a date without the response's own: got %v, want 0", got)
	}
	if got := Parse(http.Header{}, limit); got != 0 {
		t.Errorf("no header: got %v, want 0", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, value := range []string{"1", "-1", "99999999999999999999", "Fri, 27 Nov 2026 07:00:30 GMT", "a"} {
		f.Add(value, "Fri, 27 Nov 2026 07:00:00 GMT")
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		const limit = time.Hour
		got := Parse(http.Header{"Retry-After": {value}, "Date": {date}}, limit)
		if got < 0 || got > limit {
			t.Errorf("got %v, want 0 to %v", got, limit)
		}
		if n, err := strconv.ParseUint(value, 10, 32); err == nil && got != min(time.Duration(n)*time.Second, limit) {
			t.Errorf("%q: got %v", value, got)
		}
	})
}

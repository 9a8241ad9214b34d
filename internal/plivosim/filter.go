package plivosim

import (
	"fmt"
	"net/url"
	"time"
)

// filter turns LIST's documented filters, and from_number and to_number, into a predicate.
// Unknown filters are ignored.
func (s *Simulator) filter(query url.Values, now time.Time) (func(*message, mdr) bool, error) {
	inTime, err := timeFilter(query, now)
	if err != nil {
		return nil, err
	}
	return func(m *message, record mdr) bool {
		for name, value := range s.filterable(record) {
			if query.Has(name) && query.Get(name) != value {
				return false
			}
		}
		return inTime(m.entry.AcceptedAt)
	}, nil
}

// filterable returns the fields that LIST compares for equality.
func (s *Simulator) filterable(record mdr) map[string]string {
	values := map[string]string{
		"message_state":     string(record.State),
		"message_direction": record.Direction,
		"message_type":      record.Type,
		"error_code":        deref(record.ErrorCode),
		"powerpack_id":      deref(record.PowerpackID),
	}
	if !s.cfg.IgnoreNumberFilters {
		values["from_number"] = record.From
		values["to_number"] = record.To
	}
	return values
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// timeFilter parses message_time and its comparisons, which are in UTC. Without any of
// them, only the last 24 hours are listed.
func timeFilter(query url.Values, now time.Time) (func(time.Time) bool, error) {
	comparisons := map[string]func(t, bound time.Time) bool{
		"message_time":      func(t, bound time.Time) bool { return t.Equal(bound) },
		"message_time__gt":  func(t, bound time.Time) bool { return t.After(bound) },
		"message_time__gte": func(t, bound time.Time) bool { return !t.Before(bound) },
		"message_time__lt":  func(t, bound time.Time) bool { return t.Before(bound) },
		"message_time__lte": func(t, bound time.Time) bool { return !t.After(bound) },
	}
	var checks []func(time.Time) bool
	for name, compare := range comparisons {
		if !query.Has(name) {
			continue
		}
		bound, err := filterTime(query.Get(name))
		if err != nil {
			return nil, fmt.Errorf("%s must be YYYY-MM-DD HH:MM[:ss[.uuuuuu]]", name)
		}
		checks = append(checks, func(t time.Time) bool { return compare(t, bound) })
	}
	if len(checks) == 0 {
		return func(t time.Time) bool { return now.Sub(t) <= defaultWindow }, nil
	}
	return func(t time.Time) bool {
		t = t.UTC().Truncate(time.Microsecond) // the precision of filters
		for _, check := range checks {
			if !check(t) {
				return false
			}
		}
		return true
	}, nil
}

func filterTime(s string) (time.Time, error) {
	t, err := time.Parse("2006-01-02 15:04:05", s) // also parses fractions of a second
	if err != nil {
		t, err = time.Parse("2006-01-02 15:04", s)
	}
	return t, err
}

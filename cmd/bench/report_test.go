package main

import (
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		value float64
		bar   string
		want  string
	}{
		"no bar":            {1, "", ""},
		"at least, reached": {1, "≥ 1.0", met},
		"at least, below":   {0.99, "≥ 1.0", missed},
		"at most, equal":    {20, "≤ 20", met},
		"at most, above":    {20.1, "≤ 20", missed},
		"less than, equal":  {25, "< 25", missed},
		"less than, below":  {24.9, "< 25", met},
		"equal":             {0, "0", met},
		"not equal":         {1, "0", missed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := judge(c.value, c.bar); got != c.want {
				t.Errorf("judge(%v, %q): got %q, want %q", c.value, c.bar, got, c.want)
			}
		})
	}
}

func TestSummaryJudgesACountByItsWorstRun(t *testing.T) {
	t.Parallel()
	r := &report{scenario: "doubt"}
	for _, twice := range []float64{0, 2, 0} {
		r.add("messages sent twice", twice, "", "0")
	}
	var out strings.Builder
	r.summarize(&out)
	if got, want := strings.TrimSpace(out.String()), "0 of 1 bars met; missed: doubt: messages sent twice (2, not 0)"; got != want {
		t.Errorf("summary: got %q, want %q", got, want)
	}
}

func TestSummaryJudgesTheMedian(t *testing.T) {
	t.Parallel()
	r := &report{scenario: "create"}
	for _, ms := range []float64{30, 10, 12} {
		r.add("p95", ms, "ms", "≤ 20")
	}
	r.add("ratio", 0.5, "", "≥ 1")
	r.add("CPU", 100, "µs", "")
	var out strings.Builder
	r.summarize(&out)
	if got, want := strings.TrimSpace(out.String()), "1 of 2 bars met; missed: create: ratio (0.500, not ≥ 1)"; got != want {
		t.Errorf("summary: got %q, want %q", got, want)
	}
}

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
		"no bar":             {1, "", ""},
		"at least, enough":   {1, "≥ 1.0", met},
		"at least, too few":  {0.99, "≥ 1.0", missed},
		"at most, just":      {20, "≤ 20", met},
		"at most, too many":  {20.1, "≤ 20", missed},
		"below, just not":    {25, "< 25", missed},
		"below":              {24.9, "< 25", met},
		"a number":           {0, "0", met},
		"not quite a number": {1, "0", missed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := judge(c.value, c.bar); got != c.want {
				t.Errorf("%v under %q was %q, not %q", c.value, c.bar, got, c.want)
			}
		})
	}
}

// TestSummary judges the median over the runs, not the last of them.
func TestSummary(t *testing.T) {
	t.Parallel()
	r := &report{scenario: "accept"}
	for _, ms := range []float64{30, 10, 12} {
		r.add("p95", ms, "ms", "≤ 20")
	}
	r.add("ratio", 0.5, "", "≥ 1")
	r.add("CPU", 100, "µs", "")
	var out strings.Builder
	r.summarize(&out)
	if got, want := strings.TrimSpace(out.String()), "1 of 2 bars met; missed: accept: ratio (0.500, not ≥ 1)"; got != want {
		t.Errorf("the summary was %q, not %q", got, want)
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// report collects metrics by scenario and name, over all runs.
type report struct {
	machine  machine
	scenario string // currently running
	metrics  []*metric
}

// metric is one measurement, with one value per run.
type metric struct {
	Scenario string    `json:"scenario"`
	Name     string    `json:"name"`
	Unit     string    `json:"unit"`
	Runs     []float64 `json:"runs"`
	Median   float64   `json:"median"`
	Bar      string    `json:"bar,omitempty"`     // the target
	Verdict  string    `json:"verdict,omitempty"` // met or missed; empty without a bar
}

const met, missed = "met", "missed"

func (r *report) add(name string, value float64, unit, bar string) {
	i := slices.IndexFunc(r.metrics, func(f *metric) bool { return f.Scenario == r.scenario && f.Name == name })
	if i < 0 {
		i = len(r.metrics)
		r.metrics = append(r.metrics, &metric{Scenario: r.scenario, Name: name, Unit: unit, Bar: bar})
	}
	f := r.metrics[i]
	f.Runs = append(f.Runs, value)
	f.Median = median(f.Runs)
	f.Verdict = judge(f.judged(), f.Bar)
}

// judged returns the value that must meet the bar: the median, or the largest of all runs
// when the bar is a number that must be met exactly, like 0 messages sent twice.
func (f *metric) judged() float64 {
	if _, err := strconv.ParseFloat(f.Bar, 64); err == nil {
		return slices.Max(f.Runs)
	}
	return f.Median
}

// median of the runs so far.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// judge compares a value with a bar: "≥ 1.0", "≤ 20", "< 25", or a number that it must
// equal. It panics when the bar cannot be parsed.
func judge(value float64, bar string) string {
	if bar == "" {
		return ""
	}
	relation, number, ok := strings.Cut(bar, " ")
	if !ok {
		relation, number = "=", bar
	}
	limit, err := strconv.ParseFloat(number, 64)
	if err != nil {
		panic("invalid bar: " + bar)
	}
	if map[string]bool{"≥": value >= limit, "≤": value <= limit, "<": value < limit, "=": value == limit}[relation] {
		return met
	}
	return missed
}

// spread is the range of the runs in percent of the median.
func (f *metric) spread() float64 {
	if f.Median == 0 {
		return 0
	}
	return 100 * (slices.Max(f.Runs) - slices.Min(f.Runs)) / f.Median
}

func (r *report) print(out io.Writer, s scenario) {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(table, "\n%s\tmedian\tunit\tspread\tbar\t\n", s.title())
	for _, f := range r.metrics {
		if f.Scenario == s.name {
			fmt.Fprintf(table, "  %s\t%s\t%s\t±%.0f %%\t%s\t%s\n", f.Name, format(f.Median), f.Unit, f.spread()/2, f.Bar, f.Verdict)
		}
	}
	table.Flush()
}

// summarize prints how many bars were met and which were missed, in one line.
func (r *report) summarize(out io.Writer) {
	bars := 0
	var misses []string
	for _, f := range r.metrics {
		if f.Bar != "" {
			bars++
		}
		if f.Verdict == missed {
			misses = append(misses, fmt.Sprintf("%s: %s (%s, not %s)", f.Scenario, f.Name, format(f.judged()), f.Bar))
		}
	}
	line := fmt.Sprintf("%d of %d bars met", bars-len(misses), bars)
	if len(misses) > 0 {
		line += "; missed: " + strings.Join(misses, "; ")
	}
	fmt.Fprintf(out, "\n%s\n", line)
}

func format(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.3f", v), ".000")
}

func (r *report) write(file string) error {
	text, err := json.MarshalIndent(struct {
		machine
		Metrics []*metric `json:"metrics"`
	}{r.machine, r.metrics}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the metrics: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the metrics: %w", err)
	}
	return nil
}

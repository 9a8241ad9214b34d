// Command bench measures Postcard beside the limits of the engines beneath it, in
// one run on one machine: ratios count, absolute figures do not. It brings its own
// servers, with all their durability (fsync on, AOF every second), and real api and
// worker processes. `make bench` runs it; it is never part of the tests.
//
//	bench [-run NAMES] [-repeat N] [-json FILE] [-profile FOLDER]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// scenario is one thing that is measured. It is run several times, and reports
// its figures each time.
type scenario struct {
	name      string
	run       func(context.Context, *stack, *report) error
	timeScale float64 // of what Plivo takes for its reports
}

// afterTheEnd is a Plivo whose reports come so late that they are not measured.
const afterTheEnd = 1000

var scenarios = []scenario{
	{"start", benchStart, afterTheEnd},
	{"accept", benchAccept, afterTheEnd},
	{"openloop", benchOpenLoop, afterTheEnd},
	{"idle", benchIdle, afterTheEnd},
	{"dispatch", benchDispatch, afterTheEnd},
	{"workers", benchWorkers, afterTheEnd},
	{"slow", benchSlow, afterTheEnd},
	{"pacing", benchPacing, afterTheEnd},
	{"redis", benchRedis, afterTheEnd},
	{"scale", benchScale, 1},
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("run", "", "only scenarios whose name matches")
	repeat := flags.Int("repeat", 3, "how often each is run; the median counts")
	file := flags.String("json", "", "write the figures to this file, too")
	folder := flags.String("profile", "", "write into this folder where dispatch's time goes: pprof, pg_stat_statements, Redis' commands")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("reading the command line: %w", err)
	}
	debug.SetGCPercent(400) // Plivo's side and the load shall take as little of the machine as they can
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("reading -run: %w", err)
	}
	programs, err := build(ctx)
	if err != nil {
		return err
	}
	defer os.RemoveAll(programs)
	all := &report{}
	for _, s := range scenarios {
		if !pattern.MatchString(s.name) {
			continue
		}
		all.scenario = s.name
		times := *repeat
		if s.name == "scale" || s.name == "redis" {
			times = 1 // it fills a large table
		}
		for range times {
			if err := once(ctx, s, programs, profiles(*folder), all); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		all.print(out, s.name)
	}
	if *file == "" {
		return nil
	}
	return all.write(*file)
}

// once runs a scenario on fresh servers.
func once(ctx context.Context, s scenario, programs string, p profiles, all *report) error {
	st, err := newStack(ctx, programs, s.timeScale, p)
	if err != nil {
		return err
	}
	return errors.Join(s.run(ctx, st, all), st.stop())
}

// report collects figures by scenario and name, over all runs.
type report struct {
	scenario string
	figures  []*figure
}

// figure is one thing measured, once per run.
type figure struct {
	Scenario string    `json:"scenario"`
	Name     string    `json:"name"`
	Unit     string    `json:"unit"`
	Runs     []float64 `json:"runs"`
	Median   float64   `json:"median"`
	Bar      string    `json:"bar,omitempty"` // what it is meant to be
}

func (r *report) add(name string, value float64, unit, bar string) {
	for _, f := range r.figures {
		if f.Scenario == r.scenario && f.Name == name {
			f.Runs = append(f.Runs, value)
			f.Median = median(f.Runs)
			return
		}
	}
	r.figures = append(r.figures, &figure{Scenario: r.scenario, Name: name, Unit: unit, Runs: []float64{value}, Median: value, Bar: bar})
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

// spread is how far the runs lie apart, in percent of the median: the noise.
func (f *figure) spread() float64 {
	if f.Median == 0 {
		return 0
	}
	return 100 * (slices.Max(f.Runs) - slices.Min(f.Runs)) / f.Median
}

func (r *report) print(out io.Writer, scenario string) {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(table, "\n%s\tmedian\tunit\tspread\tbar\n", scenario)
	for _, f := range r.figures {
		if f.Scenario == scenario {
			fmt.Fprintf(table, "  %s\t%s\t%s\t±%.0f %%\t%s\n", f.Name, short(f.Median), f.Unit, f.spread()/2, f.Bar)
		}
	}
	table.Flush()
}

func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.3f", v), ".000")
}

func (r *report) write(file string) error {
	text, err := json.MarshalIndent(map[string]any{
		"at": time.Now().UTC(), "cpus": runtime.NumCPU(), "go": runtime.Version(), "figures": r.figures,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing figures: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing figures: %w", err)
	}
	return nil
}

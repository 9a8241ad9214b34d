// Command bench measures Postcard beside the limits of the engines beneath it, in
// one run on one machine: ratios count, absolute figures do not. It brings its own
// servers, with all their durability (fsync on, AOF every second), and real api and
// worker processes. `make bench` runs it; it is never part of the tests. Some figures
// have a bar; the last line says which were missed, and that is no failure.
//
//	bench [-run NAMES] [-repeat N] [-json FILE] [-profile FOLDER]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"syscall"
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
	under     string // a condition that its figures hold under; empty: none
	run       func(context.Context, *stack, *report) error
	timeScale float64 // of what Plivo takes for its reports
}

// title is what stands above a scenario's figures.
func (s scenario) title() string {
	if s.under == "" {
		return s.name
	}
	return s.name + ", " + s.under
}

const (
	afterTheEnd = 1000 // of Plivo's reports: so late that they are not measured

	// noRateLimit is what tells of the engines' limits. Senders in production have a pace,
	// and wait for it.
	noRateLimit = "senders without a pace"
)

var scenarios = []scenario{
	{"start", "", benchStart, afterTheEnd},
	{"accept", "", benchAccept, afterTheEnd},
	{"openloop", "", benchOpenLoop, afterTheEnd},
	{"idle", noRateLimit, benchIdle, afterTheEnd},
	{"dispatch", noRateLimit, benchDispatch, afterTheEnd},
	{"workers", noRateLimit, benchWorkers, afterTheEnd},
	{"slow", noRateLimit, benchSlow, afterTheEnd},
	{"pacing", "", benchRateLimit, afterTheEnd},
	{"redis", noRateLimit, benchRedis, afterTheEnd},
	{"scale", noRateLimit, benchScale, 1},
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
	all := &report{machine: lookAround(ctx)}
	err = all.measure(ctx, pattern, *repeat, profiles(*folder), out)
	all.summarize(out)
	if *file != "" { // what was measured before a failure counts, too
		err = errors.Join(err, all.write(*file))
	}
	return err
}

// measure runs the scenarios whose names match, and prints the figures of each.
func (r *report) measure(ctx context.Context, pattern *regexp.Regexp, repeat int, p profiles, out io.Writer) error {
	programs, err := build(ctx)
	if err != nil {
		return err
	}
	defer os.RemoveAll(programs)
	for _, s := range scenarios {
		if !pattern.MatchString(s.name) {
			continue
		}
		r.scenario = s.name
		times := repeat
		if s.name == "scale" || s.name == "redis" {
			times = 1 // it fills a large table
		}
		for range times {
			if err = once(ctx, s, programs, p, r); err != nil {
				err = fmt.Errorf("%s: %w", s.name, err)
				break
			}
		}
		r.print(out, s)
		if err != nil {
			return err
		}
	}
	return nil
}

// once runs a scenario on fresh servers.
func once(ctx context.Context, s scenario, programs string, p profiles, all *report) error {
	st, err := newStack(ctx, programs, s.timeScale, p)
	if err != nil {
		return err
	}
	if err := all.machine.meet(ctx, st); err != nil {
		return errors.Join(err, st.stop())
	}
	return errors.Join(s.run(ctx, st, all), st.stop())
}

// Command bench measures Postcard next to the limits of Postgres and asynq, in one run on
// one machine: compare ratios, not absolute figures. It starts its own servers with full
// durability (fsync on, AOF every second) and real api and worker processes. `make bench`
// runs it; it is not part of the tests. Some metrics have a bar; the last line lists those
// that missed it, which does not change the exit code.
//
//	bench [-run REGEXP] [-repeat N] [-json FILE] [-profile DIR]
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

// scenario is one benchmark. It runs several times and adds its metrics each time.
type scenario struct {
	name      string
	condition string // under which its metrics hold; may be empty
	run       func(context.Context, *stack, *report) error
	timeScale float64 // of the simulator's delivery reports
}

// title is the heading of the scenario's metrics.
func (s scenario) title() string {
	if s.condition == "" {
		return s.name
	}
	return s.name + ", " + s.condition
}

const (
	noReports = 1000 // a time scale at which delivery reports come after the end of a run

	// noRateLimit shows the limits of the implementation. Senders in production are rate
	// limited.
	noRateLimit = "without rate limits"
)

var scenarios = []scenario{
	{"start", "", benchStart, noReports},
	{"create", "", benchCreate, noReports},
	{"openloop", "", benchOpenLoop, noReports},
	{"idle", noRateLimit, benchIdle, noReports},
	{"dispatch", noRateLimit, benchDispatch, noReports},
	{"workers", noRateLimit, benchWorkers, noReports},
	{"latency", noRateLimit, benchLatency, noReports},
	{"ratelimit", "", benchRateLimit, noReports},
	{"redis", noRateLimit, benchRedis, noReports},
	{"scale", noRateLimit, benchScale, 1},
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("run", "", "run only scenarios whose name matches this regular expression")
	repeat := flags.Int("repeat", 3, "how often to run each scenario; the median counts")
	file := flags.String("json", "", "also write the metrics to this file")
	dir := flags.String("profile", "", "write profiles of dispatch to this directory: pprof, pg_stat_statements, Redis commands")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("parsing the flags: %w", err)
	}
	debug.SetGCPercent(400) // the simulator and the load generator should use little CPU
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-run must be a regular expression: %w", err)
	}
	all := &report{machine: describeMachine(ctx)}
	err = all.measure(ctx, pattern, *repeat, profiles(*dir), out)
	all.summarize(out)
	if *file != "" { // also after an error: what was measured before it is valid
		err = errors.Join(err, all.write(*file))
	}
	return err
}

// measure runs the scenarios whose names match, and prints the metrics of each.
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
			times = 1 // they fill large tables
		}
		for range times {
			if err = runOnce(ctx, s, programs, p, r); err != nil {
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

// runOnce runs a scenario on new servers.
func runOnce(ctx context.Context, s scenario, programs string, p profiles, all *report) error {
	st, err := newStack(ctx, programs, s.timeScale, p)
	if err != nil {
		return err
	}
	if err := all.machine.addVersions(ctx, st); err != nil {
		return errors.Join(err, st.stop())
	}
	return errors.Join(s.run(ctx, st, all), st.stop())
}

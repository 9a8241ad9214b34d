// Command bench measures Postcard next to the limits of Postgres and asynq, in one run on
// one machine: compare ratios, not absolute figures. It starts its own servers with full
// durability (fsync on, AOF every second) and real api and worker processes. `make bench`
// runs it; it is not part of the tests. Some metrics have a bar; the last line lists those
// that missed it, which does not change the exit code.
//
//	bench [-run REGEXP] [-cell REGEXP] [-repeat N] [-seed N] [-seeds N] [-json FILE] [-profile DIR]
package main

import (
	"cmp"
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
	program := func() error { return run(ctx, os.Args[1:], os.Stdout) }
	if len(os.Args) == 2 && os.Args[1] == minimalWorker {
		program = func() error { return runMinimalWorker(ctx) }
	}
	if err := program(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// scenario is one benchmark. It runs several times and adds its metrics each time.
type scenario struct {
	name      string
	condition string // under which its metrics hold; may be empty
	run       func(context.Context, *stack, *report) error
	timeScale float64 // of the simulator's delivery reports; 0: they come after the end of a run
	listRate  int     // lists of messages that the simulator returns per minute; 0: unlimited
	times     times
}

// title is the heading of the scenario's metrics.
func (s scenario) title() string {
	if s.condition == "" {
		return s.name
	}
	return s.name + ", " + s.condition
}

// times is how often a scenario runs.
type times int

const (
	repeated   times = iota // as often as -repeat says
	once                    // it takes minutes
	onceBySeed              // once with each seed of the simulator
)

const (
	noReports = 1000 // a time scale at which delivery reports come after the end of a run

	// noRateLimit shows the limits of the implementation. Senders in production are rate
	// limited.
	noRateLimit = "without rate limits"
)

var scenarios = []scenario{
	{name: "start", run: benchStart},
	{name: "create", run: benchCreate},
	{name: "openloop", run: benchOpenLoop},
	{name: "idle", condition: noRateLimit, run: benchIdle},
	{name: "dispatch", condition: noRateLimit, run: benchDispatch},
	{name: "workers", condition: noRateLimit, run: benchWorkers},
	{name: "latency", condition: noRateLimit, run: benchLatency},
	{name: "statistics", condition: noRateLimit, run: benchStatistics},
	{name: "ratelimit", run: benchRateLimit},
	{name: "redis", condition: noRateLimit, run: benchRedis, times: once},
	{name: "scale", condition: noRateLimit, run: benchScale, timeScale: 1, times: once},
	{name: "doubt", condition: noRateLimit, run: benchDoubt, timeScale: quickReports, listRate: plivoListRate, times: onceBySeed},
	{name: "doubt-silence", condition: noRateLimit, run: benchDoubtSilence, timeScale: quickReports, listRate: plivoListRate, times: onceBySeed},
}

// options apply to all scenarios.
type options struct {
	scenarios, cells *regexp.Regexp // which to run
	repeat           int
	seed             uint64 // of the first run
	seeds            int
	profiles         profiles
}

// runs returns how often a scenario runs.
func (o options) runs(t times) int {
	return map[times]int{repeated: o.repeat, once: 1, onceBySeed: o.seeds}[t]
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("run", "", "run only scenarios whose name matches this regular expression")
	cells := flags.String("cell", "", "of latency and statistics, run only cells whose name matches this regular expression")
	flags.IntVar(&o.repeat, "repeat", 3, "how often to run each scenario; the median counts")
	flags.Uint64Var(&o.seed, "seed", 1, "seed of the simulator's random faults in the first run; each further run uses the next one")
	flags.IntVar(&o.seeds, "seeds", 1, "with how many seeds to run the doubt scenarios")
	file := flags.String("json", "", "also write the metrics to this file")
	dir := flags.String("profile", "", "write profiles of dispatch to this directory: pprof, pg_stat_statements, Redis commands")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("parsing the flags: %w", err)
	}
	debug.SetGCPercent(400) // the simulator and the load generator should use little CPU
	var err error
	if o.scenarios, err = regexp.Compile(*only); err != nil {
		return fmt.Errorf("-run must be a regular expression: %w", err)
	}
	if o.cells, err = regexp.Compile(*cells); err != nil {
		return fmt.Errorf("-cell must be a regular expression: %w", err)
	}
	o.profiles = profiles(*dir)
	all := &report{machine: describeMachine(ctx)}
	err = all.measure(ctx, o, out)
	all.summarize(out)
	if *file != "" { // also after an error: what was measured before it is valid
		err = errors.Join(err, all.write(*file))
	}
	return err
}

// measure runs the scenarios whose names match, and prints the metrics of each.
func (r *report) measure(ctx context.Context, o options, out io.Writer) error {
	programs, err := build(ctx)
	if err != nil {
		return err
	}
	defer os.RemoveAll(programs)
	for _, s := range scenarios {
		if !o.scenarios.MatchString(s.name) {
			continue
		}
		r.scenario = s.name
		for i := range o.runs(s.times) {
			if err = runOnce(ctx, s, stackOptions{
				programs: programs, profiles: o.profiles, cells: o.cells,
				timeScale: cmp.Or(s.timeScale, noReports), listRate: cmp.Or(s.listRate, -1), seed: o.seed + uint64(i),
			}, r); err != nil {
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
func runOnce(ctx context.Context, s scenario, o stackOptions, all *report) error {
	st, err := newStack(ctx, o)
	if err != nil {
		return err
	}
	if err := all.machine.addVersions(ctx, st); err != nil {
		return errors.Join(err, st.stop())
	}
	return errors.Join(s.run(ctx, st, all), st.stop())
}

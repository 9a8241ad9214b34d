package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	_ "github.com/lib/pq" // driver of database/sql
	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/devstack"
	"github.com/postcard-mms/postcard/internal/plivosim"
)

const (
	authID    = "MABENCHBENCHBENCH001"
	authToken = "bench-token"
	sender    = "+14155550100"
	email     = "bench@example.com"
	password  = "bench password"

	rateLimitedSender = "+14155550101" // has a rate limit and a backlog
)

// build builds the programs as `make build` does, into a temporary directory.
func build(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "postcard-bench-")
	if err != nil {
		return "", fmt.Errorf("creating a directory: %w", err)
	}
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s", "-o", dir, "github.com/postcard-mms/postcard/cmd/api", "github.com/postcard-mms/postcard/cmd/worker")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	return dir, nil
}

// stack is a set of new servers, a simulator, and the processes started on them.
type stack struct {
	stackOptions
	dir       string
	postgres  *devstack.Postgres
	redis     *devstack.Redis
	db        *sql.DB
	tasks     *redis.Client
	sim       *plivosim.Simulator
	simulator *httptest.Server
	latency   time.Duration // of the simulator
	arrived   atomic.Int64  // number of requests that the simulator has answered
	counted   bool          // pg_stat_statements is available
	processes []*process
}

// stackOptions configure a stack.
type stackOptions struct {
	programs string // directory of the programs
	profiles profiles
	cells    *regexp.Regexp // which cells of a scenario to run

	// Of the simulator: see plivosim.Config.
	timeScale float64
	listRate  int
	seed      uint64
}

func newStack(ctx context.Context, o stackOptions) (*stack, error) {
	logger := slog.New(slog.DiscardHandler)
	dir, err := devstack.TempStateDir()
	if err != nil {
		return nil, err
	}
	s := &stack{stackOptions: o, dir: dir}
	if s.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresOptions{StateDir: dir, DieWithUs: true, AllowInstall: true, Statistics: true, Logger: logger}); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	if s.redis, err = devstack.StartRedis(ctx, devstack.RedisOptions{StateDir: dir, AOF: true, RequireReal: true, DieWithUs: true, Logger: logger}); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	if s.db, err = sql.Open("postgres", s.postgres.URL); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	_, err = s.db.ExecContext(ctx, createStatistics)
	s.counted = err == nil
	options, err := redis.ParseURL(s.redis.URL)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	s.tasks = redis.NewClient(options)
	s.sim = plivosim.New(plivosim.Config{
		AuthID: authID, AuthToken: authToken, RequestRate: -1, MaxConcurrent: -1, ListRate: o.listRate,
		TimeScale: o.timeScale, Seed: o.seed,
	})
	s.simulator = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(s.latency)
		s.sim.ServeHTTP(w, r)
		s.arrived.Add(1)
	}))
	return s, nil
}

// stop stops everything in the reverse order of its start.
func (s *stack) stop() error {
	var errs []error
	for _, p := range s.processes {
		p.kill()
	}
	if s.simulator != nil {
		s.simulator.CloseClientConnections()
		s.simulator.Close()
		s.sim.Close()
	}
	if s.tasks != nil {
		errs = append(errs, s.tasks.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.redis != nil {
		errs = append(errs, s.redis.Kill())
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Kill())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// process is a running api or worker.
type process struct {
	command *exec.Cmd
	url     string // of the api; unused for a worker
	metrics string
	took    time.Duration // from start to ready
	log     string
}

func (p *process) kill() {
	if p.command.ProcessState != nil {
		return
	}
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// api starts an api and waits until it is ready.
func (s *stack) api(ctx context.Context, vars ...string) (*process, error) {
	return s.start(ctx, "api", vars...)
}

// apiWithKey starts an api, logs in and creates an API key.
func (s *stack) apiWithKey(ctx context.Context) (api *process, key, cookie string, err error) {
	if api, err = s.api(ctx); err != nil {
		return nil, "", "", err
	}
	key, cookie, err = credentials(api)
	return api, key, cookie, err
}

// prepare runs an api, which creates the schema and the user, and a worker, which writes
// the marker to Redis; without it the next worker would check the task of every message.
func (s *stack) prepare(ctx context.Context) error {
	for _, program := range []string{"api", "worker"} {
		p, err := s.start(ctx, program)
		if err != nil {
			return err
		}
		if program == "worker" {
			for s.tasks.Exists(ctx, "postcard:marker").Val() == 0 {
				if err := pause(ctx, 10*time.Millisecond); err != nil {
					return err
				}
			}
		}
		p.kill()
	}
	return nil
}

// worker starts a worker and waits until it is ready.
func (s *stack) worker(ctx context.Context, vars ...string) (*process, error) {
	return s.start(ctx, "worker", vars...)
}

// start starts one of the programs, which takes its addresses from the environment.
func (s *stack) start(ctx context.Context, program string, vars ...string) (*process, error) {
	return s.startCommand(ctx, program, exec.Command(filepath.Join(s.programs, program)), vars...)
}

func (s *stack) startCommand(ctx context.Context, program string, command *exec.Cmd, vars ...string) (*process, error) {
	port, err := devstack.FreePort()
	if err != nil {
		return nil, err
	}
	metrics, err := devstack.FreePort()
	if err != nil {
		return nil, err
	}
	p := &process{
		command: command, url: fmt.Sprintf("http://127.0.0.1:%d", port),
		metrics: fmt.Sprintf("http://127.0.0.1:%d", metrics), log: filepath.Join(s.dir, fmt.Sprintf("%s-%d.log", program, port)),
	}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("creating a log file: %w", err)
	}
	defer log.Close()
	p.command.Dir, p.command.Stderr, p.command.Stdout = s.dir, log, log
	p.command.Env = append([]string{
		"DATABASE_URL=" + s.postgres.URL, "REDIS_URL=" + s.redis.URL,
		"PLIVO_AUTH_ID=" + authID, "PLIVO_AUTH_TOKEN=" + authToken, "PLIVO_SENDER_NUMBER=" + sender, "PLIVO_BASE_URL=" + s.simulator.URL,
		"ADMIN_EMAIL=" + email, "ADMIN_PASSWORD=" + password, "SENDER_RATE=0", "PUBLIC_URL=" + p.url, // signatures of reports cover this URL
		"API_KEY_RATE=100000000", "DAILY_CAP=2000000000", // counted as in production, but never reached
		fmt.Sprintf("API_ADDR=127.0.0.1:%d", port), fmt.Sprintf("API_METRICS_ADDR=127.0.0.1:%d", metrics), fmt.Sprintf("WORKER_METRICS_ADDR=127.0.0.1:%d", metrics),
	}, vars...)
	start := time.Now()
	if err := devstack.StartBound(p.command); err != nil {
		return nil, err
	}
	s.processes = append(s.processes, p)
	for {
		response, err := http.Get(p.metrics + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				p.took = time.Since(start)
				return p, nil
			}
		}
		if time.Since(start) > time.Minute || ctx.Err() != nil {
			text, _ := os.ReadFile(p.log)
			return nil, fmt.Errorf("the %s did not become ready; its log: %s", program, text)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// stat returns the fields of /proc/PID/stat from the state on (proc_pid_stat(5)), or nil
// when there is no such process.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// cpu returns the CPU seconds of a process without its children.
func cpu(pid int) float64 { return ticks(stat(pid), 11, 12) }

// exitedChildrenCPU returns the CPU seconds of a process' children that exited and were
// waited for.
func exitedChildrenCPU(pid int) float64 { return ticks(stat(pid), 13, 14) }

// ticks returns the sum of two fields in seconds; the kernel counts hundredths.
func ticks(fields []string, a, b int) float64 {
	if len(fields) <= max(a, b) {
		return 0
	}
	first, _ := strconv.ParseFloat(fields[a], 64)
	second, _ := strconv.ParseFloat(fields[b], 64)
	return (first + second) / 100
}

func parent(pid int) int {
	fields := stat(pid)
	if fields == nil {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}

// memory returns the resident memory of a process in MiB.
func memory(pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

// size returns the size of a program's binary in MB.
func size(dir, program string) float64 {
	info, err := os.Stat(filepath.Join(dir, program))
	if err != nil {
		return 0
	}
	return float64(info.Size()) / 1e6
}

// credentials logs in and creates an API key.
func credentials(api *process) (key, cookie string, err error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", "", err
	}
	client := &http.Client{Jar: jar, Timeout: 10 * time.Second}
	post := func(path, body string) (map[string]any, error) {
		response, err := client.Post(api.url+path, "application/json", strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode/100 != 2 {
			return nil, fmt.Errorf("%s: %s %s %w", path, response.Status, text, err)
		}
		answer := map[string]any{}
		return answer, json.Unmarshal(text, &answer)
	}
	if _, err := post("/api/login", fmt.Sprintf(`{"email":%q,"password":%q}`, email, password)); err != nil {
		return "", "", err
	}
	answer, err := post("/api/keys", `{"name":"bench","scopes":["send","read"]}`)
	if err != nil {
		return "", "", err
	}
	request, err := http.NewRequest(http.MethodGet, api.url, nil)
	if err != nil {
		return "", "", err
	}
	for _, c := range jar.Cookies(request.URL) {
		cookie = c.Name + "=" + c.Value
	}
	return fmt.Sprint(answer["secret"]), cookie, nil
}

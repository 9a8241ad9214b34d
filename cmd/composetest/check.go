package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// finalLimit is how long the messages may take to become final. Those in doubt wait for
// the simulator's list, of which a minute allows 20 calls.
const finalLimit = 6 * time.Minute

// check waits until all messages are final and returns what is wrong.
func (s *stack) check(ctx context.Context, l *load) ([]string, error) {
	_, err := poll(ctx, finalLimit, 2*time.Second, "all messages are final", func() (bool, error) {
		rows, err := s.query(ctx, "SELECT 1 FROM messages WHERE final_at IS NULL LIMIT 1")
		return len(rows) == 0, err
	})
	var problems []string
	if err != nil {
		rows, queryErr := s.query(ctx, "SELECT status, count(*) FROM messages WHERE final_at IS NULL GROUP BY 1")
		if queryErr != nil {
			return nil, queryErr
		}
		problems = append(problems, fmt.Sprintf("%v: %s", err, strings.Join(rows, ", ")))
	}
	for _, check := range []func(context.Context) ([]string, error){
		func(ctx context.Context) ([]string, error) { return s.compareLedger(ctx, l) },
		func(context.Context) ([]string, error) { return s.checkStatusURL(l), nil },
		s.verify, s.checkLogIn, s.checkContainers, s.checkLogs,
	} {
		found, err := check(ctx)
		if err != nil {
			return nil, err
		}
		problems = append(problems, found...)
	}
	return problems, nil
}

// compareLedger expects each message that was answered 202 once in the simulator's
// ledger, and no other.
func (s *stack) compareLedger(ctx context.Context, l *load) ([]string, error) {
	body, err := get(ctx, s.simURL+"/sim/ledger")
	if err != nil {
		return nil, err
	}
	var entries []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(body, &entries); err != nil {
		return nil, fmt.Errorf("decoding the simulator's ledger: %w", err)
	}
	arrived := map[string]int{}
	for _, e := range entries {
		arrived[e.Text]++
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var problems []string
	for text, id := range l.accepted {
		if n := arrived[text]; n != 1 {
			problems = append(problems, fmt.Sprintf("message %s was answered 202 and arrived %d times", id, n))
		}
		delete(arrived, text)
	}
	for text, n := range arrived {
		problems = append(problems, fmt.Sprintf("%q arrived %d times, but was never answered 202", text, n))
	}
	if n := l.sent - len(l.accepted); n > 0 {
		problems = append(problems, fmt.Sprintf("%d messages were not answered 202 within two minutes", n))
	}
	fmt.Printf("%d messages were answered 202, %d arrived; all answers: %s\n", len(l.accepted), len(entries), describeCounts(l.answers))
	for _, kind := range slices.Sorted(maps.Keys(l.examples)) {
		fmt.Printf("last answer %s: %s\n", kind, l.examples[kind])
	}
	return problems, nil
}

// checkStatusURL expects links to messages to lead to the published port: between the
// containers, the api has another address.
func (s *stack) checkStatusURL(l *load) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if want := s.apiURL + "/api/messages/"; !strings.HasPrefix(l.statusURL, want) {
		return []string{fmt.Sprintf("the last statusUrl is %q, want one that begins with %s", l.statusURL, want)}
	}
	return nil
}

// verify runs postcard verify in the api's container.
func (s *stack) verify(ctx context.Context) ([]string, error) {
	out, err := s.engine.runCompose(ctx, "exec", "-T", "api", "/usr/local/bin/postcard", "verify", "--simulator", "http://plivosim:8085")
	if err != nil {
		return []string{fmt.Sprintf("postcard verify: %v", err)}, ctx.Err()
	}
	fmt.Print(out)
	return nil, nil
}

func (s *stack) checkLogIn(ctx context.Context) ([]string, error) {
	var problems []string
	if _, err := s.createKey(ctx); err != nil {
		problems = append(problems, fmt.Sprintf("logging in: %v", err))
	}
	if _, err := get(ctx, s.apiURL+"/readyz"); err != nil {
		problems = append(problems, err.Error())
	}
	return problems, ctx.Err()
}

// checkContainers expects every container to be healthy and to have never restarted.
func (s *stack) checkContainers(ctx context.Context) ([]string, error) {
	lines, err := s.inspect(ctx, `{{.Name}} {{.State.Status}} {{.State.Health.Status}} {{.RestartCount}}`)
	var problems []string
	for _, line := range lines {
		if !strings.HasSuffix(line, " running healthy 0") {
			problems = append(problems, fmt.Sprintf("a container is not running, healthy and free of restarts: %s", line))
		}
	}
	return problems, err
}

// unhealthy returns the containers whose health check failed at least the last two
// times. A single one may have run into its timeout on a busy machine.
func (s *stack) unhealthy(ctx context.Context) ([]string, error) {
	lines, err := s.inspect(ctx, `{{.Name}} {{.State.Health.FailingStreak}}`)
	var failing []string
	for _, line := range lines {
		if !strings.HasSuffix(line, " 0") && !strings.HasSuffix(line, " 1") {
			failing = append(failing, line)
		}
	}
	return failing, err
}

// inspect returns a line in the format for each container.
func (s *stack) inspect(ctx context.Context, format string) ([]string, error) {
	ids, err := s.engine.runCompose(ctx, "ps", "--all", "--quiet")
	if err != nil {
		return nil, err
	}
	out, err := s.engine.docker(ctx, append([]string{"inspect", "--format", format}, strings.Fields(ids)...)...)
	return strings.Split(strings.TrimSpace(out), "\n"), err
}

// checkLogs expects that api and workers log only JSON, and no panic. It prints how
// often each warning and error occurred.
func (s *stack) checkLogs(ctx context.Context) ([]string, error) {
	logs, err := s.engine.runCompose(ctx, "logs", "--no-color", "--no-log-prefix", "api", "worker")
	if err != nil {
		return nil, err
	}
	var plain []string
	counts := map[string]int{}
	for line := range strings.Lines(logs) {
		var entry struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			plain = append(plain, strings.TrimSpace(line))
		} else if entry.Level == "WARN" || entry.Level == "ERROR" {
			counts[entry.Level+" "+beginning(entry.Msg)]++
		}
	}
	for _, text := range slices.Sorted(maps.Keys(counts)) {
		fmt.Printf("logged %d times: %s\n", counts[text], text)
	}
	var problems []string
	if len(plain) > 0 {
		problems = append(problems, fmt.Sprintf("%d log lines are not JSON, such as:\n    %s", len(plain), strings.Join(plain[:min(len(plain), 10)], "\n    ")))
	}
	if n := strings.Count(logs, "panic"); n > 0 {
		problems = append(problems, fmt.Sprintf("the logs contain the word panic %d times", n))
	}
	return problems, nil
}

// beginning returns a log message without the ids and errors that asynq appends.
func beginning(msg string) string {
	if i := strings.IndexAny(msg, ":=[\""); i >= 0 {
		msg = msg[:i]
	}
	return strings.TrimSpace(msg)
}

// printResults prints a table of all cuts. Its last column is the time from the end of a
// cut until all messages that had been created before were final.
func (s *stack) printResults(ctx context.Context, results []result) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nservice\tcut off by\tready after\t202 after\tdelivered after\tall final after\tsessions")
	for _, r := range results {
		rows, err := s.query(ctx, fmt.Sprintf(`SELECT coalesce(extract(epoch FROM max(final_at) - '%s'), 0)
			FROM messages WHERE created_at BETWEEN '%s' AND '%s'`, r.to, r.from, r.to))
		if err != nil {
			return err
		}
		final, err := strconv.ParseFloat(strings.Join(rows, ""), 64)
		if err != nil {
			return fmt.Errorf("reading when messages became final: %w", err)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.target.name, r.way, seconds(r.ready), seconds(r.accepted),
			seconds(r.delivered), seconds(time.Duration(final*float64(time.Second))), r.sessions)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("printing the results: %w", err)
	}
	return nil
}

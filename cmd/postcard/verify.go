package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/maintenance"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/queue"
)

// comparison compares our records with a provider's.
type comparison func(ctx context.Context, store *postgres.Store) ([]audit.Finding, error)

// verify prints every check with its count, stores the findings for the operator's pages,
// and returns an error when an invariant is violated.
func verify(ctx context.Context, out io.Writer, compare comparison) error {
	store, err := openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	id, err := store.BeginVerification(ctx, operator.ByCLI)
	if err != nil {
		return err
	}
	findings, queueErr, err := findAll(ctx, store, compare)
	if err != nil {
		return errors.Join(err, store.FailVerification(context.WithoutCancel(ctx), id, "The audit did not finish. The command printed why."))
	}
	storeErr := store.FinishVerification(ctx, id, findings)
	times, err := store.ReportTimes(ctx)
	if err != nil {
		return err
	}
	return errors.Join(report(findings, out), reportTimes(times, out), queueErr, storeErr)
}

// findAll makes every check. An error of the queue alone leaves out its findings.
func findAll(ctx context.Context, store *postgres.Store, compare comparison) (findings []audit.Finding, queueErr, err error) {
	findings, err = store.Audit(ctx)
	if err != nil {
		return nil, nil, err
	}
	inQueue, queueErr := checkQueue(ctx)
	findings = append(findings, inQueue...)
	if compare != nil {
		compared, err := compare(ctx, store)
		if err != nil {
			return nil, queueErr, err
		}
		findings = append(findings, compared...)
	}
	return findings, queueErr, nil
}

// checkQueue checks the queue in Redis, if REDIS_URL is set. The database alone shows
// whether messages make progress, but not why.
func checkQueue(ctx context.Context) ([]audit.Finding, error) {
	vars, err := config.Environment()
	if err != nil {
		return nil, err
	}
	url, err := config.ReadRedisURL(vars)
	if err != nil || url == "" {
		return nil, err
	}
	redis, err := queue.Connect(string(url))
	if err != nil {
		return nil, err
	}
	defer redis.Close()
	faults, err := queue.NewClient(redis).Faults(ctx)
	if err != nil {
		return nil, fmt.Errorf("checking the queue: %w", err)
	}
	return audit.QueueFindings(faults.WrongKeys, faults.Paused), nil
}

// reportTimes prints how soon Plivo's reports come, and what follows for DOUBT_SILENCE.
func reportTimes(times mms.ReportTimes, out io.Writer) error {
	_, err := fmt.Fprintln(out, "\n"+times.Advice())
	return err
}

func compareWithLedger(simulator string) comparison {
	return func(ctx context.Context, store *postgres.Store) ([]audit.Finding, error) {
		ledger, err := readLedger(ctx, simulator)
		if err != nil {
			return nil, err
		}
		return audit.CompareLedger(ctx, store, ledger)
	}
}

func compareWithPlivo(age time.Duration) comparison {
	return func(ctx context.Context, store *postgres.Store) ([]audit.Finding, error) {
		vars, err := config.Environment()
		if err != nil {
			return nil, err
		}
		account, err := config.ReadPlivo(vars)
		if err != nil {
			return nil, err
		}
		client, err := plivo.New(plivo.Options{AuthID: account.AuthID, AuthToken: string(account.AuthToken), BaseURL: account.BaseURL, MaxConns: 1})
		if err != nil {
			return nil, err
		}
		to, err := store.Now(ctx)
		if err != nil {
			return nil, err
		}
		from := to.Add(-age)
		listed, err := maintenance.ListAll(ctx, client, store, mms.ListQuery{From: from, To: to})
		if err != nil {
			return nil, err
		}
		return audit.CompareListed(ctx, store, listed, from, to)
	}
}

// report prints the findings as a table.
func report(findings []audit.Finding, out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	violated := 0
	for _, f := range findings {
		mark := ""
		if f.Broken {
			mark = "VIOLATED"
			violated++
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\n", f.Invariant, f.Count, f.What, mark)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("printing the findings: %w", err)
	}
	if violated > 0 {
		return fmt.Errorf("%d checks failed; they are marked VIOLATED above", violated)
	}
	_, err := fmt.Fprintln(out, "All invariants hold.")
	return err
}

// readLedger fetches the messages that a simulator accepted.
func readLedger(ctx context.Context, simulator string) ([]audit.LedgerEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(simulator, "/")+"/sim/ledger", nil)
	if err != nil {
		return nil, fmt.Errorf("creating a request: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, explainRequestError("the simulator at "+simulator, "check the address, and that the simulator is running", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("reading the simulator's ledger: it answered %s, want 200 OK", response.Status)
	}
	var entries []struct {
		UUID        string `json:"uuid"`
		CallbackURL string `json:"callbackUrl"`
		State       string `json:"state"`
	}
	if err := json.NewDecoder(response.Body).Decode(&entries); err != nil {
		return nil, explainRequestError("the simulator at "+simulator, "check its address", fmt.Errorf("decoding the simulator's ledger: %w", err))
	}
	messages := make([]audit.LedgerEntry, len(entries))
	for i, e := range entries {
		messages[i] = audit.LedgerEntry{PlivoUUID: e.UUID, Token: strings.TrimPrefix(path.Base(e.CallbackURL), "."), State: e.State}
	}
	return messages, nil
}

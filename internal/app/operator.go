package app

import (
	"context"
	"os"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/queue"
	"github.com/postcard-mms/postcard/internal/version"
)

// describeProcess returns what the operator's pages show of this process. c is its
// configuration.
func describeProcess(id uuid.UUID, kind operator.Kind, c any) operator.Process {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return operator.Process{ID: id, Kind: kind, Host: host, Version: version.String(), Settings: settingsOf(c)}
}

func settingsOf(c any) []operator.Setting {
	var list []operator.Setting
	for _, s := range config.Settings(c) {
		list = append(list, operator.Setting(s))
	}
	return list
}

// operatorService returns what the operator's pages of an api do.
func operatorService(c config.API, store *postgres.Store, tasks *queue.Client, senders *operator.SenderList) *operator.Service {
	inbound := ""
	if c.CallbackURL != "" {
		inbound = c.CallbackURL + callback.InboundPath
	}
	return &operator.Service{
		Store: store, Tasks: tasks, Queue: queueHealth(tasks.Faults, store.WithoutProgress).state, List: senders, AuthID: c.Plivo.AuthID,
		Inbound: inbound, OwnSettings: settingsOf(c), RefuseFictional: !c.Plivo.Simulated(),
	}
}

// callbackTimes records when Plivo called last. A flood of callbacks causes one statement for
// each run of record.
type callbackTimes struct {
	count func(result string)
	note  func(context.Context) error
	seen  atomic.Bool
}

// Count counts a callback by its result. One whose signature is wrong may not be Plivo's.
func (c *callbackTimes) Count(result string) {
	c.count(result)
	if result != "bad_signature" && result != "unreadable" {
		c.seen.Store(true)
	}
}

// record stores the time if Plivo has called since the last run.
func (c *callbackTimes) record(ctx context.Context) error {
	if !c.seen.Swap(false) {
		return nil
	}
	err := c.note(ctx)
	if err != nil {
		c.seen.Store(true)
	}
	return err
}

// auditor returns the function that audits the records, on a connection of its own whose
// statements may take long.
func auditor(c config.Worker, tasks *queue.Client) func(context.Context) ([]audit.Finding, error) {
	return func(ctx context.Context) ([]audit.Finding, error) {
		store, err := postgres.Open(string(c.DatabaseURL), 1, 0)
		if err != nil {
			return nil, err
		}
		defer func() { _ = store.Close() }() // nothing is left to be written
		store.SetOptOutScope(mms.OptOutScope(c.OptOutScope))
		store.UseMedia(c.Plivo.AuthID, false)
		findings, err := store.Audit(ctx)
		if err != nil {
			return nil, err
		}
		faults, err := tasks.Faults(ctx)
		if err != nil {
			return nil, err
		}
		return append(findings, audit.QueueFindings(faults.WrongKeys, faults.Paused)...), nil
	}
}

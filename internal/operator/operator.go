// Package operator holds what the operator's pages show and change: processes, the state of
// the queue and of the Plivo account, senders, settings and runs of the audit. It knows
// neither SQL nor HTTP.
package operator

import (
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/mms"
)

// AliveFor is how long a process counts as alive after a heartbeat. It sends one every few
// seconds.
const AliveFor = 20 * time.Second

// Kind is the kind of a process.
type Kind string

// The kinds of processes.
const (
	API    Kind = "api"
	Worker Kind = "worker"
)

// Setting is a setting of a process. Its value is masked if it is a secret.
type Setting struct {
	Name  string `json:"name"` // the environment variable
	Value string `json:"value"`
	Set   bool   `json:"set"` // it differs from the default
}

// Process is an api or worker process that has been alive in the last day.
type Process struct {
	ID        uuid.UUID
	Kind      Kind
	Host      string // empty: not known yet
	Version   string
	Settings  []Setting
	StartedAt time.Time
	BeatAt    time.Time // the last heartbeat
	Alive     bool
}

// Sample is how many messages were open at a time.
type Sample struct {
	At        time.Time
	Queued    int // with Waiting and Preparing
	Waiting   int
	Preparing int
	Sending   int
	InDoubt   int // with Held
	Held      int
	Tasks     *int // in Redis; nil: it did not answer
}

// NewSample returns a sample of the counts. tasks is nil if Redis did not answer.
func NewSample(c mms.OpenCounts, tasks *int) Sample {
	return Sample{
		Queued: c.Messages[mms.Queued], Waiting: c.Waiting, Preparing: c.Preparing, Sending: c.Messages[mms.Sending],
		InDoubt: c.Messages[mms.InDoubt], Held: c.Held, Tasks: tasks,
	}
}

// EndedPause is a pause of all sending that is over.
type EndedPause struct {
	mms.Pause
	EndedAt time.Time
}

// Account is a Plivo account as Plivo describes it.
type Account struct {
	Type         string // standard, or developer for a trial
	BillingMode  string // prepaid or postpaid
	AutoRecharge bool
	Credits      string // US dollars, a decimal as Plivo writes it
}

// Trial reports whether Plivo restricts the account, because it is not a paid one.
func (a Account) Trial() bool { return a.Type == "developer" }

// AccountState is the account, and whether Plivo can be reached.
type AccountState struct {
	Account
	CheckedAt  *time.Time // nil: Plivo has not been asked yet
	ReachedAt  *time.Time // the last answer with the account
	Problem    string     // why the last query got none; empty if it did
	CallbackAt *time.Time // the last callback from Plivo; nil: none yet
}

// Health is the state of the installation.
type Health struct {
	Now           time.Time // of the database, to which ages refer
	Postgres      string    // "ok", "down" or "unknown"
	Redis         string    // like Postgres
	Queue         string    // "ok", or what keeps the queue from working
	Processes     []Process // workers first, the newest first
	Current       Sample
	Samples       []Sample // of the period, oldest first
	Account       AccountState
	Pauses        []mms.Pause
	EndedPauses   []EndedPause // the newest first
	SchemaVersion int64
}

// Alive counts the processes of the kind that are alive.
func (h Health) Alive(kind Kind) int {
	n := 0
	for _, p := range h.Processes {
		if p.Kind == kind && p.Alive {
			n++
		}
	}
	return n
}

// Source says who ran an audit.
type Source string

// The sources of verifications.
const (
	ByJob Source = "job"
	ByCLI Source = "cli"
)

// Finding is the result of one check of the audit.
type Finding = audit.Finding

// Verification is a run of the audit.
type Verification struct {
	ID         int64
	Source     Source
	StartedAt  time.Time
	FinishedAt *time.Time // nil: it has not finished, or never will
	Findings   []audit.Finding
	Broken     int    // findings that must be 0 and are not
	Problem    string // why it did not finish
}

// CountBroken counts the findings that are broken.
func CountBroken(findings []audit.Finding) int {
	n := 0
	for _, f := range findings {
		if f.Broken {
			n++
		}
	}
	return n
}

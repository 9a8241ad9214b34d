package webui

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
)

var (
	anInterval = 4 * time.Second
	aRate      = 6.0
)

// operatorHealth has processes, samples and pauses.
func operatorHealth() operator.Health {
	return operator.Health{
		Now: aTime, Postgres: "ok", Redis: "down", Queue: "paused: messages",
		Processes: []operator.Process{
			{Kind: operator.Worker, Host: "w1", Version: "1.0", Alive: true, StartedAt: aTime.Add(-time.Hour), BeatAt: aTime.Add(-time.Second)},
			{Kind: operator.API, StartedAt: aTime, BeatAt: aTime},
		},
		Current: operator.Sample{Queued: 2, InDoubt: 1, Held: 1, Tasks: &units},
		Samples: []operator.Sample{
			{At: aTime.Add(-24 * time.Hour), Queued: 10, Waiting: 4, Tasks: &units}, {At: aTime.Add(-12 * time.Hour), Queued: 5, InDoubt: 1}, {At: aTime},
		},
		Account: operator.AccountState{
			Account:   operator.Account{Type: "developer", BillingMode: "prepaid", AutoRecharge: true, Credits: "1.50"},
			CheckedAt: &aTime, ReachedAt: &aTime, Problem: "Plivo could not be reached.", CallbackAt: &aTime,
		},
		Pauses:        []mms.Pause{{Cause: mms.ReasonCredit, Detail: "no credit", Since: aTime}, {Cause: mms.ReasonCredentials, Since: aTime}},
		EndedPauses:   []operator.EndedPause{{Pause: mms.Pause{Cause: mms.ReasonCredit, Detail: "no credit", Since: aTime}, EndedAt: aTime}},
		SchemaVersion: 12,
	}
}

var healthData = []any{
	page[healthPage]{layouts.admin, healthPage{}},
	page[healthPage]{layouts.admin, healthPage{
		Health: operatorHealth(), Period: healthPeriods[0], Periods: healthPeriods,
		Chart: newHistoryChart(operatorHealth().Samples, aTime, healthPeriods[0]),
	}},
	page[healthPage]{layouts.admin, healthPage{Health: operator.Health{Queue: "unknown", Account: operator.AccountState{ReachedAt: &aTime}}}},
	page[healthPage]{layouts.admin, healthPage{Health: operator.Health{Queue: "ok"}}},
}

var sendersData = []any{
	page[sendersPage]{layouts.admin, sendersPage{}},
	page[sendersPage]{layouts.admin, sendersPage{
		Inbound: "https://example.com/callbacks/plivo/inbound", Adding: true, Number: "1", Rate: "x", Violations: violationsOf("number", "rate"),
		Senders: []senderView{
			{Sender: operator.Sender{Number: senders[0], InEnvironment: true, OnPage: true}},
			{Sender: operator.Sender{
				Number: senders[1], OnPage: true, Rate: &aRate, Interval: &anInterval, RestingSince: &aTime, Waiting: 1, CountedAt: &aTime,
				AtPlivo: operator.NumberState{Problem: "Plivo could not be reached.", CheckedAt: &aTime, Number: operator.Number{Found: true, Type: "local", Campaign: "C1", Application: true, MessageURL: "https://other.example"}},
			}, RepliesLost: "Replies are lost.", Violations: violationsOf("rate")},
			{Sender: operator.Sender{Number: senders[1], AtPlivo: operator.NumberState{CheckedAt: &aTime, Number: operator.Number{Found: true, MMS: true}}}, RepliesLost: "Replies are lost."},
		},
	}},
}

var settingsData = []any{
	page[settingsPage]{layouts.admin, settingsPage{}},
	page[settingsPage]{layouts.admin, settingsPage{
		Settings:    []operator.Setting{{Name: "A", Value: "1", Set: true}, {Name: "B"}},
		Differences: map[string][]operator.Difference{"A": {{Process: operator.Process{Kind: operator.Worker, Host: "w1"}, Value: "2"}}},
		Workers:     []operator.Process{{Host: "w1", Version: "1.0", Alive: true, Settings: []operator.Setting{{Name: "A", Value: "2", Set: true}, {Name: "B"}}}, {Host: "w2"}},
	}},
}

func someVerifications() []operator.Verification {
	broken := []audit.Finding{{Invariant: "I1", What: "messages", Count: 3}, {Invariant: "I4", What: "messages with missing events", Count: 1, Broken: true}}
	return []operator.Verification{
		{ID: 4, Source: operator.ByCLI, StartedAt: aTime},
		{ID: 3, Source: operator.ByJob, StartedAt: aTime, FinishedAt: &aTime, Problem: "The audit did not finish."},
		{ID: 2, Source: operator.ByJob, StartedAt: aTime, FinishedAt: &aTime, Findings: broken, Broken: 1},
		{ID: 1, Source: operator.ByJob, StartedAt: aTime, FinishedAt: &aTime, Findings: []audit.Finding{{Invariant: "I1", What: "messages", Count: 2}}},
	}
}

var verificationData = []any{
	page[verificationPage]{layouts.admin, verificationPage{}},
	page[verificationPage]{layouts.admin, newVerificationPage(someVerifications())},
	page[verificationPage]{layouts.admin, newVerificationPage(someVerifications()[3:])},
}

func TestFiguresOverTime(t *testing.T) {
	t.Parallel()
	got := newVerificationPage(someVerifications())
	if got.Last == nil || got.Last.ID != 2 {
		t.Errorf("got last result %+v, want that of run 2, the last with findings", got.Last)
	}
	var rows [][]string
	for _, f := range got.Figures {
		rows = append(rows, append([]string{f.What}, f.Counts...))
	}
	if diff := cmp.Diff([][]string{{"messages", "3", "2"}, {"messages with missing events", "1", ""}}, rows); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
}

func TestHistoryChart(t *testing.T) {
	t.Parallel()
	got := newHistoryChart(operatorHealth().Samples, aTime, healthPeriods[0])
	want := historyChart{
		Width: 720, Height: 160,
		Lines: []historyLine{
			{"queued", "0.0,2.0 360.0,81.0 720.0,160.0"}, {"waiting", "0.0,96.8 360.0,160.0 720.0,160.0"}, {"doubt", "0.0,160.0 360.0,144.2 720.0,160.0"},
		},
		Summary: "Open messages of the last 24 hours. The most queued at a time: 10, at 28 Feb 2026, 12:00:00 UTC. The last sample: 0 queued, 0 of them waiting, 0 in doubt. The table below shows the same data.",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("chart (-want +got):\n%s", diff)
	}
	if got := newHistoryChart(nil, aTime, healthPeriods[0]); len(got.Lines) > 0 {
		t.Errorf("without samples: got lines %v", got.Lines)
	}
}

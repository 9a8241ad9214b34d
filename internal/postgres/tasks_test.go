package postgres_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// makeTaskCheckDue makes a message due for a task check.
func makeTaskCheckDue(t *testing.T, store *postgres.Store, m mms.Message) {
	t.Helper()
	if _, err := store.DB().Exec(`UPDATE messages SET task_check_at = now() WHERE id = $1`, m.ID); err != nil {
		t.Fatal(err)
	}
}

func TestTakeForTaskCheckReturnsDueMessagesOnce(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, _, sending := create(t, store, workspace), create(t, store, workspace), create(t, store, workspace)
	makeTaskCheckDue(t, store, m)
	claim(t, store, sending.ID)
	checks, err := store.TakeForTaskCheck(t.Context(), 10, false)
	if err != nil || len(checks) != 1 || checks[0].Task != (mms.Task{MessageID: m.ID, Generation: 1, Priority: mms.Normal}) || checks[0].Wait != 0 {
		t.Errorf("got %+v, %v, want %s alone", checks, err, m.ID)
	}
	if checks, err := store.TakeForTaskCheck(t.Context(), 10, false); err != nil || len(checks) != 0 {
		t.Errorf("second call: got %+v, %v, want none", checks, err)
	}
	if err := store.RecordRequeued(t.Context(), []uuid.UUID{m.ID}); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, read(t, store, m), mms.Queued, "created>queued requeued>queued")
}

// A message that is queued again after a doubt has no task. It is taken before others,
// also when only such messages are.
func TestMessageWithoutTaskIsTakenFirst(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	due, retried := create(t, store, workspace), create(t, store, workspace)
	c, _ := claim(t, store, retried.ID)
	if _, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown}); err != nil {
		t.Fatal(err)
	}
	if ok, err := store.RetryInDoubt(t.Context(), c.AttemptRef); err != nil || !ok {
		t.Fatalf("got %t, %v, want true", ok, err)
	}
	makeTaskCheckDue(t, store, due)
	for _, want := range []int{1, 0} {
		checks, err := store.TakeForTaskCheck(t.Context(), 10, true)
		if err != nil || len(checks) != want || want == 1 && checks[0].Task.MessageID != retried.ID {
			t.Errorf("got %+v, %v, want %d messages without a task", checks, err, want)
		}
	}
}

func TestNextTaskGenerationIncrementsOnce(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	task := mms.Task{MessageID: m.ID, Generation: 1, Priority: mms.Normal}
	if ok, err := store.AdvanceTaskGeneration(t.Context(), task); err != nil || !ok {
		t.Errorf("got %t, %v, want true", ok, err)
	}
	if ok, err := store.AdvanceTaskGeneration(t.Context(), task); err != nil || ok {
		t.Errorf("old generation: got %t, %v, want false", ok, err)
	}
	makeTaskCheckDue(t, store, m)
	if checks, err := store.TakeForTaskCheck(t.Context(), 10, false); err != nil || len(checks) != 1 || checks[0].Task.Generation != 2 {
		t.Errorf("got %+v, %v, want generation 2", checks, err)
	}
}

// exec executes a statement.
func exec(t *testing.T, store *postgres.Store, statement string, args ...any) {
	t.Helper()
	if _, err := store.DB().Exec(statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// withoutProgress reports how many messages without progress an audit finds, and whether
// health checks and task checks find the message.
func withoutProgress(t *testing.T, store *postgres.Store, m mms.Message) (audited int, unhealthy, overtaken bool) {
	t.Helper()
	findings, err := store.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if strings.Contains(f.What, "make no progress") {
			audited = f.Count
		}
	}
	if unhealthy, err = store.WithoutProgress(t.Context()); err != nil {
		t.Fatal(err)
	}
	makeTaskCheckDue(t, store, m)
	checks, err := store.TakeForTaskCheck(t.Context(), 10, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range checks {
		overtaken = overtaken || check.Overtaken
	}
	return audited, unhealthy, overtaken
}

// TestMessagesWithoutProgress has a message wait for an hour that nobody has tried to
// send.
func TestMessagesWithoutProgress(t *testing.T) {
	t.Parallel()
	const (
		otherNow   = "another message is in flight that was created just now"
		otherOld   = "another message is in flight that was created before this one"
		otherQueue = "a message of another priority is in flight"
	)
	tests := map[string]struct {
		other     string
		change    string // of the message $1
		lost      bool   // by audits and health checks
		overtaken bool
	}{
		"overtaken":                              {otherNow, ``, true, true},
		"not overtaken":                          {otherOld, ``, false, false},
		"nothing is sent in its queue":           {otherQueue, ``, true, false},
		"nothing is sent at all":                 {``, ``, true, false},
		"in the backlog":                         {otherNow, `UPDATE messages SET backlog_state = 'waiting' WHERE id = $1`, false, false},
		"released long ago":                      {otherNow, `UPDATE messages SET backlog_state = 'released' WHERE id = $1`, true, true},
		"released just now":                      {otherNow, `UPDATE messages SET backlog_state = 'released', next_attempt_at = now() WHERE id = $1`, false, false},
		"requeued just now":                      {otherNow, `UPDATE messages SET updated_at = now() WHERE id = $1`, false, false},
		"not due":                                {otherNow, `UPDATE messages SET next_attempt_at = now() + interval '1 minute' WHERE id = $1`, false, false},
		"expired":                                {otherNow, `UPDATE messages SET expires_at = now() WHERE id = $1`, false, false},
		"sending is paused":                      {otherNow, `INSERT INTO pauses (cause, detail, probe_at) SELECT 'plivo_credit', '', now() WHERE $1::uuid IS NOT NULL`, false, false},
		"its pair is busy":                       {otherNow, `INSERT INTO messages (id, workspace_id, sender, recipient, text, status) SELECT gen_random_uuid(), workspace_id, sender, recipient, '', 'in_doubt' FROM messages WHERE id = $1`, false, false},
		"its sender is limited and not admitted": {otherNow, `UPDATE rate_limits SET interval_seconds = 1, next_arrival_at = now() + interval '1 minute' WHERE $1::uuid IS NOT NULL`, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			setRateLimit(t, store, 0)
			m := create(t, store, workspace)
			exec(t, store, `UPDATE messages SET created_at = now() - interval '1 hour', updated_at = now() - interval '1 hour', next_attempt_at = now() - interval '1 hour'`)
			if tt.other != "" {
				other := createFor(t, store, workspace, "+14165550777")
				switch tt.other {
				case otherOld:
					exec(t, store, `UPDATE messages SET created_at = now() - interval '2 hours' WHERE id = $1`, other.ID)
				case otherQueue:
					exec(t, store, `UPDATE messages SET priority = 1 WHERE id = $1`, other.ID)
				}
				claim(t, store, other.ID)
			}
			if tt.change != "" {
				exec(t, store, tt.change, m.ID)
			}
			audited, unhealthy, overtaken := withoutProgress(t, store, m)
			// A health check reads little, so it cannot tell that nothing is sent in one queue.
			if wantUnhealthy := tt.lost && tt.other != otherQueue; (audited == 1) != tt.lost || unhealthy != wantUnhealthy || overtaken != tt.overtaken {
				t.Errorf("got %d messages audited, unhealthy %t, overtaken %t, want %t, %t, %t", audited, unhealthy, overtaken, tt.lost, wantUnhealthy, tt.overtaken)
			}
		})
	}
}

// The more tasks a message has had, the later is its next check. A message in the backlog
// is not checked, and one that is known to have no task is checked at once.
func TestRequeuedMessageIsCheckedLaterAndLater(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	for generation, seconds := range map[int]int{1: 10, 4: 160, 100: 810} {
		exec(t, store, `UPDATE messages SET task_generation = $1, task_check_at = now()`, generation)
		if err := store.RecordRequeued(t.Context(), []uuid.UUID{m.ID}); err != nil {
			t.Fatal(err)
		}
		if n := count(t, store, `SELECT count(*) FROM messages WHERE task_check_at = updated_at + $1 * interval '1 second'`, seconds); n != 1 {
			t.Errorf("generation %d: the next check is not in %d seconds", generation, seconds)
		}
	}
	for _, unchanged := range []string{"infinity", "-infinity"} {
		exec(t, store, `UPDATE messages SET task_check_at = $1`, unchanged)
		if err := store.RecordRequeued(t.Context(), []uuid.UUID{m.ID}); err != nil {
			t.Fatal(err)
		}
		if n := count(t, store, `SELECT count(*) FROM messages WHERE task_check_at = $1`, unchanged); n != 1 {
			t.Errorf("the check at %s was changed", unchanged)
		}
	}
}

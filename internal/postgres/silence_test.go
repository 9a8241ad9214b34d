package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

var silencePolicy = mms.SilencePolicy{After: 90 * time.Second, MaxAttempts: 3, ListAfter: 3 * time.Minute}

// silent creates a message in doubt that meets every condition of DOUBT_SILENCE: Plivo
// answered 500 to its attempt 100 s ago, and reported 200 others of the time since, one of
// them after 30 s.
func silent(t *testing.T) (*postgres.Store, mms.Message, mms.AttemptRef) {
	t.Helper()
	store, workspace := newStore(t)
	m, ref := addSilence(t, store, workspace)
	return store, m, ref
}

// addSilence adds the messages of silent.
func addSilence(t *testing.T, store *postgres.Store, workspace uuid.UUID) (mms.Message, mms.AttemptRef) {
	t.Helper()
	if err := store.BeatAPI(t.Context(), uuid.New(), false); err != nil {
		t.Fatal(err)
	}
	m := create(t, store, workspace)
	c, _ := claim(t, store, m.ID)
	v := mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonServerError, HTTPStatus: 500, Detail: "internal server error"}
	if ok, err := store.RecordInDoubt(t.Context(), c.AttemptRef, v); err != nil || !ok {
		t.Fatal(ok, err)
	}
	other := create(t, store, workspace)
	execute(t, store, `UPDATE api_processes SET broken_at = now() - interval '1 hour'`)
	execute(t, store, fmt.Sprintf(`UPDATE attempts SET started_at = now() - interval '101 s', finished_at = now() - interval '100 s' WHERE message_id = '%s'`, m.ID))
	// A second attempt ends each 0.3 s, from 98 s to 38 s ago.
	execute(t, store, fmt.Sprintf(`
INSERT INTO attempts (message_id, ordinal, token, sender, started_at, lease_until, finished_at, outcome, plivo_uuid, first_report_at)
SELECT '%s', 100 + i, 'token-of-an-accepted-attempt-%[1]s-' || i, '+14155550100', ended - interval '0.2 s', ended, ended, 'accepted', 'accepted-' || i,
    ended + CASE WHEN i = 7 THEN interval '30 s' ELSE interval '1 s' END
FROM generate_series(0, 199) i, LATERAL (SELECT now() - interval '98 s' + i * interval '0.3 s' AS ended) e`, other.ID))
	return m, c.AttemptRef
}

func execute(t *testing.T, store *postgres.Store, statement string) {
	t.Helper()
	if _, err := store.DB().Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// evident returns the silences that are evidence.
func evident(t *testing.T, store *postgres.Store, p mms.SilencePolicy) (list []mms.Silence) {
	t.Helper()
	silences, err := store.Silences(t.Context(), p, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range silences {
		if p.Evidence(s) {
			list = append(list, s)
		}
	}
	return list
}

// TestSilenceIsEvidenceOnlyUnderAllConditions takes away one condition after the other.
// The cases with want 1 are at the edge of a condition.
func TestSilenceIsEvidenceOnlyUnderAllConditions(t *testing.T) {
	t.Parallel()
	const (
		attempt = `UPDATE attempts SET %s WHERE outcome = 'unknown'`
		message = `UPDATE messages SET %s WHERE status = 'in_doubt'`
		others  = `UPDATE attempts SET %s WHERE outcome = 'accepted'`
	)
	process := func(beat, broken string) string {
		return fmt.Sprintf(`INSERT INTO api_processes VALUES (gen_random_uuid(), now() - interval '%s', now() - interval '%s')`, beat, broken)
	}
	retry := func(refuted string) string {
		return `INSERT INTO silence_retries (message_id, ordinal, refuted_at) SELECT id, 1, ` + refuted + ` FROM messages WHERE status <> 'in_doubt'`
	}
	tests := map[string]struct {
		change string
		want   int
	}{
		"nothing taken away": {`SELECT`, 1},

		"held":                   {fmt.Sprintf(message, `held = true`), 0},
		"not in doubt any more":  {fmt.Sprintf(message, `status = 'queued', next_attempt_at = now(), task_check_at = now()`), 0},
		"not the newest attempt": {fmt.Sprintf(message, `attempts = 2`), 0},
		"the outcome is known":   {fmt.Sprintf(attempt, `outcome = 'transient_failure'`), 0},
		"503":                    {fmt.Sprintf(attempt, `http_status = 503`), 1},
		"502":                    {fmt.Sprintf(attempt, `http_status = 502`), 0},
		"504":                    {fmt.Sprintf(attempt, `http_status = 504`), 0},
		"no answer":              {fmt.Sprintf(attempt, `http_status = NULL`), 0},
		"an answer cut off":      {fmt.Sprintf(message, `reason = 'malformed_response'`), 0},
		"a lost worker":          {fmt.Sprintf(message, `reason = 'worker_lost'`), 0},
		"too early":              {fmt.Sprintf(attempt, `finished_at = now() - interval '89 s'`), 0},
		"too old":                {fmt.Sprintf(attempt, `started_at = now() - interval '1 h', finished_at = now() - interval '16 min'`), 0},
		"expired":                {fmt.Sprintf(message, `expires_at = now()`), 0},
		"used for it before":     {`INSERT INTO silence_retries SELECT id, 1 FROM messages WHERE status = 'in_doubt'`, 0},
		"no attempts left": {`INSERT INTO attempts (message_id, ordinal, token, sender, lease_until, finished_at, outcome, http_status)
			SELECT id, i, 'token-of-an-earlier-attempt-of-the-message-' || i, sender, now(), now(), CASE WHEN i = 2 THEN 'unknown' ELSE 'transient_failure' END, 429
			FROM messages, generate_series(2, 3) i WHERE status = 'in_doubt'`, 0},

		"a slow report in time":  {`UPDATE attempts SET first_report_at = finished_at + interval '33 s' WHERE plivo_uuid = 'accepted-99'`, 1},
		"a report too slow":      {`UPDATE attempts SET first_report_at = finished_at + interval '34 s' WHERE plivo_uuid = 'accepted-99'`, 0},
		"a young one, too slow":  {`UPDATE attempts SET finished_at = now() - interval '35 s', started_at = now() - interval '36 s', first_report_at = now() WHERE plivo_uuid = 'accepted-199'`, 0},
		"one not reported":       {`UPDATE attempts SET first_report_at = NULL WHERE plivo_uuid = 'accepted-99'`, 1},
		"two not reported":       {`UPDATE attempts SET first_report_at = NULL WHERE plivo_uuid IN ('accepted-99', 'accepted-98')`, 0},
		"two young unreported":   {`UPDATE attempts SET first_report_at = NULL, finished_at = now() - interval '20 s' WHERE plivo_uuid IN ('accepted-99', 'accepted-98')`, 1},
		"50 accepted":            {`DELETE FROM attempts WHERE outcome = 'accepted' AND ordinal >= 150`, 1},
		"49 accepted":            {`DELETE FROM attempts WHERE outcome = 'accepted' AND ordinal >= 149`, 0},
		"49 accepted, 151 other": {`UPDATE attempts SET outcome = 'permanent_failure' WHERE outcome = 'accepted' AND ordinal >= 149`, 0},
		"other failures":         {`UPDATE attempts SET outcome = 'unknown', plivo_uuid = NULL, first_report_at = NULL WHERE outcome = 'accepted' AND ordinal >= 200`, 1},
		"accepted too lately":    {fmt.Sprintf(others, `finished_at = now() - interval '30 s', first_report_at = now() - interval '29 s'`), 0},
		"accepted before":        {fmt.Sprintf(others, `started_at = now() - interval '103 s'`), 0},

		"no process":                       {`DELETE FROM api_processes`, 0},
		"a process without a heartbeat":    {`UPDATE api_processes SET beat_at = now() - interval '11 s'`, 0},
		"a missed callback":                {`UPDATE api_processes SET broken_at = now() - interval '50 s'`, 0},
		"a missed callback before":         {`UPDATE api_processes SET broken_at = now() - interval '102 s'`, 1},
		"one of two missed a callback":     {process("1 s", "1 s"), 0},
		"one of two stopped in the window": {process("50 s", "1 h"), 0},
		"one of two stopped just before":   {process("9 min", "1 h"), 0},
		"one of two stopped long before":   {process("12 min", "1 h"), 1},

		"used for another message": {retry(`NULL`), 1},
		"wrong an hour ago":        {retry(`now() - interval '1 h'`), 0},
		"wrong 25 hours ago":       {retry(`now() - interval '25 h'`), 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, _, _ := silent(t)
			execute(t, store, tt.change)
			if got := evident(t, store, silencePolicy); len(got) != tt.want {
				all, err := store.Silences(t.Context(), silencePolicy, 10)
				t.Errorf("got evidence %+v of silences %+v, %v, want %d", got, all, err, tt.want)
			}
		})
	}
	t.Run("a longer DOUBT_SILENCE", func(t *testing.T) {
		t.Parallel()
		store, _, _ := silent(t)
		for after, want := range map[time.Duration]int{0: 0, 2 * time.Minute: 0, 99 * time.Second: 1} {
			policy := silencePolicy
			policy.After = after
			if got := evident(t, store, policy); len(got) != want {
				t.Errorf("DOUBT_SILENCE=%s: got evidence %+v, want %d", after, got, want)
			}
		}
	})
}

// TestSilentMessageIsQueuedAgainOnce applies the rule, and puts the message in doubt a
// second time.
func TestSilentMessageIsQueuedAgainOnce(t *testing.T) {
	t.Parallel()
	store, m, ref := silent(t)
	found := evident(t, store, silencePolicy)
	if len(found) != 1 || found[0].AttemptRef != ref {
		t.Fatalf("got evidence %+v, want one about %v", found, ref)
	}
	for _, want := range []bool{true, false} {
		if ok, err := store.RetrySilent(t.Context(), found[0], silencePolicy); err != nil || ok != want {
			t.Fatalf("RetrySilent: got %t, %v, want %t", ok, err, want)
		}
	}
	h := read(t, store, m)
	wantEvents(t, h, mms.Queued, beforeDoubt+"no_report>queued")
	if detail := h.Events[3].Description(); h.Reason != mms.ReasonNotReported ||
		!strings.HasPrefix(detail, "Plivo answered 500 at ") || !strings.Contains(detail, "sent no report for 10") ||
		!strings.HasSuffix(detail, "while it reported 200 of 200 other messages, the slowest after 30 s.") {
		t.Errorf("got reason %s and event %q, want them to name the evidence", h.Reason, detail)
	}
	if n := count(t, store, `SELECT count(*) FROM attempts WHERE message_id = $1 AND outcome = 'unknown' AND next_check_at = finished_at + interval '3 min'`, m.ID); n != 1 {
		t.Error("the silent attempt is not left for Plivo's list after DOUBT_WAIT")
	}

	second, _ := claim(t, store, m.ID)
	if second.UnknownOutcomes != 1 || second.Ordinal != 2 {
		t.Errorf("got claim %+v, want the second with one unknown outcome before", second)
	}
	if _, err := store.RecordInDoubt(t.Context(), second.AttemptRef, mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonServerError, HTTPStatus: 500}); err != nil {
		t.Fatal(err)
	}
	execute(t, store, `UPDATE attempts SET started_at = now() - interval '101 s', finished_at = now() - interval '100 s' WHERE ordinal = 2`)
	if got := evident(t, store, silencePolicy); len(got) != 0 {
		t.Errorf("second doubt: got evidence %+v, want none", got)
	}
	doubts, err := store.InDoubt(t.Context(), 10)
	if err != nil || len(doubts) != 2 || !doubts[0].Superseded() || doubts[1].Superseded() || doubts[1].AttemptRef != second.AttemptRef {
		t.Errorf("got doubts %+v, %v, want the first attempt as superseded, and the second", doubts, err)
	}
}

// TestRefutedSilence shows after a resend, or before it, that Plivo had accepted the
// silent attempt.
func TestRefutedSilence(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		resent bool
		refute func(*postgres.Store, mms.AttemptRef) error
		twice  int // messages that Plivo accepted twice
	}{
		"by a report": {true, func(s *postgres.Store, ref mms.AttemptRef) error {
			_, err := s.RecordSubmitted(t.Context(), ref, mms.Verdict{PlivoUUID: "u-1"}, mms.EventSubmitted)
			return err
		}, 1},
		"by Plivo's list": {true, func(s *postgres.Store, ref mms.AttemptRef) error {
			_, err := s.AdoptListed(t.Context(), ref, mms.Listed{PlivoUUID: "u-1", State: "delivered"})
			return err
		}, 1},
		"before the resend": {false, func(s *postgres.Store, ref mms.AttemptRef) error {
			_, err := s.RecordSubmitted(t.Context(), ref, mms.Verdict{PlivoUUID: "u-1"}, mms.EventSubmitted)
			return err
		}, 0},
		"while it was queued again": {true, func(s *postgres.Store, ref mms.AttemptRef) error {
			if _, err := s.RecordSubmitted(t.Context(), ref, mms.Verdict{PlivoUUID: "u-1"}, mms.EventSubmitted); err != nil {
				return err
			}
			execute(t, s, `UPDATE silence_retries SET refuted_at = NULL`) // as if the statement had not seen the row
			return s.RefuteMissed(t.Context())
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, m, ref := silent(t)
			found := evident(t, store, silencePolicy)
			if ok, err := store.RetrySilent(t.Context(), found[0], silencePolicy); err != nil || !ok {
				t.Fatal(ok, err)
			}
			if off, err := store.SilenceOff(t.Context()); err != nil || off != 0 {
				t.Fatalf("SilenceOff: got %s, %v, want 0", off, err)
			}
			if tt.resent {
				second, _ := claim(t, store, m.ID)
				if ok, err := adopt(t.Context(), store, second.AttemptRef, "u-2"); err != nil || !ok {
					t.Fatal(ok, err)
				}
			}
			if err := tt.refute(store, ref); err != nil {
				t.Fatal(err)
			}
			execute(t, store, `DELETE FROM attempts WHERE plivo_uuid LIKE 'accepted-%'`) // all of one message
			if off, err := store.SilenceOff(t.Context()); err != nil || off < 23*time.Hour || off > 24*time.Hour {
				t.Errorf("SilenceOff: got %s, %v, want a day", off, err)
			}
			if n, err := store.SilencesRefuted(t.Context()); err != nil || n != 1 {
				t.Errorf("SilencesRefuted: got %d, %v, want 1", n, err)
			}
			for what, want := range map[string]int{
				"messages queued again by DOUBT_SILENCE":                            1,
				"messages queued again by DOUBT_SILENCE that Plivo had accepted":    1,
				"messages accepted more than once because of DOUBT_SILENCE":         tt.twice,
				"messages accepted more than once without a resend in their events": 0,
			} {
				if got := finding(t, store, what); got != want {
					t.Errorf("%s: got %d, want %d", what, got, want)
				}
			}
		})
	}
}

// finding returns the count of a check.
func finding(t *testing.T, store *postgres.Store, what string) int {
	t.Helper()
	findings, err := store.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.What == what {
			return f.Count
		}
	}
	t.Fatalf("there is no check %q", what)
	return 0
}

// TestSilencesOfRandomWindows compares the measurement with a simple count, for random
// attempts and several candidates with windows of their own.
func TestSilencesOfRandomWindows(t *testing.T) {
	t.Parallel()
	type attempt struct{ started, ended, reported float64 } // seconds ago; reported < 0: not
	random := rand.New(rand.NewPCG(16, 7))
	for round := range 8 {
		store, workspace := newStore(t)
		if err := store.BeatAPI(t.Context(), uuid.New(), false); err != nil {
			t.Fatal(err)
		}
		holder := create(t, store, workspace)
		execute(t, store, `UPDATE api_processes SET broken_at = now() - interval '1 hour'`)
		var now time.Time // a whole second, so that both count in the same ones
		if err := store.DB().QueryRow(`SELECT date_trunc('second', now())`).Scan(&now); err != nil {
			t.Fatal(err)
		}
		at := func(ago float64) string {
			return fmt.Sprintf("'%s'", now.Add(-time.Duration(ago*float64(time.Second))).Format(time.RFC3339Nano))
		}
		var others []attempt
		for i := range 300 {
			a := attempt{started: random.Float64() * 300, reported: -1}
			a.ended = max(0.01, a.started-random.Float64()*3)
			reported := "NULL"
			if random.IntN(100) > 0 {
				a.reported = max(0, a.ended-random.Float64()*[]float64{2, 40}[round%2])
				reported = at(a.reported)
			}
			others = append(others, a)
			execute(t, store, fmt.Sprintf(`
INSERT INTO attempts (message_id, ordinal, token, sender, started_at, lease_until, finished_at, outcome, plivo_uuid, first_report_at)
VALUES ('%s', %d, 'token-of-an-accepted-attempt-number-%[2]d', '+14155550100', %s, now(), %[4]s, 'accepted', '%[2]d', %[5]s)`, holder.ID, i+1, at(a.started), at(a.ended), reported))
		}
		candidates := map[uuid.UUID]attempt{}
		for range 5 {
			m := create(t, store, workspace)
			c, _ := claim(t, store, m.ID)
			if _, err := store.RecordInDoubt(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonServerError, HTTPStatus: 500}); err != nil {
				t.Fatal(err)
			}
			a := attempt{started: 92 + random.Float64()*200}
			a.ended = a.started - random.Float64()
			candidates[m.ID] = a
			execute(t, store, fmt.Sprintf(`UPDATE attempts SET started_at = %s, finished_at = %s WHERE message_id = '%s'`, at(a.started), at(a.ended), m.ID))
		}
		silences, err := store.Silences(t.Context(), silencePolicy, 10)
		if err != nil || len(silences) != len(candidates) {
			t.Fatalf("got silences %+v, %v, want %d", silences, err, len(candidates))
		}
		for _, s := range silences {
			c := candidates[s.MessageID]
			elapsed := s.Lasted.Seconds() - c.ended // since now
			var accepted, reported int
			var slowest float64
			for _, o := range others {
				if secondsAgo(o.started) > secondsAgo(c.started) {
					continue // started in an earlier second
				}
				if o.reported >= 0 {
					slowest = max(slowest, o.ended-o.reported)
				}
				if float64(secondsAgo(o.ended)-1)+elapsed >= s.Lasted.Seconds()/mms.SilenceFactor {
					accepted++
					if o.reported >= 0 {
						reported++
					}
				}
			}
			if s.Accepted != accepted || s.Reported != reported || (s.Slowest-time.Duration(slowest*float64(time.Second))).Abs() > time.Millisecond {
				t.Errorf("round %d, candidate %+v: got %+v, want %d accepted, %d reported, the slowest after %.3f s", round, c, s, accepted, reported, slowest)
			}
		}
	}
}

// secondsAgo numbers the second that contains a time, backwards from a whole second.
func secondsAgo(ago float64) int {
	n := int(ago)
	if float64(n) < ago {
		n++
	}
	return n
}

// TestSilencesReadOnlyTheirWindow has a large table of attempts, and a plan made for it.
func TestSilencesReadOnlyTheirWindow(t *testing.T) {
	t.Parallel()
	store, workspace := newStoreForLargeTables(t)
	addSilence(t, store, workspace)
	execute(t, store, fmt.Sprintf(`
WITH m AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, plivo_uuid, final_at, attempts)
    SELECT lpad(to_hex(i), 32, '0')::uuid, '%s', '+14155550100', '+14155550101', '', 'delivered', 'old-' || i, now(), 1 FROM generate_series(1, 20000) i
    RETURNING id, plivo_uuid
)
INSERT INTO attempts (message_id, ordinal, token, sender, started_at, lease_until, finished_at, outcome, plivo_uuid, first_report_at)
SELECT id, 1, 'token-of-message-' || id, '+14155550100', at, at, at, 'accepted', plivo_uuid, at
FROM m, LATERAL (SELECT now() - interval '2 d' + substr(plivo_uuid, 5)::int * interval '1 s' AS at) t`, workspace))
	execute(t, store, `VACUUM ANALYZE`)
	args := fmt.Sprintf("90, 900, 3, 86400, 500, 10, 600, 300000, %d", mms.SilenceFactor)
	if plan := genericPlan(t, store, postgres.SilencesStatement, args); strings.Contains(plan, "Seq Scan on attempts") || strings.Contains(plan, "Seq Scan on messages") {
		t.Errorf("got a scan of a whole table, want indexes:\n%s", plan)
	}
}

// TestReportTimes measures what verify says.
func TestReportTimes(t *testing.T) {
	t.Parallel()
	store, _, _ := silent(t)
	got, err := store.ReportTimes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Accepted == 0 || got.Accepted != got.Reported || got.Slowest.Round(time.Second) != 30*time.Second || got.P99 < time.Second || got.P99 > got.Slowest ||
		got.Processes != 1 || got.Unbroken.Round(time.Minute) != time.Hour || got.OffFor != 0 {
		t.Errorf("got %+v, want every attempt reported, the slowest after 30 s, and one process unbroken for an hour", got)
	}
	execute(t, store, `DELETE FROM api_processes; DELETE FROM attempts`)
	if got, err := store.ReportTimes(t.Context()); err != nil || got != (mms.ReportTimes{}) {
		t.Errorf("empty: got %+v, %v, want zeros", got, err)
	}
}

// TestRetrySilentLooksAtCallbacksAgain: between the measurement and the retry of the last
// of many silences, seconds pass.
func TestRetrySilentLooksAtCallbacksAgain(t *testing.T) {
	t.Parallel()
	store, _, _ := silent(t)
	silences := evident(t, store, silencePolicy)
	if len(silences) != 1 {
		t.Fatalf("got %+v, want one silence", silences)
	}
	execute(t, store, `UPDATE api_processes SET broken_at = now()`)
	if changed, err := store.RetrySilent(t.Context(), silences[0], silencePolicy); err != nil || changed {
		t.Errorf("after a missed callback: got %t, %v, want false", changed, err)
	}
	execute(t, store, `UPDATE api_processes SET broken_at = now() - interval '1 hour'`)
	if changed, err := store.RetrySilent(t.Context(), silences[0], silencePolicy); err != nil || !changed {
		t.Errorf("unbroken: got %t, %v, want true", changed, err)
	}
}

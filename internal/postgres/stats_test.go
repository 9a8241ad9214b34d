package postgres_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestOverview(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	eve := addUser(t, store, "eve@example.com")
	_, ref := submitted(t, store, ada)
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "delivered"}, true)
	rejected := create(t, store, ada)
	c, _ := claim(t, store, rejected.ID)
	if _, err := store.RecordPermanentFailure(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.PermanentFailure}, mms.ReasonRejected); err != nil {
		t.Fatal(err)
	}
	create(t, store, eve)
	old := create(t, store, ada)
	monthAgo := time.Now().AddDate(0, 0, -30)
	id := uuid.UUID{6: 0x70, 8: 0x80}
	for i, ms := 5, monthAgo.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
		id[i] = byte(ms)
	}
	for _, statement := range []string{
		`ALTER TABLE message_media DISABLE TRIGGER ALL`, `ALTER TABLE message_events DISABLE TRIGGER ALL`, `ALTER TABLE messages DISABLE TRIGGER ALL`,
	} {
		if _, err := store.DB().Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.DB().Exec(`UPDATE messages SET id = $2, created_at = $3 WHERE id = $1`, old.ID, id, monthAgo); err != nil {
		t.Fatal(err)
	}

	got, err := store.Overview(t.Context(), ada, 7)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Days) != 7 || got.Days[6].Total() != 2 || got.Days[0].Total() != 0 || !got.Days[6].Date.After(got.Days[5].Date) {
		t.Errorf("got days %+v, want 7, today with 2 messages", got.Days)
	}
	if diff := cmp.Diff(map[mms.Status]int{mms.Delivered: 1, mms.Failed: 1}, got.Totals); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]mms.ReasonCount{{Reason: mms.ReasonRejected, Messages: 1}}, got.Reasons); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	var order []mms.Status
	for _, median := range got.Medians {
		order = append(order, median.Status)
		if median.Took < 0 || median.Took > time.Minute || median.Messages < 1 {
			t.Errorf("got median %+v, want under a minute", median)
		}
	}
	if diff := cmp.Diff([]mms.Status{mms.Sending, mms.Submitted, mms.Delivered, mms.Failed}, order); diff != "" {
		t.Errorf("statuses with medians (-want +got):\n%s", diff)
	}
	if rate, ok := got.Rate(); !ok || rate != 50 {
		t.Errorf("Rate() = %v, %v, want 50", rate, ok)
	}
	if all, err := store.Overview(t.Context(), uuid.Nil, 31); err != nil || all.Total() != 4 || len(all.Days) != 31 || all.Totals[mms.Queued] != 2 {
		t.Errorf("everyone: got totals %+v, %v, want 4 messages in 31 days", all.Totals, err)
	}
	if none, err := store.Overview(t.Context(), uuid.New(), 7); err != nil || none.Total() != 0 || len(none.Days) != 7 {
		t.Errorf("user without messages: got %+v, %v, want 7 empty days", none, err)
	}
}

// statsFixture stores messages of past days and rolls them up.
type statsFixture struct {
	t     *testing.T
	store *postgres.Store
}

func (f statsFixture) exec(statement string, args ...any) {
	f.t.Helper()
	if _, err := f.store.DB().Exec(statement, args...); err != nil {
		f.t.Fatal(err)
	}
}

// add adds a message and returns its id. A failed message needs a reason.
func (f statsFixture) add(workspace uuid.UUID, daysAgo int, status, reason string) uuid.UUID {
	f.t.Helper()
	return f.addAt(workspace, time.Now().AddDate(0, 0, -daysAgo), status, reason)
}

func (f statsFixture) addAt(workspace uuid.UUID, at time.Time, status, reason string) uuid.UUID {
	f.t.Helper()
	return f.addSkewed(workspace, at, 0, status, reason)
}

// addSkewed adds a message whose id comes from a clock that is ahead of the database's.
func (f statsFixture) addSkewed(workspace uuid.UUID, at time.Time, ahead time.Duration, status, reason string) uuid.UUID {
	f.t.Helper()
	id := uuid.Must(uuid.NewV7())
	for i, ms := 5, at.Add(ahead).UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
		id[i] = byte(ms)
	}
	f.exec(`INSERT INTO messages (id, workspace_id, sender, recipient, text, status, reason, plivo_uuid, final_at, next_attempt_at, task_check_at, created_at)
		VALUES ($1::uuid, $2, '+14155550100', $6, '', $3, $4, CASE WHEN $3 = 'delivered' THEN $1::text END,
			CASE WHEN $3 <> 'queued' THEN $5::timestamptz END, CASE WHEN $3 = 'queued' THEN $5 END, CASE WHEN $3 = 'queued' THEN 'infinity'::timestamptz END, $5)`,
		id, workspace, status, reason, at, fmt.Sprintf("+1415556%04d", lastRecipient.Add(1)%10000))
	return id
}

// openTransaction begins a transaction that has written something: hours that are
// planned later are not rolled up before it ends.
func (f statsFixture) openTransaction() *sql.Tx {
	f.t.Helper()
	tx, err := f.store.DB().Begin()
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = tx.Rollback() })
	if _, err := tx.Exec(`UPDATE users SET email = email`); err != nil {
		f.t.Fatal(err)
	}
	return tx
}

// rollUp rolls up until nothing is planned any more: transactions in other databases of
// the server may delay it for a moment.
func (f statsFixture) rollUp() {
	f.t.Helper()
	testkit.Eventually(f.t, "all planned hours are rolled up", func() bool {
		if err := f.store.RollUpStats(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
		return count(f.t, f.store, `SELECT count(*) FROM stats_days WHERE counted_until < planned_until`) == 0
	})
}

// wantTotals compares the totals of the last 7 days.
func (f statsFixture) wantTotals(when string, workspace uuid.UUID, want map[mms.Status]int) {
	f.t.Helper()
	o, err := f.store.Overview(f.t.Context(), workspace, 7)
	if err != nil {
		f.t.Fatal(err)
	}
	if diff := cmp.Diff(want, o.Totals); diff != "" {
		f.t.Errorf("%s: totals (-want +got):\n%s", when, diff)
	}
}

// deliver changes a failed message to delivered.
const deliver = `UPDATE messages SET status = 'delivered', reason = '', plivo_uuid = 'late' WHERE id = $1`

func TestPastDaysComeFromTotals(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	eve := addUser(t, store, "eve@example.com")
	f := statsFixture{t, store}
	f.add(ada, 0, "delivered", "")
	f.add(ada, 1, "delivered", "")
	f.add(ada, 1, "failed", "expired")
	failed := f.add(ada, 2, "failed", "expired")
	f.add(eve, 2, "delivered", "")
	f.add(ada, 6, "delivered", "")
	f.add(ada, 7, "delivered", "")
	check := func(when string, wantDelivered, wantFailed, wantEveryone int) {
		t.Helper()
		o, err := store.Overview(t.Context(), ada, 7)
		if err != nil || o.Totals[mms.Delivered] != wantDelivered || o.Totals[mms.Failed] != wantFailed || len(o.Days) != 7 {
			t.Errorf("%s: got %+v, %v, want %d delivered and %d failed", when, o.Totals, err, wantDelivered, wantFailed)
		}
		if diff := cmp.Diff([]mms.ReasonCount{{Reason: mms.ReasonExpired, Messages: wantFailed}}, o.Reasons); diff != "" {
			t.Errorf("%s: reasons (-want +got):\n%s", when, diff)
		}
		all, err := store.Overview(t.Context(), uuid.Nil, 7)
		if err != nil || all.Total() != wantEveryone {
			t.Errorf("%s: everyone: got %+v, %v, want %d messages", when, all.Totals, err, wantEveryone)
		}
	}

	check("before the rollup", 3, 2, 6)
	f.rollUp()
	check("after the rollup", 3, 2, 6)
	f.exec(`UPDATE stats_totals SET messages = messages + 10`)
	check("with changed totals", 23, 22, 56) // 10 more for each row of stats_totals

	f.exec(deliver, failed)
	check("after a late report", 24, 21, 56)
	f.rollUp()
	check("after the next rollup", 24, 21, 56)
	if n := count(t, store, `SELECT count(*) FROM stats_changes`); n != 0 {
		t.Errorf("got %d changes left, want 0", n)
	}
	f.exec(`INSERT INTO stats_totals VALUES ($1, now() - interval '101 days', 'failed', '', '', 1)`, ada)
	f.rollUp()
	if n := count(t, store, `SELECT count(*) FROM stats_totals WHERE day < now() - interval '100 days'`); n != 0 {
		t.Errorf("got %d totals older than 100 days, want 0", n)
	}
}

// TestRollupWaitsForOlderTransactions changes a message in a transaction that begins
// before its day is planned and ends long after. The trigger records nothing for such a
// change if it happens within the message's own hour.
func TestRollupWaitsForOlderTransactions(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	f := statsFixture{t, store}
	id := f.add(ada, 1, "failed", "expired")
	f.exec(`ALTER TABLE messages DISABLE TRIGGER messages_stats_change`) // as within the hour
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(deliver, id); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := store.RollUpStats(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.wantTotals("before the change is committed", ada, map[mms.Status]int{mms.Failed: 1})
	if n := count(t, store, `SELECT count(*) FROM stats_days WHERE counted_until > day::timestamp AT TIME ZONE 'UTC'`); n != 0 {
		t.Errorf("got %d days rolled up before the change was committed, want 0", n)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	f.rollUp()
	f.wantTotals("after the change", ada, map[mms.Status]int{mms.Delivered: 1})
}

// TestChangesDuringRollup commits changes of a message, and starts a second rollup of the
// same day, between the count and the commit of a rollup.
func TestChangesDuringRollup(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	f := statsFixture{t, store}
	id := f.add(ada, 1, "failed", "expired")
	f.rollUp()
	f.exec(`UPDATE stats_days SET counted_until = day::timestamp AT TIME ZONE 'UTC'`)
	f.exec(`DELETE FROM stats_totals`)
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`LOCK TABLE stats_totals IN SHARE MODE`); err != nil { // blocks a rollup after its count
		t.Fatal(err)
	}
	first, second := make(chan error, 1), make(chan error, 1)
	for i, done := range []chan error{first, second} {
		go func() { done <- store.RollUpStats(t.Context()) }()
		testkit.Eventually(t, "the rollup is blocked", func() bool {
			return count(t, store, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == i+1
		})
		f.exec(deliver, id)
		f.exec(`UPDATE messages SET status = 'failed', reason = 'expired' WHERE id = $1`, id)
	}
	f.exec(deliver, id)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	t.Log(<-first, <-second) // one of them may fail with a conflict
	f.wantTotals("after both rollups", ada, map[mms.Status]int{mms.Delivered: 1})
	f.rollUp()
	f.wantTotals("after the next rollup", ada, map[mms.Status]int{mms.Delivered: 1})
	if n := count(t, store, `SELECT count(*) FROM stats_changes`); n != 0 {
		t.Errorf("got %d changes left, want 0", n)
	}
}

// TestDayIsRolledUpInParts rolls up a day in two parts while messages of both change.
func TestDayIsRolledUpInParts(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	f := statsFixture{t, store}
	day := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	early := f.addAt(ada, day.Add(9*time.Hour+59*time.Minute), "failed", "expired")
	f.addAt(ada, day.Add(time.Minute), "delivered", "")
	f.rollUp()
	if n := count(t, store, `SELECT sum(messages) FROM stats_totals WHERE workspace_id = $1`, ada); n != 2 {
		t.Fatalf("got %d messages in the totals, want 2", n)
	}
	f.exec(`UPDATE stats_days SET counted_until = $1::timestamptz WHERE day = ($1 AT TIME ZONE 'UTC')::date`, day.Add(10*time.Hour)) // the state at 10:00
	afternoon := f.addAt(ada, day.Add(10*time.Hour), "failed", "expired")
	f.wantTotals("at first", ada, map[mms.Status]int{mms.Delivered: 1, mms.Failed: 2})
	f.exec(deliver, early)
	f.exec(`UPDATE messages SET status = 'delivered', reason = '', plivo_uuid = 'later' WHERE id = $1`, afternoon)
	f.wantTotals("after changes", ada, map[mms.Status]int{mms.Delivered: 3})

	older := f.openTransaction()
	f.exec(`UPDATE stats_days SET planned_by = pg_current_xact_id()`)
	if err := store.RollUpStats(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.wantTotals("after moving the changes of the first part", ada, map[mms.Status]int{mms.Delivered: 3})
	if n := count(t, store, `SELECT count(*) FROM stats_changes`); n != 2 {
		t.Errorf("got %d changes left, want the 2 of the second part", n)
	}
	if err := older.Rollback(); err != nil {
		t.Fatal(err)
	}

	f.exec(`UPDATE messages SET status = 'failed', reason = 'expired' WHERE id = $1`, early)
	f.rollUp()
	f.wantTotals("after the second part", ada, map[mms.Status]int{mms.Delivered: 2, mms.Failed: 1})
	f.wantTotals("everyone", uuid.Nil, map[mms.Status]int{mms.Delivered: 2, mms.Failed: 1})
	if n := count(t, store, `SELECT count(*) FROM stats_changes`); n != 0 {
		t.Errorf("got %d changes left, want 0", n)
	}
	if n := count(t, store, `SELECT sum(messages) FROM stats_totals WHERE workspace_id = $1`, ada); n != 3 {
		t.Errorf("got %d messages in the totals, want 3", n)
	}
}

// TestPlanIgnoresYoungerTransactions checks that a transaction that began after a part was
// planned does not delay it, although more hours could be planned meanwhile.
func TestPlanIgnoresYoungerTransactions(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	f := statsFixture{t, store}
	day := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	f.addAt(ada, day.Add(time.Hour), "delivered", "")
	f.rollUp()
	f.exec(`DELETE FROM stats_totals`)
	f.exec(`UPDATE stats_days SET counted_until = $1, planned_until = $2 WHERE day = ($1::timestamptz AT TIME ZONE 'UTC')::date`, day, day.Add(10*time.Hour))
	younger := f.openTransaction()
	testkit.Eventually(t, "the part is rolled up", func() bool { // transactions in other databases may delay it
		if err := store.RollUpStats(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := younger.Exec(`SELECT`); err != nil { // still open
			t.Fatal(err)
		}
		return count(t, store, `SELECT count(*) FROM stats_totals WHERE workspace_id = $1`, ada) == 1
	})
}

// TestManyChangesAreAddedInBatches checks that the number of changes cannot make a
// statement run into its timeout.
func TestManyChangesAreAddedInBatches(t *testing.T) {
	t.Parallel()
	const changes = 50_000
	store, ada := newStore(t)
	f := statsFixture{t, store}
	f.rollUp()
	f.exec(`INSERT INTO stats_changes (workspace_id, day, hour, status, reason, plivo_code, messages)
		SELECT $1::uuid, day, day::timestamp AT TIME ZONE 'UTC', 'delivered', '', '', 1
		FROM (SELECT (now() AT TIME ZONE 'UTC')::date - 1 AS day) d, generate_series(1, $2::int)`, ada, changes)
	if err := store.RollUpStats(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, store, `SELECT count(*) FROM stats_changes`); n != 0 {
		t.Errorf("got %d changes left, want 0", n)
	}
	f.wantTotals("after the rollup", ada, map[mms.Status]int{mms.Delivered: changes})
}

func TestHoursOfTodayAreRolledUp(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	f := statsFixture{t, store}
	hour := time.Now().Add(-10 * time.Minute).Truncate(time.Hour) // the first that is not rolled up
	failed := f.addAt(ada, hour.Add(-time.Second), "failed", "expired")
	f.addAt(ada, hour, "delivered", "")
	f.rollUp()
	f.wantTotals("after the rollup", ada, map[mms.Status]int{mms.Delivered: 1, mms.Failed: 1})
	f.exec(`UPDATE stats_totals SET messages = messages + 10`)
	f.wantTotals("with changed totals", ada, map[mms.Status]int{mms.Delivered: 1, mms.Failed: 11})
	f.exec(deliver, failed)
	f.wantTotals("after a late report", ada, map[mms.Status]int{mms.Delivered: 2, mms.Failed: 10})
	f.rollUp()
	f.wantTotals("after the next rollup", ada, map[mms.Status]int{mms.Delivered: 2, mms.Failed: 10})
	f.exec(`DELETE FROM stats_days`) // as an operator does to count again
	f.wantTotals("before counting again", ada, map[mms.Status]int{mms.Delivered: 2})
	f.rollUp()
	f.wantTotals("after counting again", ada, map[mms.Status]int{mms.Delivered: 2})
}

// TestSkewedIDs adds messages whose ids are hours off: the totals go by created_at.
func TestSkewedIDs(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	f := statsFixture{t, store}
	hour := time.Now().Add(-10 * time.Minute).Truncate(time.Hour)
	f.addSkewed(ada, hour.Add(-time.Minute), 3*time.Hour, "delivered", "")
	f.addSkewed(ada, hour.Add(-26*time.Hour), -3*time.Hour, "delivered", "")
	f.rollUp()
	f.wantTotals("after the rollup", ada, map[mms.Status]int{mms.Delivered: 2})
}

// TestOverviewIsConsistentDuringRollup changes messages of past hours while they are
// rolled up. No overview may miss a message or count it twice.
func TestOverviewIsConsistentDuringRollup(t *testing.T) {
	t.Parallel()
	const messages, changes, workers = 40, 60, 3
	store, ada := newStore(t)
	f := statsFixture{t, store}
	reasons := []string{"expired", "forbidden", "attempts_exhausted"}
	var ids []uuid.UUID
	for i := range messages {
		ids = append(ids, f.addAt(ada, time.Now().Add(-time.Duration(i)*20*time.Minute), "failed", reasons[0]))
	}
	var group errgroup.Group
	for range workers {
		group.Go(func() error {
			for range changes {
				id, reason := ids[rand.IntN(messages)], reasons[rand.IntN(len(reasons))]
				if _, err := store.DB().Exec(`UPDATE messages SET reason = $2 WHERE id = $1`, id, reason); err != nil {
					return err
				}
			}
			return nil
		})
	}
	finished := make(chan error, 1)
	go func() { finished <- group.Wait() }()
	for done := false; !done; {
		select {
		case err := <-finished:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
		if err := store.RollUpStats(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.wantTotals("meanwhile", ada, map[mms.Status]int{mms.Failed: messages})
	}
	f.rollUp()
	want := map[mms.Reason]int{}
	for _, reason := range reasons {
		want[mms.Reason(reason)] = count(t, store, `SELECT count(*) FROM messages WHERE reason = $1`, reason)
	}
	o, err := store.Overview(t.Context(), ada, 7)
	if err != nil {
		t.Fatal(err)
	}
	got := map[mms.Reason]int{}
	for _, r := range o.Reasons {
		got[r.Reason] = r.Messages
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
}

// TestUncommittedChangeBlocksNobody leaves a change of one of yesterday's messages
// uncommitted: another message of that day can be claimed.
func TestUncommittedChangeBlocksNobody(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	f := statsFixture{t, store}
	changed, other := f.add(ada, 1, "failed", "expired"), f.add(ada, 1, "queued", "")
	f.rollUp()
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(deliver, changed); err != nil {
		t.Fatal(err)
	}
	claim(t, store, other)
	f.wantTotals("meanwhile", ada, map[mms.Status]int{mms.Failed: 1, mms.Sending: 1})
}

// TestDeletedMessagesStayInTheStats deletes a message whose hour is rolled up.
func TestDeletedMessagesStayInTheStats(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	f := statsFixture{t, store}
	id := f.add(ada, 1, "failed", "expired")
	f.add(ada, 1, "delivered", "")
	f.rollUp()
	f.exec(`DELETE FROM messages WHERE id = $1`, id)
	want := map[mms.Status]int{mms.Delivered: 1, mms.Failed: 1}
	f.wantTotals("after the deletion", ada, want)
	f.rollUp()
	f.wantTotals("after the next rollup", ada, want)
}

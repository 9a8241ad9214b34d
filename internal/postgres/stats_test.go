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
	refused := accept(t, store, ada)
	c, _ := claim(t, store, refused.ID)
	if _, err := store.RecordPermanentFailure(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.PermanentFailure}, mms.ReasonRejected); err != nil {
		t.Fatal(err)
	}
	accept(t, store, eve)
	old := accept(t, store, ada)
	long := time.Now().AddDate(0, 0, -30)
	id := uuid.UUID{6: 0x70, 8: 0x80}
	for i, ms := 5, long.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
		id[i] = byte(ms)
	}
	for _, statement := range []string{
		`ALTER TABLE message_media DISABLE TRIGGER ALL`, `ALTER TABLE message_events DISABLE TRIGGER ALL`, `ALTER TABLE messages DISABLE TRIGGER ALL`,
	} {
		if _, err := store.DB().Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.DB().Exec(`UPDATE messages SET id = $2, created_at = $3 WHERE id = $1`, old.ID, id, long); err != nil {
		t.Fatal(err)
	}

	got, err := store.Overview(t.Context(), ada, 7)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Days) != 7 || got.Days[6].Total() != 2 || got.Days[0].Total() != 0 || !got.Days[6].Date.After(got.Days[5].Date) {
		t.Errorf("days: %+v", got.Days)
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
			t.Errorf("median: %+v", median)
		}
	}
	if diff := cmp.Diff([]mms.Status{mms.Sending, mms.Submitted, mms.Delivered, mms.Failed}, order); diff != "" {
		t.Errorf("medians (-want +got):\n%s", diff)
	}
	if rate, ok := got.Rate(); !ok || rate != 50 {
		t.Errorf("rate: %v, %v", rate, ok)
	}
	if all, err := store.Overview(t.Context(), uuid.Nil, 31); err != nil || all.Total() != 4 || len(all.Days) != 31 || all.Totals[mms.Queued] != 2 {
		t.Errorf("everyone's: %+v, %v", all.Totals, err)
	}
	if none, err := store.Overview(t.Context(), uuid.New(), 7); err != nil || none.Total() != 0 || len(none.Days) != 7 {
		t.Errorf("nobody's: %+v, %v", none, err)
	}
}

// past adds messages of past days.
type past struct {
	t     *testing.T
	store *postgres.Store
}

func (p past) exec(statement string, args ...any) {
	p.t.Helper()
	if _, err := p.store.DB().Exec(statement, args...); err != nil {
		p.t.Fatal(err)
	}
}

func (p past) add(owner uuid.UUID, daysAgo int, status, reason string) uuid.UUID {
	p.t.Helper()
	return p.addAt(owner, time.Now().AddDate(0, 0, -daysAgo), status, reason)
}

func (p past) addAt(owner uuid.UUID, at time.Time, status, reason string) uuid.UUID {
	p.t.Helper()
	return p.addSkewed(owner, at, 0, status, reason)
}

// addSkewed has the id made by a clock that is ahead.
func (p past) addSkewed(owner uuid.UUID, at time.Time, ahead time.Duration, status, reason string) uuid.UUID {
	p.t.Helper()
	id := uuid.Must(uuid.NewV7())
	for i, ms := 5, at.Add(ahead).UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
		id[i] = byte(ms)
	}
	p.exec(`INSERT INTO messages (id, user_id, sender, recipient, text, status, reason, plivo_uuid, final_at, next_attempt_at, task_check_at, created_at)
		VALUES ($1::uuid, $2, '+14155550100', $6, '', $3, $4, CASE WHEN $3 = 'delivered' THEN $1::text END,
			CASE WHEN $3 <> 'queued' THEN $5::timestamptz END, CASE WHEN $3 = 'queued' THEN $5 END, CASE WHEN $3 = 'queued' THEN 'infinity'::timestamptz END, $5)`,
		id, owner, status, reason, at, fmt.Sprintf("+1415556%04d", lastRecipient.Add(1)%10000))
	return id
}

// write begins a transaction that has written something: nothing that is noted later is
// counted before its end.
func (p past) write() *sql.Tx {
	p.t.Helper()
	tx, err := p.store.DB().Begin()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = tx.Rollback() })
	if _, err := tx.Exec(`UPDATE users SET email = email`); err != nil {
		p.t.Fatal(err)
	}
	return tx
}

// countDays counts until everything is counted: transactions of other databases of the
// server may be in the way for a moment.
func (p past) countDays() {
	p.t.Helper()
	testkit.Eventually(p.t, "all days are counted", func() bool {
		if err := p.store.RollUpStats(p.t.Context()); err != nil {
			p.t.Fatal(err)
		}
		return count(p.t, p.store, `SELECT count(*) FROM stats_days WHERE counted_until < planned_until`) == 0
	})
}

// wantTotals compares the overview with what is expected.
func (p past) wantTotals(when string, owner uuid.UUID, want map[mms.Status]int) {
	p.t.Helper()
	o, err := p.store.Overview(p.t.Context(), owner, 7)
	if err != nil {
		p.t.Fatal(err)
	}
	if diff := cmp.Diff(want, o.Totals); diff != "" {
		p.t.Errorf("%s: totals (-want +got):\n%s", when, diff)
	}
}

// late turns a message that had failed into one that was delivered.
const late = `UPDATE messages SET status = 'delivered', reason = '', plivo_uuid = 'late' WHERE id = $1`

// TestPastDaysAreCountedOnce has the totals of past days answer for their messages,
// and what changes in them added.
func TestPastDaysAreCountedOnce(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	eve := addUser(t, store, "eve@example.com")
	p := past{t, store}
	p.add(ada, 0, "delivered", "")
	p.add(ada, 1, "delivered", "")
	p.add(ada, 1, "failed", "expired")
	turning := p.add(ada, 2, "failed", "expired")
	p.add(eve, 2, "delivered", "")
	p.add(ada, 6, "delivered", "")
	p.add(ada, 7, "delivered", "")
	check := func(when string, delivered, failed, everyone int) {
		t.Helper()
		o, err := store.Overview(t.Context(), ada, 7)
		if err != nil || o.Totals[mms.Delivered] != delivered || o.Totals[mms.Failed] != failed || len(o.Days) != 7 {
			t.Errorf("%s: %+v, %v; want %d delivered and %d failed", when, o.Totals, err, delivered, failed)
		}
		if diff := cmp.Diff([]mms.ReasonCount{{Reason: mms.ReasonExpired, Messages: failed}}, o.Reasons); diff != "" {
			t.Errorf("%s: reasons (-want +got):\n%s", when, diff)
		}
		all, err := store.Overview(t.Context(), uuid.Nil, 7)
		if err != nil || all.Total() != everyone {
			t.Errorf("%s: everyone's are %+v, %v; want %d", when, all.Totals, err, everyone)
		}
	}

	check("before days are counted", 3, 2, 6)
	p.countDays()
	check("with days counted", 3, 2, 6)
	p.exec(`UPDATE stats_totals SET messages = messages + 10`)
	check("with other totals", 23, 22, 56) // eve's day: 1 + 10, and everyone's three kinds

	p.exec(late, turning)
	check("after a late report", 24, 21, 56)
	p.countDays()
	check("after the late report was added", 24, 21, 56)
	if n := count(t, store, `SELECT count(*) FROM stats_changes`); n != 0 {
		t.Errorf("%d changes are left", n)
	}
	p.exec(`INSERT INTO stats_totals VALUES ($1, now() - interval '101 days', 'failed', '', '', 1)`, ada)
	p.countDays()
	if n := count(t, store, `SELECT count(*) FROM stats_totals WHERE day < now() - interval '100 days'`); n != 0 {
		t.Errorf("%d totals are of days that nobody asks for", n)
	}
}

// TestADayIsCountedOnceItsChangesAreOver has a transaction change a message before its
// day is noted, and end long after: it would not have said so, if the change had been
// before midnight.
func TestADayIsCountedOnceItsChangesAreOver(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	p := past{t, store}
	id := p.add(ada, 1, "failed", "expired")
	p.exec(`ALTER TABLE messages DISABLE TRIGGER messages_stats_change`) // as before midnight
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(late, id); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := store.RollUpStats(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p.wantTotals("while a change is under way", ada, map[mms.Status]int{mms.Failed: 1})
	if n := count(t, store, `SELECT count(*) FROM stats_days WHERE counted_until > day::timestamp AT TIME ZONE 'UTC'`); n != 0 {
		t.Errorf("%d days were counted beside a change", n)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	p.countDays()
	p.wantTotals("after the change", ada, map[mms.Status]int{mms.Delivered: 1})
}

// TestAChangeWhileADayIsCounted commits a change of a message, and lets another process
// count the same day, between what a process counts and its commit.
func TestAChangeWhileADayIsCounted(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	p := past{t, store}
	id := p.add(ada, 1, "failed", "expired")
	p.countDays()
	p.exec(`UPDATE stats_days SET counted_until = day::timestamp AT TIME ZONE 'UTC'`)
	p.exec(`DELETE FROM stats_totals`)
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`LOCK TABLE stats_totals IN SHARE MODE`); err != nil { // stops whoever has counted
		t.Fatal(err)
	}
	first, second := make(chan error, 1), make(chan error, 1)
	for i, counted := range []chan error{first, second} {
		go func() { counted <- store.RollUpStats(t.Context()) }()
		testkit.Eventually(t, "the count is held up", func() bool {
			return count(t, store, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == i+1
		})
		p.exec(late, id)
		p.exec(`UPDATE messages SET status = 'failed', reason = 'expired' WHERE id = $1`, id)
	}
	p.exec(late, id)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	t.Log(<-first, <-second) // one of them may have to give way
	p.wantTotals("after both", ada, map[mms.Status]int{mms.Delivered: 1})
	p.countDays()
	p.wantTotals("later", ada, map[mms.Status]int{mms.Delivered: 1})
	if n := count(t, store, `SELECT count(*) FROM stats_changes`); n != 0 {
		t.Errorf("%d changes are not counted", n)
	}
}

// TestADayIsCountedHourByHour has the totals of a day grow by what is not in them yet,
// and by nothing else, while messages of both parts change.
func TestADayIsCountedHourByHour(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	p := past{t, store}
	day := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	early := p.addAt(ada, day.Add(9*time.Hour+59*time.Minute), "failed", "expired")
	p.addAt(ada, day.Add(time.Minute), "delivered", "")
	p.countDays()
	if n := count(t, store, `SELECT sum(messages) FROM stats_totals WHERE user_id = $1`, ada); n != 2 {
		t.Fatalf("%d messages are counted", n)
	}
	p.exec(`UPDATE stats_days SET counted_until = $1::timestamptz WHERE day = ($1 AT TIME ZONE 'UTC')::date`, day.Add(10*time.Hour)) // as it was at ten
	afternoon := p.addAt(ada, day.Add(10*time.Hour), "failed", "expired")
	p.wantTotals("at first", ada, map[mms.Status]int{mms.Delivered: 1, mms.Failed: 2})
	p.exec(late, early)
	p.exec(`UPDATE messages SET status = 'delivered', reason = '', plivo_uuid = 'later' WHERE id = $1`, afternoon)
	p.wantTotals("after changes", ada, map[mms.Status]int{mms.Delivered: 3})

	others := p.write()
	p.exec(`UPDATE stats_days SET planned_by = pg_current_xact_id()`)
	if err := store.RollUpStats(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.wantTotals("with what changed in the counted part added", ada, map[mms.Status]int{mms.Delivered: 3})
	if n := count(t, store, `SELECT count(*) FROM stats_changes`); n != 2 {
		t.Errorf("%d changes are left, want those of the other part", n)
	}
	if err := others.Rollback(); err != nil {
		t.Fatal(err)
	}

	p.exec(`UPDATE messages SET status = 'failed', reason = 'expired' WHERE id = $1`, early)
	p.countDays()
	p.wantTotals("counted", ada, map[mms.Status]int{mms.Delivered: 2, mms.Failed: 1})
	p.wantTotals("of everyone", uuid.Nil, map[mms.Status]int{mms.Delivered: 2, mms.Failed: 1})
	if n := count(t, store, `SELECT count(*) FROM stats_changes`); n != 0 {
		t.Errorf("%d changes are left", n)
	}
	if n := count(t, store, `SELECT sum(messages) FROM stats_totals WHERE user_id = $1`, ada); n != 3 {
		t.Errorf("%d messages are counted", n)
	}
}

// TestWhatWasNotedWaitsForNobodyElse: transactions that began after an hour was noted do
// not put its count off, although there is more to be noted meanwhile.
func TestWhatWasNotedWaitsForNobodyElse(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	p := past{t, store}
	day := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	p.addAt(ada, day.Add(time.Hour), "delivered", "")
	p.countDays()
	p.exec(`DELETE FROM stats_totals`)
	p.exec(`UPDATE stats_days SET counted_until = $1, planned_until = $2 WHERE day = ($1::timestamptz AT TIME ZONE 'UTC')::date`, day, day.Add(10*time.Hour))
	younger := p.write()
	testkit.Eventually(t, "the part is counted", func() bool { // once others of the server have ended
		if err := store.RollUpStats(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := younger.Exec(`SELECT`); err != nil { // it is still there
			t.Fatal(err)
		}
		return count(t, store, `SELECT count(*) FROM stats_totals WHERE user_id = $1`, ada) == 1
	})
}

// TestManyChangesAreAddedInPortions: with one statement, there could be too many for the
// time that it has.
func TestManyChangesAreAddedInPortions(t *testing.T) {
	t.Parallel()
	const changes = 150_000
	store, ada := newStore(t)
	p := past{t, store}
	p.countDays()
	p.exec(`INSERT INTO stats_changes (user_id, day, hour, status, reason, plivo_code, messages)
		SELECT $1::uuid, day, day::timestamp AT TIME ZONE 'UTC', 'delivered', '', '', 1
		FROM (SELECT (now() AT TIME ZONE 'UTC')::date - 1 AS day) d, generate_series(1, $2::int)`, ada, changes)
	if err := store.RollUpStats(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, store, `SELECT count(*) FROM stats_changes`); n != 0 {
		t.Errorf("%d changes are left", n)
	}
	p.wantTotals("added", ada, map[mms.Status]int{mms.Delivered: changes})
}

// TestHoursOfTodayAreCounted once they are over.
func TestHoursOfTodayAreCounted(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	p := past{t, store}
	over := time.Now().Add(-10 * time.Minute).Truncate(time.Hour)
	turning := p.addAt(ada, over.Add(-time.Second), "failed", "expired")
	p.addAt(ada, over, "delivered", "")
	p.countDays()
	p.wantTotals("counted", ada, map[mms.Status]int{mms.Delivered: 1, mms.Failed: 1})
	p.exec(`UPDATE stats_totals SET messages = messages + 10`)
	p.wantTotals("with other totals", ada, map[mms.Status]int{mms.Delivered: 1, mms.Failed: 11})
	p.exec(late, turning)
	p.wantTotals("after a late report", ada, map[mms.Status]int{mms.Delivered: 2, mms.Failed: 10})
	p.countDays()
	p.wantTotals("later", ada, map[mms.Status]int{mms.Delivered: 2, mms.Failed: 10})
	p.exec(`DELETE FROM stats_days`) // an operator who wants them counted anew
	p.wantTotals("before they are counted anew", ada, map[mms.Status]int{mms.Delivered: 2})
	p.countDays()
	p.wantTotals("counted anew", ada, map[mms.Status]int{mms.Delivered: 2})
}

// TestAnAPIWhoseClockIsWrong has ids say another time than the database: the totals are of
// the database's.
func TestAnAPIWhoseClockIsWrong(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	p := past{t, store}
	over := time.Now().Add(-10 * time.Minute).Truncate(time.Hour)
	p.addSkewed(ada, over.Add(-time.Minute), 3*time.Hour, "delivered", "")
	p.addSkewed(ada, over.Add(-26*time.Hour), -3*time.Hour, "delivered", "")
	p.countDays()
	p.wantTotals("counted", ada, map[mms.Status]int{mms.Delivered: 2})
}

// TestAnOverviewIsRightAtEveryMoment changes messages of hours that are over while they
// are counted: no overview may miss one of them, or have one twice.
func TestAnOverviewIsRightAtEveryMoment(t *testing.T) {
	t.Parallel()
	const messages, changes, workers = 40, 60, 3
	store, ada := newStore(t)
	p := past{t, store}
	reasons := []string{"expired", "forbidden", "attempts_exhausted"}
	var ids []uuid.UUID
	for i := range messages {
		ids = append(ids, p.addAt(ada, time.Now().Add(-time.Duration(i)*20*time.Minute), "failed", reasons[0]))
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
	over := make(chan error, 1)
	go func() { over <- group.Wait() }()
	for done := false; !done; {
		select {
		case err := <-over:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
		if err := store.RollUpStats(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.wantTotals("meanwhile", ada, map[mms.Status]int{mms.Failed: messages})
	}
	p.countDays()
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

// TestAChangeOfAPastDayHoldsUpNobody has an operator change a message of yesterday and
// not come to an end: others of that day are claimed.
func TestAChangeOfAPastDayHoldsUpNobody(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	p := past{t, store}
	changed, other := p.add(ada, 1, "failed", "expired"), p.add(ada, 1, "queued", "")
	p.countDays()
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(late, changed); err != nil {
		t.Fatal(err)
	}
	claim(t, store, other)
	p.wantTotals("meanwhile", ada, map[mms.Status]int{mms.Failed: 1, mms.Sending: 1})
}

// TestDeletedMessagesStayInTheStats deletes a message whose hour is rolled up:
// the totals have to stay as they are.
func TestDeletedMessagesStayInTheStats(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	p := past{t, store}
	id := p.add(ada, 1, "failed", "expired")
	p.add(ada, 1, "delivered", "")
	p.countDays()
	p.exec(`DELETE FROM messages WHERE id = $1`, id)
	want := map[mms.Status]int{mms.Delivered: 1, mms.Failed: 1}
	p.wantTotals("after the deletion", ada, want)
	p.countDays()
	p.wantTotals("after the next rollup", ada, want)
}

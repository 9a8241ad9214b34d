package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"postcard/internal/mms"
	"postcard/internal/testkit"
)

func TestOverview(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	eve := addUser(t, store, "eve@example.com")
	_, ref := submitted(t, store, ada)
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "delivered"}, true)
	refused := accept(t, store, ada)
	c, _ := claim(t, store, refused.ID)
	if _, err := store.Fail(t.Context(), c.AttemptRef, mms.Verdict{Outcome: mms.Refused}, mms.ReasonRefused); err != nil {
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
	if diff := cmp.Diff([]mms.ReasonCount{{Reason: mms.ReasonRefused, Messages: 1}}, got.Reasons); diff != "" {
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

// TestPastDaysAreCountedOnce has the totals of past days answer for their messages,
// until one of them changes.
func TestPastDaysAreCountedOnce(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	eve := addUser(t, store, "eve@example.com")
	exec := func(statement string, args ...any) {
		t.Helper()
		if _, err := store.DB().Exec(statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	add := func(owner uuid.UUID, daysAgo int, status, reason string) uuid.UUID {
		at := time.Now().AddDate(0, 0, -daysAgo)
		id := uuid.Must(uuid.NewV7())
		for i, ms := 5, at.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
			id[i] = byte(ms)
		}
		exec(`INSERT INTO messages (id, user_id, sender, recipient, text, status, reason, plivo_uuid, final_at, created_at)
			VALUES ($1::uuid, $2, '+14155550100', '+14155550101', '', $3, $4, CASE WHEN $3 = 'delivered' THEN $1::text END, $5, $5)`, id, owner, status, reason, at)
		return id
	}
	add(ada, 0, "delivered", "")
	add(ada, 1, "delivered", "")
	add(ada, 1, "failed", "expired")
	turning := add(ada, 2, "failed", "expired")
	add(eve, 2, "delivered", "")
	add(ada, 6, "delivered", "")
	add(ada, 7, "delivered", "")
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
	countDays := func() {
		t.Helper()
		if err := store.CountDays(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	later := func() { exec(`UPDATE days_counted SET noted_at = noted_at - interval '2 minutes'`) }

	check("before days are counted", 3, 2, 6)
	countDays()
	countDays()
	if n := count(t, store, `SELECT count(*) FROM days_counted WHERE counted`); n != 0 {
		t.Errorf("%d days were counted as soon as they were noted: a change that began before would be missed", n)
	}
	later()
	countDays()
	check("with days counted", 3, 2, 6)
	exec(`UPDATE day_totals SET messages = messages + 10`)
	check("with other totals", 23, 22, 56) // eve's day: 1 + 10, and everyone's three kinds

	exec(`UPDATE messages SET status = 'delivered', reason = '', plivo_uuid = 'late' WHERE id = $1`, turning)
	check("after a late report", 24, 11, 36)
	countDays()
	later()
	tx, err := store.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`UPDATE messages SET status = 'failed', reason = 'expired' WHERE id = $1`, turning); err != nil {
		t.Fatal(err)
	}
	counted := make(chan error, 1)
	go func() { counted <- store.CountDays(t.Context()) }()
	testkit.Eventually(t, "the count waits for the change", func() bool {
		return count(t, store, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 1
	})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-counted; err != nil {
		t.Fatal(err)
	}
	check("after a change while the day was counted", 23, 12, 36)
	if n := count(t, store, `SELECT count(*) FROM day_totals WHERE day < now() - interval '200 days'`); n != 0 {
		t.Errorf("%d totals are of days that nobody asks for", n)
	}
}

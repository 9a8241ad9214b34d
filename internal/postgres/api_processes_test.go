package postgres_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// TestHeartbeatsOfTheAPI beats in time, late, and after a missed callback.
func TestHeartbeatsOfTheAPI(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	process := uuid.New()
	beat := func(broken bool) {
		t.Helper()
		if err := store.BeatAPI(t.Context(), process, broken); err != nil {
			t.Fatal(err)
		}
	}
	shift := func(beat, broken string) {
		t.Helper()
		if _, err := store.DB().Exec(`UPDATE api_processes SET beat_at = now() - $1::interval, broken_at = now() - $2::interval`, beat, broken); err != nil {
			t.Fatal(err)
		}
	}
	wantBroken := func(when string, want int) {
		t.Helper()
		if got := count(t, store, `SELECT count(*) FROM api_processes WHERE broken_at > now() - interval '1 minute' AND beat_at > now() - interval '5 seconds'`); got != want {
			t.Errorf("%s: got %d broken processes, want %d", when, got, want)
		}
	}
	beat(false)
	wantBroken("at the start", 1)
	shift("3 seconds", "1 hour")
	beat(false)
	wantBroken("after a beat in time", 0)
	beat(true)
	wantBroken("after a missed callback", 1)
	shift("11 seconds", "1 hour")
	beat(false)
	wantBroken("after a late beat", 1)

	shift("25 hours", "25 hours")
	if err := store.BeatAPI(t.Context(), uuid.New(), false); err != nil {
		t.Fatal(err)
	}
	if err := store.DeleteExpired(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, store, `SELECT count(*) FROM api_processes`); n != 1 {
		t.Errorf("got %d processes after a day, want the new one", n)
	}
}

// TestFirstReportIsTimed applies reports: the first that came by callback counts, also
// when it changes nothing else and when the message has another attempt's UUID.
func TestFirstReportIsTimed(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, ref := submitted(t, store, workspace)
	reported := func() int {
		return count(t, store, `SELECT count(*) FROM attempts WHERE first_report_at >= finished_at AND message_id = $1`, m.ID)
	}
	if _, err := store.ApplyReport(t.Context(), ref, mms.Report{PlivoUUID: "u-1", State: "sent"}, mms.EventStatusPolled); err != nil {
		t.Fatal(err)
	}
	report(t, store, ref, mms.Report{PlivoUUID: "u-2", State: "sent"}, false)
	if n := reported(); n != 0 {
		t.Error("a poll, or a report about another message, is timed as the attempt's first report")
	}
	before := read(t, store, m).Version
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "queued"}, false)
	if n := reported(); n != 1 || read(t, store, m).Version != before {
		t.Errorf("after a report of state queued: got %d timed attempts and another version, want 1 and the same", n)
	}
	var first, second string
	const selectFirst = `SELECT first_report_at::text FROM attempts WHERE message_id = $1`
	if err := store.DB().QueryRow(selectFirst, m.ID).Scan(&first); err != nil {
		t.Fatal(err)
	}
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "delivered"}, true)
	if err := store.DB().QueryRow(selectFirst, m.ID).Scan(&second); err != nil || first != second {
		t.Errorf("got the first report at %s and then at %s, %v, want one time", first, second, err)
	}

	if _, err := store.DB().Exec(`UPDATE messages SET plivo_uuid = 'another' WHERE id = $1`, m.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`UPDATE attempts SET first_report_at = NULL`); err != nil {
		t.Fatal(err)
	}
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "sent"}, false)
	if n := reported(); n != 1 {
		t.Error("the report of a duplicate is not timed")
	}
}

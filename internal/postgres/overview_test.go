package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"postcard/internal/mms"
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

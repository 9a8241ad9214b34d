package postgres_test

import (
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

func TestForecast(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := newRequest(workspace).Message
	if f, err := store.Forecast(t.Context(), m, nil); err != nil || f.Interval != 0 || f.Ahead != 0 || f.Cost != mms.ListPrice || f.Suppressed {
		t.Errorf("unlimited sender: got %+v, %v", f, err)
	}
	if err := store.SetRateLimit(t.Context(), m.Sender, 4*time.Second); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := store.AddToBacklog(t.Context(), create(t, store, workspace).ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.DB().Exec(`UPDATE messages SET cost = 0.02`); err != nil {
		t.Fatal(err)
	}
	if _, err := store.AddSuppressions(t.Context(), []mms.Suppression{{Sender: m.Sender, Recipient: m.Recipient, Reason: "admin"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`INSERT INTO pauses (cause, detail, probe_at) VALUES ('plivo_credit', '', now())`); err != nil {
		t.Fatal(err)
	}
	now, err := store.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := store.Forecast(t.Context(), m, nil)
	if f.Pause.Cause != mms.ReasonCredit || time.Since(f.Pause.Since) > time.Hour {
		t.Errorf("got pause %+v, want %q, and since when", f.Pause, mms.ReasonCredit)
	}
	if wait := f.SendAt.Sub(now); err != nil || f.Interval != 4*time.Second || f.Ahead != 3 || wait < 12*time.Second || wait > 17*time.Second || f.Cost != "0.020000" || !f.Suppressed {
		t.Errorf("got %+v after %v, %v, want three messages ahead, 4 s each, suppressed, at the average cost", f, wait, err)
	}
	if n := count(t, store, `SELECT count(*) FROM messages`); n != 3 {
		t.Errorf("got %d messages, want 3: a forecast stores nothing", n)
	}
}

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// TestPastedNumbers configures senders, sends messages and a batch with numbers as
// people paste them, and checks which numbers Plivo gets.
func TestPastedNumbers(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{Numbers: []string{sender, "+16245550100"}})
	senders := "PLIVO_SENDER_NUMBER=\ufeff\u202a" + sender + "\u202c, “+1\u200b6245550100”"
	api, url := r.api(senders)
	r.worker("", senders)
	api.awaitLog("PLIVO_SENDER_NUMBER has a number that Postcard does not know")

	c := loggedIn(t, url)
	send := func(to, from string) {
		t.Helper()
		body, err := json.Marshal(map[string]string{"to": to, "from": from, "mediaUrl": "\u00a0https://example.com/a.jpg\u200b"})
		if err != nil {
			t.Fatal(err)
		}
		if status, answer, err := c.post("/api/send-mms", string(body)); err != nil || status != http.StatusAccepted {
			t.Errorf("%q: got %d %s %v", to, status, answer, err)
		}
	}
	send("\u202a+1 416 555 1001\u202c", "")
	send("(416) 555-1002", "+1 624-555-0100")
	send("+1 565 555 1003", "1 (624) 555-0100") // an area code that Postcard does not know
	rows := []map[string]string{{"to": " 416.555.1004 "}, {"to": "14165551005"}, {"to": "4165551006"}, {"to": "tel:+1-416-555-1007"}, {"to": "４１６５５５１００８"}}
	batch, err := json.Marshal(map[string]any{"mediaUrl": "https://example.com/a.jpg", "rows": rows})
	if err != nil {
		t.Fatal(err)
	}
	if status, answer, err := c.post("/api/batches", string(batch)); err != nil || status != http.StatusAccepted {
		t.Fatalf("batch: got %d %s %v", status, answer, err)
	}
	r.awaitFinal()
	r.verify(8)

	var recipients []string
	for _, e := range r.sim.Ledger() {
		recipients = append(recipients, e.To)
		if !slices.Equal(e.MediaURLs, []string{"https://example.com/a.jpg"}) {
			t.Errorf("to %s: got pictures %q", e.To, e.MediaURLs)
		}
	}
	slices.Sort(recipients)
	want := []string{"14165551001", "14165551002", "14165551004", "14165551005", "14165551006", "14165551007", "14165551008", "15655551003"}
	if fmt.Sprint(recipients) != fmt.Sprint(want) {
		t.Errorf("Plivo got messages to %q, want %q", recipients, want)
	}
}

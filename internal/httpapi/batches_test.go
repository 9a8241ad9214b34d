package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/mms"
)

const batchStart = `{"text":"Hi {{name}}","mediaUrl":"https://example.com/a.jpg","rows":`

func TestBatches(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	for name, tt := range map[string]struct {
		body  string
		as    string
		query string
		want  string // the status and the first fault, or how many were accepted
	}{
		"rows of all kinds":     {batchStart + `[{"to":"+14155550123","name":"Ada"},{"name":7,"to":"+14155550124"},{"to":"+14155550125","name":true}]}`, "", "", "202 3"},
		"rows first":            {`{"rows":[{"to":"+14155550123"}],"mediaUrl":"https://example.com/a.jpg"}`, "", "", "202 1"},
		"a bad row":             {batchStart + `[{"to":"+14155550123","name":""},{"to":"1","name":""}]}`, "", "", "400 rows[2].to e164"},
		"a row that is none":    {batchStart + `["+14155550123"]}`, "", "", "400 rows[1].row type"},
		"a value that is none":  {batchStart + `[{"to":"+14155550123","name":null}]}`, "", "", "400 rows[1].name type"},
		"half a character":      {batchStart + `[{"to":"+14155550123","name":"\ud83d"}]}`, "", "", "400 rows[1].name utf8"},
		"broken UTF-8":          {batchStart + "[{\"to\":\"+14155550123\",\"name\":\"\xff\"}]}", "", "", "400 rows[1].row utf8"},
		"no rows":               {`{"mediaUrl":"https://example.com/a.jpg"}`, "", "", "400 rows required"},
		"empty rows":            {batchStart + `[]}`, "", "", "400 rows required"},
		"rows twice":            {batchStart + `[],"rows":[]}`, "", "", "400 rows duplicate"},
		"rows of another kind":  {batchStart + `{}}`, "", "", "400 rows type"},
		"an unknown field":      {batchStart + `[{"to":"+14155550123","name":""}],"color":"red"}`, "", "", "400 color unknown"},
		"a field twice":         {batchStart + `[{"to":"+14155550123","name":""}],"text":"x"}`, "", "", "400 text duplicate"},
		"no JSON":               {`{"rows":[{"to":`, "", "", "400 body json"},
		"something behind":      {batchStart + `[]} {}`, "", "", "400 body json"},
		"a list":                {`[]`, "", "", "400 body object"},
		"nothing":               {``, "application/json", "", "400 body object"},
		"a query beside JSON":   {batchStart + `[{"to":"+14155550123","name":""}]}`, "", "?text=x", "400 text unknown"},
		"a row without end":     {batchStart + `[{"to":"` + strings.Repeat("1", 300<<10) + `"}]}`, "", "", "400 body max_length"},
		"fields without end":    {`{"text":"` + strings.Repeat("x", 70<<10) + `","rows":[]}`, "", "", "400 body max_length"},
		"another policy":        {`{"mediaUrl":"https://example.com/a.jpg","onError":"ignore","rows":[{"to":"+14155550123"}]}`, "", "", "400 onError one_of"},
		"the good ones":         {`{"mediaUrl":"https://example.com/a.jpg","onError":"create_valid","rows":[{"to":"+14155550123"},{"to":"1"}]}`, "", "", "202 1"},
		"CSV":                   {"name,to\nAda,+14155550123\n\"Bob, too\",+14155550124\n", "text/csv", "?text=Hi+%7B%7Bname%7D%7D&mediaUrl=https://example.com/a.jpg&validFor=600&metadata[a]=%7B%7Bname%7D%7D", "202 2"},
		"CSV with a bad number": {"to\n+14155550123\n", "text/csv", "?mediaUrl=https://example.com/a.jpg&validFor=soon", "400 validFor type"},
		"CSV without a column":  {"number\n+14155550123\n", "text/csv", "?mediaUrl=https://example.com/a.jpg", "400 columns required"},
		"CSV with rows above":   {"to\n", "text/csv", "?rows=1", "400 rows unknown"},
		"CSV given twice":       {"to\n", "text/csv", "?text=a&text=b", "400 text duplicate"},
		"CSV with an open end":  {"to\n\"+14155550123", "text/csv", "?mediaUrl=https://example.com/a.jpg", "400 "},
		"another type":          {"x", "text/plain", "", "415 "},
	} {
		if tt.as == "" {
			tt.as = "application/json"
		}
		got := ada.doAs(tt.as, "POST", "/api/batches"+tt.query, tt.body)
		words := fmt.Sprint(got.status, " ")
		if got.status == http.StatusAccepted {
			words += fmt.Sprint(decode[httpapi.NewBatch](t, got).Created)
		} else if faults := decode[httpapi.Problem](t, got).Errors; len(faults) > 0 {
			words += faults[0].Field + " " + faults[0].Rule
		}
		if words != tt.want {
			t.Errorf("%s: %s, want %s: %.300s", name, words, tt.want, got.body)
		}
	}
}

// FuzzBatch throws bodies of both kinds at the endpoint: never a failure of ours,
// and nothing accepted that one message could not be.
func FuzzBatch(f *testing.F) {
	for _, seed := range []string{
		batchStart + `[{"to":"+14155550123","name":"Ada"}]}`, `{"rows":[[[[`, `{"rows":null}`, "to,name\n+14155550123,Ada\n", "\ufeffto\n\"", `{"rows":[{}],"rows":[{}]}`,
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	s := newSystem(f)
	ada := s.ada()
	f.Fuzz(func(t *testing.T, body string, asJSON bool) {
		c := &client{system: &system{t: t, handler: s.handler}, cookie: ada.cookie}
		as, query := "text/csv", "?mediaUrl=https://example.com/a.jpg&text=%7B%7Bname%7D%7D&onError=create_valid"
		if asJSON {
			as, query = "application/json", ""
		}
		got := c.doAs(as, "POST", "/api/batches"+query, body)
		if got.status != http.StatusAccepted && got.status != http.StatusBadRequest && got.status != http.StatusRequestEntityTooLarge {
			t.Fatalf("%d %s", got.status, got.body)
		}
		s.messages.mu.Lock()
		defer s.messages.mu.Unlock()
		for id, h := range s.messages.histories {
			if _, err := mms.ParsePhoneNumber(string(h.Recipient)); err != nil || len(h.MediaURLs) == 0 {
				t.Errorf("accepted %+v", h.Message)
			}
			delete(s.messages.histories, id)
		}
	})
}

// FuzzQuery throws queries at all lists.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"status=queued&limit=5", "metadata[a]=b&metadata[]=", "to=%2B14155550123&since=2026-01-01T00:00:00Z", "cursor=%ff&text=%00", "limit=1e9;x", "metadata[%zz]=1", "metadata[a][b]=1&metadata=1"} {
		f.Add(seed)
	}
	s := newSystem(f)
	ada := s.ada()
	f.Fuzz(func(t *testing.T, query string) {
		c := &client{system: &system{t: t, handler: s.handler}, cookie: ada.cookie}
		for _, path := range []string{"/api/messages", "/api/messages/export"} {
			if strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
				continue // no server would see it
			}
			if got := c.do("GET", path+"?"+query, ""); got.status != http.StatusOK && got.status != http.StatusBadRequest {
				t.Fatalf("%s?%s: %d %s", path, query, got.status, got.body)
			}
		}
	})
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	got := s.ada().do("POST", "/api/send-mms", strings.Replace(validSend, "{", `{"dryRun":true,"metadata":{"order":"17"},`, 1))
	want := map[string]any{
		"dryRun": true, "to": "+14155550123", "from": "+14155550100", "priority": "normal", "metadata": map[string]any{"order": "17"},
		"ratePerMinute": 15.0, "ahead": 2.0, "estimatedSendAt": noon.Add(8 * time.Second).UTC().Format(time.RFC3339), "estimatedCost": "0.016000", "suppressed": false,
	}
	if diff := cmp.Diff(want, decode[map[string]any](t, got)); diff != "" || got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, diff)
	}
	if len(s.messages.histories) != 0 {
		t.Error("something was stored")
	}
	if got := s.ada().do("POST", "/api/send-mms", strings.Replace(validSend, "{", `{"dryRun":true,"validFor":1,`, 1)); got.status != http.StatusBadRequest {
		t.Errorf("bad input: %d", got.status)
	}
}

// TestFingerprints are of what is asked for, not of how it is spelled.
func TestFingerprints(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var asked []mms.CreateRequest
	s.messages.onCreate = func(o mms.CreateRequest) { asked = append(asked, o) }
	for _, body := range []string{
		validSend, `{ "mediaUrl" : "https://example.com/a.jpg", "text":"h\u0065llo","to":"+14155550123"}`, strings.Replace(validSend, "hello", "Hello", 1),
	} {
		if got := s.ada().do("POST", "/api/send-mms", body, "Idempotency-Key", "k"); got.status != http.StatusAccepted {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	if asked[0].Idempotency != asked[1].Idempotency || asked[0].Idempotency.Key != "k" {
		t.Error("the same, spelled otherwise, counts as another request")
	}
	if asked[0].Idempotency == asked[2].Idempotency {
		t.Error("another text counts as the same request")
	}
	var faults httpapi.Problem
	got := s.ada().do("POST", "/api/send-mms", validSend, "Idempotency-Key", strings.Repeat("k", 300))
	if err := json.Unmarshal([]byte(got.body), &faults); err != nil || got.status != http.StatusBadRequest || faults.Errors[0].Field != "Idempotency-Key" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

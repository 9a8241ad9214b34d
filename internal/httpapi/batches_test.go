package httpapi_test

import (
	"encoding/csv"
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

const batchPrefix = `{"text":"Hi {{name}}","mediaUrl":"https://example.com/a.jpg","rows":`

func TestCreateBatch(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	for name, tt := range map[string]struct {
		body        string
		contentType string // default: application/json
		query       string
		want        string // the status, and the first violation or the number of created messages
	}{
		"values of all types":  {batchPrefix + `[{"to":"+14155550123","name":"Ada"},{"name":7,"to":"+14155550124"},{"to":"+14155550125","name":true}]}`, "", "", "202 3"},
		"byte order mark":      {"\ufeff" + batchPrefix + `[{"to":"+14155550123","name":"Ada"}]}`, "", "", "202 1"},
		"two marks":            {"\ufeff\ufeff" + batchPrefix + `[{"to":"+14155550123","name":"Ada"}]}`, "", "", "400 body object"},
		"half a mark":          {"\xef\xbb", "", "", "400 body object"},
		"rows first":           {`{"rows":[{"to":"+14155550123"}],"mediaUrl":"https://example.com/a.jpg"}`, "", "", "202 1"},
		"invalid row":          {batchPrefix + `[{"to":"+14155550123","name":""},{"to":"1","name":""}]}`, "", "", "400 rows[2].to e164"},
		"row of another type":  {batchPrefix + `["+14155550123"]}`, "", "", "400 rows[1].row type"},
		"null value":           {batchPrefix + `[{"to":"+14155550123","name":null}]}`, "", "", "400 rows[1].text placeholder"},
		"null in other column": {batchPrefix + `[{"to":"+14155550123","name":"","x":null}]}`, "", "", "202 1"},
		"NUL":                  {batchPrefix + `[{"to":"+14155550123","name":"\u0000"}]}`, "", "", "400 rows[1].name control"},
		"duplicate column":     {batchPrefix + `[{"to":"+14155550123","name":"","to":"+14155550124"}]}`, "", "", "400 rows[1].to duplicate"},
		"unpaired surrogate":   {batchPrefix + `[{"to":"+14155550123","name":"\ud83d"}]}`, "", "", "400 rows[1].name utf8"},
		"invalid UTF-8":        {batchPrefix + "[{\"to\":\"+14155550123\",\"name\":\"\xff\"}]}", "", "", "400 rows[1].row utf8"},
		"no rows":              {`{"mediaUrl":"https://example.com/a.jpg"}`, "", "", "400 rows required"},
		"empty rows":           {batchPrefix + `[]}`, "", "", "400 rows required"},
		"duplicate rows":       {batchPrefix + `[],"rows":[]}`, "", "", "400 rows duplicate"},
		"rows of another type": {batchPrefix + `{}}`, "", "", "400 rows type"},
		"unknown field":        {batchPrefix + `[{"to":"+14155550123","name":""}],"color":"red"}`, "", "", "400 color unknown"},
		"duplicate field":      {batchPrefix + `[{"to":"+14155550123","name":""}],"text":"x"}`, "", "", "400 text duplicate"},
		"truncated JSON":       {`{"rows":[{"to":`, "", "", "400 body json"},
		"trailing data":        {batchPrefix + `[]} {}`, "", "", "400 body json"},
		"array":                {`[]`, "", "", "400 body object"},
		"empty body":           {``, "application/json", "", "400 body object"},
		"query with JSON":      {batchPrefix + `[{"to":"+14155550123","name":""}]}`, "", "?text=x", "400 text unknown"},
		"oversized row":        {batchPrefix + `[{"to":"` + strings.Repeat("1", 300<<10) + `"}]}`, "", "", "400 body max_length"},
		"oversized fields":     {`{"text":"` + strings.Repeat("x", 70<<10) + `","rows":[]}`, "", "", "400 body max_length"},
		"unknown onError":      {`{"mediaUrl":"https://example.com/a.jpg","onError":"ignore","rows":[{"to":"+14155550123"}]}`, "", "", "400 onError one_of"},
		"create valid rows":    {`{"mediaUrl":"https://example.com/a.jpg","onError":"create_valid","rows":[{"to":"+14155550123"},{"to":"1"}]}`, "", "", "202 1"},
		"CSV":                  {"name,to\nAda,+14155550123\n\"Bob, too\",+14155550124\n", "text/csv", "?text=Hi+%7B%7Bname%7D%7D&mediaUrl=https://example.com/a.jpg&validFor=600&metadata[a]=%7B%7Bname%7D%7D", "202 2"},
		"CSV, invalid number":  {"to\n+14155550123\n", "text/csv", "?mediaUrl=https://example.com/a.jpg&validFor=soon", "400 validFor type"},
		"CSV, no to column":    {"name\n+14155550123\n", "text/csv", "?mediaUrl=https://example.com/a.jpg", "400 columns required"},
		"CSV, two numbers":     {"Phone,Mobile\n+14155550123,\n", "text/csv", "?mediaUrl=https://example.com/a.jpg", "400 columns duplicate"},
		"CSV from Excel":       {"\xff\xfeP\x00h\x00o\x00n\x00e\x00\r\x00\n\x00+\x001\x004\x001\x005\x005\x005\x005\x000\x001\x002\x003\x00", "text/csv; charset=UTF-16", "?mediaUrl=https://example.com/a.jpg", "202 1"},
		"CSV in Windows-1252":  {"to;name\r\n+14155550123;Jos\xe9\r\n", "text/csv; charset=windows-1252", "?mediaUrl=https://example.com/a.jpg", "202 1"},
		"CSV, not declared":    {"to;name\r\n+14155550123;Jos\xe9\r\n", "text/csv", "?mediaUrl=https://example.com/a.jpg", "400 rows encoding"},
		"CSV in Big5":          {"to\n+14155550123\n", "text/csv; charset=big5", "?mediaUrl=https://example.com/a.jpg", "415 "},
		"CSV, all in columns":  {"Phone,Message,Image\n+14155550123,Hi,https://example.com/a.jpg\n", "text/csv", "", "202 1"},
		"CSV, two texts":       {"to,Message,Body\n+14155550123,Hi,Hi\n", "text/csv", "?mediaUrl=https://example.com/a.jpg", "400 text required"},
		"CSV, other case":      {"TO,Message\n+14155550123,Hi\n", "text/csv", "?mediaUrl=https://example.com/a.jpg&text={{message}}", "202 1"},
		"workbook as CSV":      {"PK\x03\x04", "text/csv", "?mediaUrl=https://example.com/a.jpg", "400 rows csv"},
		"CSV, rows in query":   {"to\n", "text/csv", "?rows=1", "400 rows unknown"},
		"CSV, duplicate field": {"to\n", "text/csv", "?text=a&text=b", "400 text duplicate"},
		"CSV, unclosed quote":  {"to\n\"+14155550123", "text/csv", "?mediaUrl=https://example.com/a.jpg", "400 "},
		"other content type":   {"x", "text/plain", "", "415 "},
	} {
		if tt.contentType == "" {
			tt.contentType = "application/json"
		}
		got := ada.doAs(tt.contentType, "POST", "/api/batches"+tt.query, tt.body)
		outcome := fmt.Sprint(got.status, " ")
		if got.status == http.StatusAccepted {
			outcome += fmt.Sprint(decode[httpapi.NewBatch](t, got).Created)
		} else if errs := decode[httpapi.Problem](t, got).Errors; len(errs) > 0 {
			outcome += errs[0].Field + " " + errs[0].Rule
		}
		if outcome != tt.want {
			t.Errorf("%s: got %s, want %s: %.300s", name, outcome, tt.want, got.body)
		}
	}
}

// One response lists everything that is wrong with a batch.
func TestBatchReportsEveryViolation(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	for name, tt := range map[string]struct{ contentType, query, body, want string }{
		"nothing":                {"application/json", "", `{}`, "400 mediaUrl required rows required"},
		"empty rows":             {"application/json", "", `{"rows":[]}`, "400 mediaUrl required rows required"},
		"several fields":         {"application/json", "", `{"from":"+1","priority":"x","validFor":1,"onError":"x"}`, "400 from sender validFor range priority one_of mediaUrl required rows required onError one_of"},
		"invalid onError":        {"application/json", "", `{"onError":"x","rows":[{"to":"+14155550123"}]}`, "400 mediaUrl required onError one_of"},
		"only invalid onError":   {"application/json", "", `{"mediaUrl":"https://example.com/a.jpg","onError":"x","rows":[{"to":"+14155550123"}]}`, "400 onError one_of"},
		"CSV without columns":    {"text/csv", "?from=x", "", "400 from sender mediaUrl required rows csv"},
		"CSV without to":         {"text/csv", "", "phone_book\n+14155550123\n", "400 mediaUrl required columns required"},
		"CSV without rows":       {"text/csv", "", "to\n", "400 mediaUrl required rows required"},
		"CSV without rows alone": {"text/csv", "?mediaUrl=https://example.com/a.jpg", "to\n", "400 rows required"},
	} {
		got := ada.doAs(tt.contentType, "POST", "/api/batches"+tt.query, tt.body)
		if outcome := outcomeOf(t, got); outcome != tt.want {
			t.Errorf("%s: got %s, want %s: %s", name, outcome, tt.want, got.body)
		}
	}
}

// FuzzBatch posts arbitrary JSON and CSV bodies. The response must never be a 5xx,
// and created messages must be valid.
func FuzzBatch(f *testing.F) {
	for _, seed := range []string{
		batchPrefix + `[{"to":"+14155550123","name":"Ada"}]}`, `{"rows":[[[[`, `{"rows":null}`, "to,name\n+14155550123,Ada\n", "\ufeffto\n\"", `{"rows":[{}],"rows":[{}]}`,
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	s := newSystem(f)
	ada := s.ada()
	f.Fuzz(func(t *testing.T, body string, asJSON bool) {
		c := &client{system: &system{t: t, handler: s.handler}, cookie: ada.cookie}
		contentType, query := "text/csv", "?mediaUrl=https://example.com/a.jpg&text=%7B%7Bname%7D%7D&onError=create_valid"
		if asJSON {
			contentType, query = "application/json", ""
		}
		got := c.doAs(contentType, "POST", "/api/batches"+query, body)
		if got.status != http.StatusAccepted && got.status != http.StatusBadRequest && got.status != http.StatusRequestEntityTooLarge {
			t.Fatalf("%d %s", got.status, got.body)
		}
		s.messages.mu.Lock()
		defer s.messages.mu.Unlock()
		for id, h := range s.messages.histories {
			if _, err := mms.ParseTypedPhoneNumber(string(h.Recipient)); err != nil || len(h.MediaURLs) == 0 {
				t.Errorf("created an invalid message %+v", h.Message)
			}
			delete(s.messages.histories, id)
		}
	})
}

// FuzzQuery sends arbitrary queries to the list and the export.
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
				continue // not a valid URL
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
		"dryRun": true, "to": "+14155550123", "from": "+14155550101", "priority": "normal", "metadata": map[string]any{"order": "17"},
		"ratePerMinute": 15.0, "ahead": 2.0, "estimatedSendAt": noon.Add(8 * time.Second).UTC().Format(time.RFC3339), "estimatedCost": "0.016000", "suppressed": false,
	}
	if diff := cmp.Diff(want, decode[map[string]any](t, got)); diff != "" || got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, diff)
	}
	if len(s.messages.histories) != 0 {
		t.Error("a dry run created a message")
	}
	if got := s.ada().do("POST", "/api/send-mms", strings.Replace(validSend, "{", `{"dryRun":true,"validFor":1,`, 1)); got.status != http.StatusBadRequest {
		t.Errorf("invalid message: got %d, want 400", got.status)
	}
}

// The fingerprint of a request does not depend on how its JSON is written.
func TestSendFingerprint(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var requests []mms.CreateRequest
	s.messages.onCreate = func(o mms.CreateRequest) { requests = append(requests, o) }
	for _, body := range []string{
		validSend, `{ "mediaUrl" : "https://example.com/a.jpg", "text":"h\u0065llo","to":"+14155550123"}`, strings.Replace(validSend, "hello", "Hello", 1),
	} {
		if got := s.ada().do("POST", "/api/send-mms", body, "Idempotency-Key", "k"); got.status != http.StatusAccepted {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	if requests[0].Idempotency != requests[1].Idempotency || requests[0].Idempotency.Key != "k" {
		t.Error("an equal request in other JSON has another fingerprint")
	}
	if requests[0].Idempotency == requests[2].Idempotency {
		t.Error("a request with another text has the same fingerprint")
	}
	var problem httpapi.Problem
	got := s.ada().do("POST", "/api/send-mms", validSend, "Idempotency-Key", strings.Repeat("k", 300))
	if err := json.Unmarshal([]byte(got.body), &problem); err != nil || got.status != http.StatusBadRequest || problem.Errors[0].Field != "Idempotency-Key" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestExportIsSentAgain uploads an exported file as a batch, as it is and as a spreadsheet
// saves it.
func TestExportIsSentAgain(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ada := s.ada()
	for _, text := range []string{"Hi", "=1+1, \"quoted\"\n'and more'", "'@home", "'tis", "José 😀"} {
		original := undelivered(s.users.users[0].ID)
		original.Text, original.MediaURLs = text, []string{"https://example.com/a.jpg", "https://example.com/b.jpg"}
		s.messages.put(original)
		export := ada.do("GET", "/api/messages/export", "").body
		s.messages.take(original.ID)
		rows, err := csv.NewReader(strings.NewReader(export)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		var saved strings.Builder
		w := csv.NewWriter(&saved)
		w.Comma, w.UseCRLF = ';', true
		_ = w.WriteAll(rows) // a Builder returns no error
		for name, file := range map[string]string{"as it is": export, "saved by a spreadsheet": "\ufeff" + saved.String()} {
			got := ada.doAs("text/csv", "POST", "/api/batches?text={{text}}&mediaUrl={{media_urls}}", file)
			if got.status != http.StatusAccepted {
				t.Fatalf("%q, %s: got %d %s", text, name, got.status, got.body)
			}
			s.messages.mu.Lock()
			for id, h := range s.messages.histories {
				want := []any{original.Recipient, original.Text, original.MediaURLs}
				if diff := cmp.Diff(want, []any{h.Recipient, h.Text, h.MediaURLs}); diff != "" {
					t.Errorf("%q, %s (-want +got):\n%s", text, name, diff)
				}
				delete(s.messages.histories, id)
			}
			s.messages.mu.Unlock()
		}
	}
}

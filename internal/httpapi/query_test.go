package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/mms"
)

// outcomeOf is the status and each violation as "field rule".
func outcomeOf(t testing.TB, got response) string {
	t.Helper()
	outcome := fmt.Sprint(got.status)
	if got.status == http.StatusBadRequest {
		for _, e := range decode[httpapi.Problem](t, got).Errors {
			outcome += " " + e.Field + " " + e.Rule
		}
	}
	return outcome
}

func TestQueryValues(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var page mms.Page
	s.messages.onPage = func(p mms.Page) { page = p }
	ada := s.ada()
	day := func(year int, month time.Month, day, hour int) time.Time {
		return time.Date(year, month, day, hour, 0, 0, 0, time.UTC)
	}
	id := uuid.MustParse("019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b")
	for query, want := range map[string]any{ // the filter or limit, or the outcome
		"to=%2B14155550123":                        mms.Filter{Recipient: "+14155550123"},
		"to=+14155550123":                          mms.Filter{Recipient: "+14155550123"},
		"from=+14155550100&to=+14155550123":        mms.Filter{Sender: "+14155550100", Recipient: "+14155550123"},
		"since=2026-01-01T00:00:00%2B01:00":        mms.Filter{Since: day(2025, 12, 31, 23)},
		"since=2026-01-01T00:00:00+01:00":          mms.Filter{Since: day(2025, 12, 31, 23)},
		"until=2026-01-01+00:00:00+01:00":          mms.Filter{Until: day(2025, 12, 31, 23)},
		"until=2026-01-01t00:00:00z":               mms.Filter{Until: day(2026, 1, 1, 0)},
		"since=0000-01-01T00:00:00Z":               mms.Filter{Since: day(2000, 1, 1, 0)},
		"since=0001-01-01T00:00:00Z":               mms.Filter{Since: day(2000, 1, 1, 0)},
		"until=9999-12-31T23:59:59-23:59":          mms.Filter{Until: day(2200, 1, 1, 0)},
		"until=0000-01-01T00:00:00%2B23:59":        mms.Filter{Until: day(2000, 1, 1, 0)},
		"since=&until=&to=&batch=&text=&status=":   mms.Filter{},
		"batch=" + strings.ToUpper(id.String()):    mms.Filter{Batch: id},
		"text=a+b%2Bc":                             mms.Filter{Text: "a b+c"},
		"metadata[a+b]=c+d":                        mms.Filter{Metadata: map[string]string{"a b": "c d"}},
		"text=%F0%9F%98%80":                        mms.Filter{Text: "😀"},
		"limit=10":                                 10,
		"limit=10.0":                               10,
		"limit=1e1":                                10,
		"limit=+10":                                10,
		"limit=0x10":                               "400 limit range",
		"limit=1_0":                                "400 limit range",
		"limit=10.5":                               "400 limit range",
		"since=2026-01-01T1:00:00Z":                "400 since time",
		"since=2026-01-01T00:00:00%2B24:00":        "400 since time",
		"since=2026-01-01T00:00:00+24:00":          "400 since time",
		"since=2026-01-01":                         "400 since time",
		"since=1767225600":                         "400 since time",
		"text=%00":                                 "400 text control",
		"text=%FF":                                 "400 text utf8",
		"text=%ED%A0%80":                           "400 text utf8", // a surrogate
		"to=%00":                                   "400 to control",
		"from=%FF&until=%00&status=%00&cursor=%00": "400 cursor control from utf8 status control until control",
		"batch=%00&limit=%00":                      "400 batch control limit control",
		"metadata[a]=%00":                          "400 metadata[a] control",
		"metadata[a]=%FF":                          "400 metadata[a] utf8",
		"metadata[%00]=a":                          "400 metadata. metadata_key",
		"%00=a":                                    "400 \x00 unknown",
		"text=" + strings.Repeat("x", 201):         "400 text max_length",
		"batch={" + id.String() + "}":              "400 batch uuid",
		"a;b=c":                                    "400 query syntax",
		"text=%":                                   "400 query syntax",
	} {
		for _, path := range []string{"/api/messages?", "/api/messages/export?"} {
			if path == "/api/messages/export?" && (strings.Contains(query, "limit") || strings.Contains(query, "cursor")) {
				continue
			}
			page = mms.Page{}
			got := ada.do("GET", path+query, "")
			var outcome any = outcomeOf(t, got)
			if got.status == http.StatusOK {
				if _, isLimit := want.(int); isLimit {
					outcome = page.Limit
				} else {
					page.Filter.Since, page.Filter.Until = page.Filter.Since.UTC(), page.Filter.Until.UTC()
					outcome = page.Filter
				}
			}
			if diff := cmp.Diff(want, outcome); diff != "" {
				t.Errorf("%s%s (-want +got):\n%s%s", path, query, diff, got.body)
			}
		}
	}
}

// A space in a rejected value may have been a plus sign.
func TestPlusHint(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	for query, want := range map[string]bool{
		"/api/messages?since=next+week": true, "/api/messages?to=+1": true, "/api/messages?batch=a+b": true, "/api/messages?status=a+b": true,
		"/api/messages?cursor=a+b": true, "/api/messages?limit=1+0": true, "/api/batches?cursor=a+b": true,
		"/api/messages?since=x": false, "/api/messages?status=x": false,
	} {
		got := ada.do("GET", query, "")
		if hinted := strings.Contains(got.body, "encode the plus sign as %2B"); got.status != 400 || hinted != want {
			t.Errorf("%s: got %d %s, want a hint: %t", query, got.status, got.body, want)
		}
	}
	for query, want := range map[string]string{
		"?mediaUrl=https://example.com/a.jpg&from=+14155550100":                    "202",
		"?mediaUrl=https://example.com/a.jpg&sendAt=2026-03-02T00:00:00+01:00":     "202",
		"?mediaUrl=https://example.com/a.jpg&from=&sendAt=&validFor=&priority=":    "202",
		"?mediaUrl=https://example.com/a.jpg&validFor=3600.0":                      "202",
		"?mediaUrl=https://example.com/a.jpg&priority=very+high":                   "400 priority hint",
		"?mediaUrl=https://example.com/a.jpg&text=%FF":                             "400 text",
		"?mediaUrl=https://example.com/a.jpg&text=%00":                             "400 text",
		"?mediaUrl=https://example.com/a.jpg&metadata[a]=1&metadata[a]=2":          "400 metadata[a]",
		"?mediaUrl=https://example.com/a.jpg&sendAt=next+week":                     "400 sendAt hint",
		"?mediaUrl=https://example.com/a.jpg&mediaUrl=https://example.com/b.jpg":   "400 mediaUrl",
		"?mediaUrls=https://example.com/a.jpg&mediaUrls=https://example.com/b.jpg": "202",
	} {
		got := ada.doAs("text/csv", "POST", "/api/batches"+query, "to\n+14155550123\n")
		outcome := fmt.Sprint(got.status)
		if got.status == 400 {
			e := decode[httpapi.Problem](t, got).Errors[0]
			outcome += " " + e.Field
			if strings.Contains(e.Message, "%2B") {
				outcome += " hint"
			}
		}
		if outcome != want {
			t.Errorf("%s: got %s, want %s: %s", query, outcome, want, got.body)
		}
	}
}

// What a client adds to a request must not be ignored: dryRun=true in the path of a
// request that sends would send.
func TestUnknownInputIsRejected(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	own := undelivered(s.users.users[0].ID)
	own.Recipient, own.MediaURLs = "+14155550123", []string{"https://example.com/a.jpg"}
	s.messages.put(own)
	ada := s.ada()
	message := "/api/messages/" + own.ID.String()
	for _, tt := range []struct{ request, body, contentType, want string }{
		{"POST /api/send-mms?dryRun=true", validSend, "application/json", "400 dryRun unknown"},
		{"POST /api/send-mms?", validSend, "application/json", "202"},
		{"POST /api/login?next=/", `{}`, "application/json", "400 next unknown"},
		{"GET /api/me?x", "", "", "400 x unknown"},
		{"GET " + message + "?wait=1s", "", "", "200"},
		{"GET " + message + "?Wait=1s", "", "", "400 Wait unknown"},
		{"GET " + message + "?wait=1s&wait=2s", "", "", "400 wait duplicate"},
		{"GET " + message + "?wait=%00", "", "", "400 wait control"},
		{"GET " + message + "?wait=%zz", "", "", "400 query syntax"},
		{"POST " + message + "/cancel", "", "application/x-www-form-urlencoded", "200"},
		{"POST " + message + "/cancel", "{}", "application/json", "200"},
		{"POST " + message + "/cancel", " null\n", "application/json", "200"},
		{"POST " + message + "/cancel", `{"reason":"typo"}`, "application/json", "400 reason unknown"},
		{"POST " + message + "/cancel", `reason=typo`, "application/x-www-form-urlencoded", "415"},
		{"POST " + message + "/cancel", `[]`, "application/json", "400 body object"},
		{"POST " + message + "/cancel?reason=typo", "", "", "400 reason unknown"},
		{"POST " + message + "/resend", `{}`, "application/json", "202"},
		{"POST " + message + "/resend", `{"text":"new","to":"+14155550199"}`, "application/json", "400 text unknown to unknown"},
		{"POST " + message + "/resend", `{"validFor":60}`, "", "400 validFor unknown"},
		{"POST /api/logout", `{"all":true}`, "application/json", "400 all unknown"},
	} {
		method, path, _ := strings.Cut(tt.request, " ")
		got := ada.doAs(tt.contentType, method, path, tt.body)
		if outcome := outcomeOf(t, got); outcome != tt.want {
			t.Errorf("%s %s: got %s, want %s: %s", tt.request, tt.body, outcome, tt.want, got.body)
		}
	}
}

// FuzzQueryValues sends arbitrary queries: no response is a 5xx, and a filter that is accepted
// can be stored and computed with.
func FuzzQueryValues(f *testing.F) {
	s := newSystem(f)
	var page mms.Page
	s.messages.onPage = func(p mms.Page) { page = p }
	for _, seed := range []string{"to=+14155550123&since=2026-01-01T00:00:00+01:00", "text=%00", "until=9999-12-31T23:59:60Z", "limit=1e1&metadata[a]=b", "batch=%FF", "cursor=AZzBJZWbcpGIsbDqHRiSNg"} {
		f.Add(seed)
	}
	ada := s.ada()
	f.Fuzz(func(t *testing.T, query string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/api/messages", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.RawQuery = query
		page = mms.Page{}
		got := (&client{system: &system{t: t, handler: s.handler}, cookie: ada.cookie}).send(r)
		if got.status != 200 && got.status != 400 {
			t.Errorf("%q: got %d %s", query, got.status, got.body)
		}
		for _, at := range []time.Time{page.Since, page.Until} {
			if got.status == 200 && !at.IsZero() && (at.Year() < 1999 || at.Year() > 2200) {
				t.Errorf("%q was read as %v", query, at)
			}
		}
		if got.status == 200 && (page.Limit < 1 || page.Limit > mms.MaxPage || strings.ContainsRune(page.Text, 0)) {
			t.Errorf("%q was read as %+v", query, page)
		}
	})
}

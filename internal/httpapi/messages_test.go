package httpapi_test

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// undelivered returns a message with attempts and events.
func undelivered(workspace uuid.UUID) mms.History {
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	final, finished := at(3), at(2)
	return mms.History{
		Message: mms.Message{
			ID: uuid.Must(uuid.NewV7()), Workspace: workspace, Sender: "+14155550100", Recipient: "+14155550123", Text: "hello",
			MediaURLs: []string{"https://example.com/a.jpg"}, Status: mms.Undelivered, Reason: mms.ReasonReported,
			PlivoUUID: "plivo-uuid", PlivoCode: "30", Attempts: 2, Priority: mms.Normal, Version: 5, CreatedAt: at(0), UpdatedAt: at(3), FinalAt: &final, ExpiresAt: at(180),
		},
		AttemptList: []mms.Attempt{
			{Ordinal: 1, Sender: "+14155550100", StartedAt: at(1), FinishedAt: &finished, Outcome: mms.TransientFailure, HTTPStatus: 429, Detail: "slow down"},
			{Ordinal: 2, Sender: "+14155550100", StartedAt: at(2), FinishedAt: nil},
		},
		Events: []mms.Event{
			{ID: 11, At: at(0), Kind: mms.EventCreated, Status: mms.Queued},
			{ID: 14, At: at(3), Kind: mms.EventReport, Status: mms.Undelivered, Attempt: 2, Detail: "undelivered, code 30"},
		},
	}
}

func TestGetMessage(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	h := undelivered(s.users.users[0].ID)
	s.messages.put(h)
	s.messages.replies = map[uuid.UUID][]mms.Inbound{h.ID: {{ID: uuid.UUID{15: 7}, Text: "Nice!", ReceivedAt: noon}}}
	got := s.ada().do("GET", "/api/messages/"+h.ID.String(), "")
	want := map[string]any{
		"id": h.ID.String(), "status": "undelivered", "statusTitle": "Not delivered", "final": true,
		"explanation": h.Explain(),
		"nextStep":    mms.ExplainPlivoCode("30").NextStep,
		"plivoCodeMeaning": map[string]any{
			"description": mms.ExplainPlivoCode("30").Description, "responsible": "message", "nextStep": mms.ExplainPlivoCode("30").NextStep,
		},
		"statusUrl": "/api/messages/" + h.ID.String(),
		"to":        "+14155550123", "from": "+14155550100", "text": "hello", "mediaUrls": []any{"https://example.com/a.jpg"},
		"priority": "normal", "reason": "reported", "plivoUuid": "plivo-uuid", "plivoCode": "30", "version": 5.0,
		"expiresAt": "2026-03-01T14:00:00Z", "createdAt": "2026-03-01T11:00:00Z", "updatedAt": "2026-03-01T11:03:00Z", "finalAt": "2026-03-01T11:03:00Z",
		"attempts": []any{
			map[string]any{
				"ordinal": 1.0, "startedAt": "2026-03-01T11:01:00Z", "finishedAt": "2026-03-01T11:02:00Z",
				"outcome": "transient_failure", "httpStatus": 429.0, "detail": "slow down",
			},
			map[string]any{"ordinal": 2.0, "startedAt": "2026-03-01T11:02:00Z"},
		},
		"replies": []any{
			map[string]any{"id": "00000000-0000-0000-0000-000000000007", "text": "Nice!", "mediaUrls": []any{}, "receivedAt": "2026-03-01T11:00:00Z"},
		},
		"events": []any{
			map[string]any{"id": 11.0, "at": "2026-03-01T11:00:00Z", "kind": "created", "status": "queued"},
			map[string]any{
				"id": 14.0, "at": "2026-03-01T11:03:00Z", "kind": "report", "status": "undelivered",
				"attempt": 2.0, "detail": "undelivered, code 30",
			},
		},
	}
	if diff := cmp.Diff(want, decode[map[string]any](t, got)); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{"ETag": `W/"5"`, "Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"} {
		if got := got.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestGetQueuedMessage(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	due := noon.Add(time.Minute)
	h := mms.History{Message: mms.Message{
		ID: uuid.Must(uuid.NewV7()), Workspace: s.users.users[0].ID, Status: mms.Queued, NextAttemptAt: &due, Version: 1,
	}}
	s.messages.put(h)
	got := decode[map[string]any](t, s.ada().do("GET", "/api/messages/"+h.ID.String(), ""))
	want := map[string]any{"nextAttemptAt": "2026-03-01T11:01:00Z", "attempts": []any{}, "events": []any{}, "mediaUrls": []any{}, "reason": nil}
	for name, want := range want {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestGetUnknownMessage(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	bobs, own := undelivered(s.users.users[1].ID), undelivered(s.users.users[0].ID)
	s.messages.put(bobs)
	s.messages.put(own)
	ada := s.ada()
	paths := map[string]string{
		"another user's": bobs.ID.String(),
		"unknown":        uuid.NewString(),
		"malformed":      "x",
		"braces":         url.PathEscape("{" + own.ID.String() + "}"),
		"without dashes": strings.ReplaceAll(own.ID.String(), "-", ""),
		"URN":            "urn:uuid:" + own.ID.String(),
		"nil":            uuid.Nil.String(),
	}
	for name, id := range paths {
		for _, condition := range []string{"", "*", `W/"5"`} {
			t.Run(name+" "+condition, func(t *testing.T) {
				t.Parallel()
				var headers []string
				if condition != "" {
					headers = []string{"If-None-Match", condition}
				}
				got := (&client{system: s, cookie: ada.cookie}).do("GET", "/api/messages/"+id, "", headers...)
				if diff := cmp.Diff(problem(404, "The message does not exist."), decode[map[string]any](t, got)); diff != "" {
					t.Error(diff)
				}
				if got.header.Get("ETag") != "" {
					t.Error("got 404 with an ETag")
				}
			})
		}
	}
}

func TestIfNoneMatch(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		headers []string // values of If-None-Match
		want    int
	}{
		"none":                    {nil, 200},
		"same":                    {[]string{`W/"5"`}, 304},
		"same, strong":            {[]string{`"5"`}, 304},
		"any":                     {[]string{"*"}, 304},
		"older":                   {[]string{`W/"4"`}, 200},
		"longer":                  {[]string{`W/"55"`}, 200},
		"list with escaped quote": {[]string{`W/"4", "x,\"y" , W/"5"`}, 200}, // tags have no escapes: the quote ends the tag
		"list with comma in tag":  {[]string{`W/"4", "x,y" ,, W/"5"`}, 304},
		"list without it":         {[]string{`W/"4","6"`}, 200},
		"two header lines":        {[]string{`W/"4"`, `W/"5"`}, 304},
		"without quotes":          {[]string{"5"}, 200},
		"lower-case w":            {[]string{`w/"5"`}, 200},
		"unclosed quote":          {[]string{`W/"5`}, 200},
		"empty":                   {[]string{""}, 200},
		"empty tag":               {[]string{`""`}, 200},
	}
	s := newSystem(t)
	ada := s.ada()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := undelivered(s.users.users[0].ID)
			s.messages.put(h)
			var headers []string
			for _, value := range c.headers {
				headers = append(headers, "If-None-Match", value)
			}
			got := (&client{system: s, cookie: ada.cookie}).do("GET", "/api/messages/"+h.ID.String(), "", headers...)
			if got.status != c.want || got.header.Get("ETag") != `W/"5"` {
				t.Fatalf("got %d with ETag %s, want %d", got.status, got.header.Get("ETag"), c.want)
			}
			if reads := s.messages.readsOf(h.ID); (reads == 0) != (c.want == http.StatusNotModified) {
				t.Errorf("got %d reads of the message for a %d", reads, c.want)
			}
			if (got.body == "") != (c.want == http.StatusNotModified) || got.header.Get("Cache-Control") != "private, no-cache" {
				t.Errorf("got %d with body %q and Cache-Control %q", c.want, got.body, got.header.Get("Cache-Control"))
			}
		})
	}
}

func TestListMessages(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	workspace := s.users.users[0].ID
	var ids []string // newest first
	for i := range 7 {
		h := mms.History{Message: mms.Message{ID: uuid.Must(uuid.NewV7()), Workspace: workspace, Status: mms.Queued, CreatedAt: noon}}
		if i == 2 {
			h.Status = mms.Failed
		}
		s.messages.put(h)
		ids = append([]string{h.ID.String()}, ids...)
	}
	s.messages.put(undelivered(s.users.users[1].ID)) // Bob's
	ada := s.ada()

	cases := map[string]struct {
		query string
		pages [][]string
	}{
		"no filter":        {"", [][]string{ids}},
		"empty values":     {"status=&limit=&cursor=", [][]string{ids}},
		"pages of three":   {"limit=3", [][]string{ids[:3], ids[3:6], ids[6:]}},
		"exactly one page": {"limit=7", [][]string{ids}},
		"failed":           {"status=failed", [][]string{ids[4:5]}},
		"queued in pages":  {"status=queued&limit=4", [][]string{ids[:4], {ids[5], ids[6]}}},
		"none":             {"status=delivered", [][]string{{}}},
		"largest page":     {"limit=100", [][]string{ids}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var pages [][]string
			for query := c.query; len(pages) <= len(c.pages); {
				got := (&client{system: s, cookie: ada.cookie}).do("GET", "/api/messages?"+query, "")
				list := decode[struct {
					Messages   []struct{ ID string }
					NextCursor string
				}](t, got)
				page := []string{}
				for _, m := range list.Messages {
					page = append(page, m.ID)
				}
				pages = append(pages, page)
				if list.NextCursor == "" {
					break
				}
				query = c.query + "&cursor=" + url.QueryEscape(list.NextCursor)
			}
			if diff := cmp.Diff(c.pages, pages); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestListIsNeverNull(t *testing.T) {
	t.Parallel()
	if got := newSystem(t).ada().do("GET", "/api/messages", ""); got.body != `{"messages":[]}` {
		t.Errorf("got %s", got.body)
	}
}

func TestListRejectsInvalidQueries(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	const known = "is not a known parameter; the known parameters are limit, cursor, status, to, from, since, until, text, batch, metadata[...]"
	limit := []string{"limit", "range", "must be an integer from 1 to 100"}
	cursor := []string{"cursor", "cursor", "must be the nextCursor of a previous page"}
	status := []string{"status", "one_of", "must be one of scheduled, queued, sending, in_doubt, submitted, sent, delivered, undelivered, failed, canceled"}
	cases := map[string]struct {
		query string
		want  []string
	}{
		"limit 0":            {"limit=0", limit},
		"limit negative":     {"limit=-1", limit},
		"limit too large":    {"limit=101", limit},
		"limit huge":         {"limit=99999999999999999999", limit},
		"limit not a number": {"limit=ten", limit},
		"limit with suffix":  {"limit=10x", limit},
		"status unknown":     {"status=lost", status},
		"status upper case":  {"status=Queued", status},
		"cursor malformed":   {"cursor=next", cursor},
		"cursor too short":   {"cursor=AAAA", cursor},
		"cursor of nil id":   {"cursor=AAAAAAAAAAAAAAAAAAAAAA", cursor},
		"cursor unencoded":   {"cursor=" + uuid.NewString(), cursor},
		"cursor, extra bits": {"cursor=AZzBJZWbcpGIsbDqHRiSNT", cursor},
		"unknown parameter":  {"stauts=queued", []string{"stauts", "unknown", known}},
		"duplicate":          {"limit=1&limit=2", []string{"limit", "duplicate", "is given more than once"}},
		"malformed query":    {"limit=%zz", []string{"query", "syntax", "must have the form name=value&name=value with percent-encoded special characters"}},
		"all at once":        {"status=x&limit=x&cursor=x&x=x", slices.Concat([]string{"x", "unknown", known}, status, limit, cursor)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := (&client{system: ada.system, cookie: ada.cookie}).do("GET", "/api/messages?"+c.query, "")
			detail := "1 field is invalid."
			if n := len(c.want) / 3; n > 1 {
				detail = fmt.Sprintf("%d fields are invalid.", n)
			}
			if diff := cmp.Diff(problem(400, detail, c.want...), decode[map[string]any](t, got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadFailures(t *testing.T) {
	t.Parallel()
	requests := map[string][]string{
		"list":        {"/api/messages"},
		"message":     {"/api/messages/" + uuid.NewString()},
		"conditional": {"/api/messages/" + uuid.NewString(), "If-None-Match", `W/"1"`},
	}
	s := newSystem(t)
	ada := s.ada()
	for name, r := range requests {
		for status, err := range map[int]error{500: errors.New("disk failure"), 503: fmt.Errorf("reading: %w", mms.ErrUnavailable)} {
			t.Run(name+" "+http.StatusText(status), func(t *testing.T) { // not parallel: the cases share the injected error
				s.logs.reset()
				s.messages.err = err
				checkOpaqueError(t, s, ada.do("GET", r[0], "", r[1:]...), status)
			})
		}
	}
}

// A disconnected client makes queries fail. That is no failure of the service.
func TestDisconnectIsNotLogged(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	c := s.ada()
	s.messages.err = errors.New("canceling statement due to user request")
	c.gone = true
	if got := c.do("GET", "/api/messages", ""); got.status != 500 || strings.Contains(s.logs.String(), "level=ERROR") {
		t.Errorf("got %d and the log:\n%s", got.status, s.logs)
	}
}

func TestExportEscapesFormulas(t *testing.T) {
	t.Parallel()
	values := map[string]string{ // to the exported cell
		"hello": "hello", "Total = 3": "Total = 3", "": "", "'quoted": "'quoted", "é": "é",
		"=1+0": "'=1+0", "+1": "'+1", "-1": "'-1", "@SUM(1)": "'@SUM(1)", "\tx": "'\tx", "\rx": "'\rx", "\n=1": "'\n=1",
		"＝1": "'＝1", "＋1": "'＋1", "－1": "'－1", "＠SUM(1)": "'＠SUM(1)",
	}
	for value, want := range values {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			h := undelivered(s.users.users[0].ID)
			h.Text, h.PlivoUUID, h.PlivoCode, h.Cost = value, value, value, value
			s.messages.put(h)
			rows, err := csv.NewReader(strings.NewReader(s.ada().do("GET", "/api/messages/export", "").body)).ReadAll()
			if err != nil || len(rows) != 2 {
				t.Fatalf("got %q, %v, want a header and a row", rows, err)
			}
			for i, column := range rows[0] {
				if slices.Contains([]string{"text", "plivo_uuid", "plivo_code", "cost"}, column) && rows[1][i] != want {
					t.Errorf("%s: got %q, want %q", column, rows[1][i], want)
				}
			}
		})
	}
}

package plivosim_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

type listPage struct {
	Meta struct {
		Limit      int     `json:"limit"`
		Offset     int     `json:"offset"`
		Next       *string `json:"next"`
		Previous   *string `json:"previous"`
		TotalCount int     `json:"total_count"`
	} `json:"meta"`
	Objects []listObject `json:"objects"`
}

type listObject struct {
	UUID string `json:"message_uuid"`
	To   string `json:"to_number"`
}

const messagesPath = "/v1/Account/" + authID + "/Message/"

func (b *bench) list(query string) response {
	b.t.Helper()
	return b.do(b.t.Context(), http.MethodGet, messagesPath+"?"+query, "")
}

func (b *bench) listed(query string) []listObject {
	b.t.Helper()
	return decode[listPage](b.t, b.list(query).body).Objects
}

func recipients(objects []listObject) string {
	var to []string
	for _, o := range objects {
		to = append(to, o.To[len(o.To)-2:])
	}
	return strings.Join(to, " ")
}

func TestGetMessage(t *testing.T) {
	t.Parallel()
	clock := newClock()
	b := start(t, func(c *plivosim.Config) { c.Now = clock.now })
	uuid := b.send(params("14155550112", map[string]any{"url": "https://example.com/x"})).uuids()[0]
	eventually(t, "the end", func() bool { return b.sim.Ledger()[0].State == plivosim.StateUndelivered })

	got := decode[map[string]any](t, b.do(t.Context(), http.MethodGet, messagesPath+uuid+"/", "").body)
	if got["api_id"] == "" {
		t.Error("got no api_id")
	}
	delete(got, "api_id")
	const stamp = "2026-01-15 15:50:30.123456+05:30"
	want := map[string]any{
		"message_uuid": uuid, "message_time": stamp, "message_sent_time": stamp, "message_updated_time": stamp,
		"message_direction": "outbound", "message_state": "undelivered", "message_type": "mms",
		"from_number": sender, "to_number": "14155550112", "units": 1.0,
		"total_rate": "0.01600", "total_amount": "0.01600", "error_code": "80", "powerpack_id": nil,
		"requester_ip": "127.0.0.1", "resource_uri": messagesPath + uuid + "/",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestGetErrorCode(t *testing.T) {
	t.Parallel()
	b := start(t)
	for to, want := range map[string]any{"14155550119": nil, "14155550111": "000", "14155550113": "30"} {
		uuid := b.send(params(to)).uuids()[0]
		eventually(t, "error_code of "+to, func() bool {
			got := decode[map[string]any](t, b.do(t.Context(), http.MethodGet, messagesPath+uuid+"/", "").body)
			return got["error_code"] == want
		})
	}
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	clock := newClock() // 2026-01-15 10:20:30.123456 UTC
	b := start(t, func(c *plivosim.Config) { c.Now, c.ListRate = clock.now, -1 })
	b.send(params("14155550111", map[string]any{"src": "14155550198"})) // 11: stays sent
	clock.advance(25 * time.Hour)
	b.send(params("14155550112"))                                                   // 12: undelivered, code 80
	clock.advance(time.Minute)                                                      // 11:21:30
	b.send(params("14155550119", map[string]any{"type": "sms", "media_urls": nil})) // 19: stays queued
	eventually(t, "final states", func() bool {
		all := b.sim.Ledger()
		return all[0].State == plivosim.StateSent && all[1].State == plivosim.StateUndelivered
	})

	tests := map[string]string{
		"":                                   "19 12",
		"message_time__gte=2026-01-01 00:00": "19 12 11",
		"message_time=2026-01-15 10:20:30.123456":                                        "11",
		"message_time__lt=2026-01-15 10:20:30.123456":                                    "",
		"message_time__lte=2026-01-15 10:20:30.123456":                                   "11",
		"message_time__gt=2026-01-16 11:20:30.123456":                                    "19",
		"message_time__gte=2026-01-16 11:20:30.123456":                                   "19 12",
		"message_time__gte=2026-01-15 10:20:30.123456&message_time__lt=2026-01-16 11:21": "12 11",
		"message_state=undelivered":                                                      "12",
		"message_state=queued":                                                           "19",
		"message_type=mms":                                                               "12",
		"message_direction=inbound":                                                      "",
		"message_direction=outbound":                                                     "19 12",
		"error_code=80":                                                                  "12",
		"to_number=14155550112":                                                          "12",
		"from_number=14155550198":                                                        "",
		"from_number=14155550198&message_time__gt=2026-01-01 00:00":                      "11",
		"subaccount=SAXXXX":                                                              "19 12",
	}
	for query, want := range tests {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := recipients(b.listed(values.Encode())); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
}

func TestListIgnoresNumberFiltersWhenConfigured(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) { c.IgnoreNumberFilters = true })
	b.send(params("14155550111"))
	if got := recipients(b.listed("to_number=14155550199&from_number=1")); got != "11" {
		t.Errorf("got recipients %q, want all", got)
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	b := start(t)
	for i := range 23 {
		b.send(params("1415555010" + strconv.Itoa(i%10)))
	}
	first := decode[listPage](t, b.list("").body)
	if got := len(first.Objects); got != 20 || first.Meta.Previous != nil || first.Meta.Next == nil {
		t.Fatalf("first page: got %d objects and meta %+v", got, first.Meta)
	}
	second := decode[listPage](t, b.do(t.Context(), http.MethodGet, *first.Meta.Next, "").body)
	want := listPage{Objects: second.Objects}
	previous := messagesPath + "?limit=20&offset=0"
	want.Meta.Limit, want.Meta.Offset, want.Meta.Previous = 20, 20, &previous
	want.Meta.TotalCount = len(b.sim.Ledger())
	if diff := cmp.Diff(want, second); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
	if got := len(first.Objects) + len(second.Objects); got != len(b.sim.Ledger()) {
		t.Errorf("got %d objects on both pages, want %d", got, len(b.sim.Ledger()))
	}
	if got := decode[listPage](t, b.list("offset=500&limit=3").body).Objects; len(got) != 0 {
		t.Errorf("got %d objects beyond the last page, want 0", len(got))
	}
}

func TestListRejectsInvalidQueries(t *testing.T) {
	t.Parallel()
	b := start(t)
	for query, want := range map[string]string{
		"limit=21":                             "limit must be between 1 and 20",
		"limit=0":                              "limit must be between 1 and 20",
		"limit=x":                              "limit must be between 1 and 20",
		"offset=-1":                            "offset must not be negative",
		"message_time__gt=2026-01-15T10:20Z":   "message_time__gt must be YYYY-MM-DD HH:MM[:ss[.uuuuuu]]",
		"message_time=2026-01-15%2010:20%2B01": "message_time must be YYYY-MM-DD HH:MM[:ss[.uuuuuu]]",
	} {
		got := b.list(query)
		if got.status != http.StatusBadRequest || got.errorText(t) != want {
			t.Errorf("%s: got %d %s", query, got.status, got.body)
		}
	}
}

func TestListRate(t *testing.T) {
	t.Parallel()
	clock := newClock()
	b := start(t, func(c *plivosim.Config) { c.Now = clock.now })
	for range 20 {
		if got := b.list(""); got.status != http.StatusOK {
			t.Fatalf("got status %d, want 200", got.status)
		}
	}
	got := b.list("")
	if got.status != http.StatusTooManyRequests || got.errorText(t) != "too many requests" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	clock.advance(time.Minute)
	if got := b.list(""); got.status != http.StatusOK {
		t.Errorf("after a minute: got status %d, want 200", got.status)
	}
}

func TestVisibilityLag(t *testing.T) {
	t.Parallel()
	clock := newClock()
	b := start(t, func(c *plivosim.Config) {
		c.Now, c.TimeScale, c.VisibilityLag = clock.now, 0.1, time.Minute
	})
	uuid := b.send(params(plain)).uuids()[0]
	look := func() (status, listed int) {
		return b.do(t.Context(), http.MethodGet, messagesPath+uuid+"/", "").status, len(b.listed(""))
	}
	clock.advance(6*time.Second - time.Millisecond)
	if status, listed := look(); status != http.StatusNotFound || listed != 0 {
		t.Errorf("before the lag: got status %d and %d listed, want 404 and 0", status, listed)
	}
	clock.advance(time.Millisecond)
	if status, listed := look(); status != http.StatusOK || listed != 1 {
		t.Errorf("after the lag: got status %d and %d listed, want 200 and 1", status, listed)
	}
}

func TestReadsContainNothingOfTheRequest(t *testing.T) {
	t.Parallel()
	b := start(t)
	uuid := b.send(params(plain, map[string]any{"url": "https://example.com/token-in-url"})).uuids()[0]
	for _, path := range []string{messagesPath, messagesPath + uuid + "/"} {
		body := b.do(t.Context(), http.MethodGet, path, "").body
		for _, secret := range []string{"token-in-url", "hello", "cat.jpg"} {
			if strings.Contains(body, secret) {
				t.Errorf("GET %s contains %q", path, secret)
			}
		}
	}
}

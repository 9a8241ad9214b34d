package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"

	"pgregory.net/rapid"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// TestRandomInput sends random, nearly valid requests to an api with a real
// database: no response is a 5xx, and a rejected request leaves no row.
func TestRandomInput(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, address := r.api("API_KEY_RATE=0")
	c := readContract(t, address)
	ada := c.person("ada.lovelace@example.com")
	key := c.newKey(ada, `"send","read"`)
	rows := func() int {
		return r.count(`SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM batches) + (SELECT count(*) FROM webhooks) + (SELECT count(*) FROM api_keys) + (SELECT count(*) FROM idempotency_keys)`)
	}
	hostile := rapid.OneOf(
		rapid.SampledFrom([]string{"", "+14155550123", "(415) 555-0123", "https://example.com/a.jpg", "high", "send", "2026-12-24T18:00:00Z", "9999-12-31T23:59:59+14:00",
			"a\x00b", "\ufeff", "\u202e", "😀", "'; DROP TABLE messages; --", "{{name}}", "%00", "\\", "null", "0001-01-01T00:00:00Z"}),
		rapid.StringN(0, 40, 200),
	)
	value := func(t *rapid.T, name string) any {
		return rapid.OneOf(
			rapid.Map(hostile, func(s string) any { return s }),
			rapid.Map(rapid.Int(), func(n int) any { return n }),
			rapid.Map(rapid.Bool(), func(b bool) any { return b }),
			rapid.Map(rapid.SliceOfN(hostile, 0, 3), func(l []string) any { return l }),
			rapid.Map(rapid.MapOfN(hostile, hostile, 0, 3), func(m map[string]string) any { return m }),
			rapid.Just[any](nil),
		).Draw(t, name)
	}
	forms := map[string]map[string]any{
		"/api/send-mms": {"to": "+14155550123", "mediaUrl": "https://example.com/a.jpg", "text": "", "from": "", "sendAt": "", "priority": "", "metadata": map[string]string{"a": "b"}, "validFor": 60, "dryRun": false},
		"/api/batches":  {"mediaUrl": "https://example.com/a.jpg", "text": "", "name": "", "onError": "", "metadata": map[string]string{"a": "{{to}}"}, "rows": []map[string]string{{"to": "+14155550123"}}},
		"/api/webhooks": {"url": "https://example.com/", "description": "", "statuses": []string{"sent"}},
		"/api/keys":     {"name": "x", "scopes": []string{"read"}, "dailyCap": 5, "expiresInDays": 5},
	}
	requests := 0
	rapid.Check(t, func(rt *rapid.T) {
		path := rapid.SampledFrom([]string{"/api/send-mms", "/api/send-mms", "/api/batches", "/api/webhooks", "/api/keys"}).Draw(rt, "path")
		body := map[string]any{}
		for field, valid := range forms[path] {
			if !rapid.Bool().Draw(rt, "given "+field) {
				continue
			}
			body[field] = valid
			if rapid.IntRange(0, 4).Draw(rt, "hostile "+field) == 0 {
				body[field] = value(rt, field)
			}
		}
		request, err := json.Marshal(body)
		if err != nil {
			rt.Fatal(err)
		}
		before := rows()
		submitter := ada
		if path == "/api/send-mms" || path == "/api/batches" {
			submitter = key
		}
		status, _, text := submitter.do("POST", path, string(request))
		requests++
		if status >= http.StatusInternalServerError {
			rt.Fatalf("POST %s %s: %d %s", path, request, status, text)
		}
		if after := rows(); status >= http.StatusBadRequest && after != before {
			rt.Fatalf("POST %s %s was rejected with %d but left %d rows", path, request, status, after-before)
		}
		query := url.Values{}
		for _, name := range []string{"status", "to", "since", "text", "batch", "metadata[a]", "limit", "cursor"} {
			if rapid.IntRange(0, 2).Draw(rt, "query "+name) == 0 {
				query.Set(name, hostile.Draw(rt, name))
			}
		}
		if status, _, text := key.do("GET", "/api/messages?"+query.Encode(), ""); status >= http.StatusInternalServerError {
			rt.Fatalf("GET %s: %d %s", query.Encode(), status, text)
		}
	})
	if requests < 50 {
		t.Errorf("got %d requests, want at least 50", requests)
	}
}

package httpapi_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/mms"
)

const validSend = `{"to":"+14155550123","text":"hello","mediaUrl":"https://example.com/a.jpg"}`

func TestSend(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *httpapi.Options) { o.PublicURL = "https://postcard.example.com" })
	got := s.ada().do("POST", "/api/send-mms", validSend)
	if got.status != http.StatusAccepted {
		t.Fatalf("%d %s", got.status, got.body)
	}
	body := decode[map[string]any](t, got)
	id, _ := body["id"].(string)
	want := map[string]any{
		"id": id, "status": "queued", "statusTitle": "Queued", "final": false, "version": 1.0,
		"explanation": "The message is stored and waiting to be sent.",
		"statusUrl":   "https://postcard.example.com/api/messages/" + id,
		"to":          "+14155550123", "from": "+14155550101", "text": "hello",
		"mediaUrls": []any{"https://example.com/a.jpg"},
		"expiresAt": "2026-03-01T14:00:00Z", "createdAt": "2026-03-01T11:00:00Z", "updatedAt": "2026-03-01T11:00:00Z",
		"simulated": false, "priority": "normal", "fit": "auto",
	}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Error(diff)
	}
	headers := map[string]string{
		"Location": "/api/messages/" + id, "Content-Type": "application/json",
		"Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie", "Postcard-Simulated": "", "Link": "",
	}
	for name, want := range headers {
		if got := got.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	stored := s.messages.histories[uuid.MustParse(id)]
	if stored.Workspace != s.users.users[0].ID {
		t.Errorf("got workspace %v, want Ada", stored.Workspace)
	}
}

// TestLinksHaveThePathOfThePublicURL sends requests without it: it is removed before.
func TestLinksHaveThePathOfThePublicURL(t *testing.T) {
	t.Parallel()
	const public, path = "https://example.com/postcard", "/postcard"
	s := newSystem(t, func(o *httpapi.Options) { o.PublicURL = public })
	for name, c := range map[string]struct{ path, body, links string }{
		"message": {"/api/send-mms", validSend, "/api/messages/"},
		"batch":   {"/api/batches", `{"text":"hello","mediaUrl":"https://example.com/a.jpg","rows":[{"to":"+14155550123"}]}`, "/api/batches/"},
	} {
		got := s.ada().do("POST", c.path, c.body)
		body := decode[struct{ ID, StatusURL, MessagesURL string }](t, got)
		if body.StatusURL != public+c.links+body.ID || got.header.Get("Location") != path+c.links+body.ID {
			t.Errorf("%s: got %d %s with Location %q", name, got.status, got.body, got.header.Get("Location"))
		}
		if want := public + "/api/messages?batch=" + body.ID; name == "batch" && body.MessagesURL != want {
			t.Errorf("%s: got messagesUrl %s, want %s", name, body.MessagesURL, want)
		}
	}
	if got := s.ada().do("GET", "/api/nothing", ""); !strings.Contains(got.body, "See /postcard/docs or /postcard/openapi.json") {
		t.Errorf("unknown path: got %s", got.body)
	}
	if doc := s.ada().do("GET", "/openapi.json", ""); !strings.Contains(doc.body, `"servers":[{"url":"https://example.com/postcard"}]`) {
		t.Error("the description lacks the server's path")
	}
	docs := httptest.NewRecorder()
	httpapi.NewDocs(path).ServeHTTP(docs, httptest.NewRequest(http.MethodGet, "/docs", nil))
	for _, want := range []string{`href="/postcard/docs/swagger-ui.css"`, `"/postcard/openapi.json"`} {
		if !strings.Contains(docs.Body.String(), want) {
			t.Errorf("/docs lacks %s", want)
		}
	}
	file := httptest.NewRecorder()
	httpapi.NewDocs(path).ServeHTTP(file, httptest.NewRequest(http.MethodGet, "/docs/swagger-ui.css", nil))
	if file.Code != http.StatusOK {
		t.Errorf("/docs/swagger-ui.css: got %d, want 200", file.Code)
	}
}

func TestSendSimulated(t *testing.T) {
	t.Parallel()
	got := newSystem(t, func(o *httpapi.Options) { o.Simulated = true }).ada().do("POST", "/api/send-mms", validSend)
	body := decode[map[string]any](t, got)
	if got.header.Get("Postcard-Simulated") != "true" || body["simulated"] != true {
		t.Errorf("the response is not marked as simulated: %v %s", got.header, got.body)
	}
}

// violations builds the errors of a 400 from triples of field, rule and message.
func violations(field, rule, message string, more ...string) []httpapi.FieldError {
	list := []httpapi.FieldError{{Field: field, Rule: rule, Message: message}}
	for i := 0; i < len(more); i += 3 {
		list = append(list, httpapi.FieldError{Field: more[i], Rule: more[i+1], Message: more[i+2]})
	}
	return list
}

const (
	errE164      = "has 3 digits: a number in the US or Canada has 10, with its area code, and a number of another country begins with a plus sign"
	errUnknown   = "is not a known field; the known fields are to, text, mediaUrl, mediaUrls, mediaIds, fit, from, sendAt, validFor, priority, metadata, dryRun"
	errSurrogate = "contains an unpaired surrogate"
	errNUL       = `must not contain NUL characters (\u0000)`
	errNoTo      = "is missing: enter the recipient's phone number"
	errNoMedia   = "is missing: a picture message needs at least one picture"
	errScheme    = "must start with http:// or https://"
)

func TestSendRejectsInvalidBodies(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	cases := map[string]struct {
		body string
		want []httpapi.FieldError
	}{
		"empty":           {"", violations("body", "required", "is empty: it must be a JSON object")},
		"blank":           {" \n\t", violations("body", "required", "is empty: it must be a JSON object")},
		"null":            {"null", violations("body", "object", "must be a JSON object, not null")},
		"array":           {"[" + validSend + "]", violations("body", "object", "must be a JSON object, not a list")},
		"string":          {`"hello"`, violations("body", "object", "must be a JSON object, not a string")},
		"number":          {`-1`, violations("body", "object", "must be a JSON object, not a number")},
		"boolean":         {`true`, violations("body", "object", "must be a JSON object, not a boolean")},
		"form":            {"to=1", violations("body", "json", "is not valid JSON: invalid character 'o' in literal true (expecting 'r') (byte 2)")},
		"truncated":       {validSend[:20], violations("body", "json", "is not valid JSON: unexpected end of JSON input (byte 20)")},
		"trailing object": {validSend + "{}", violations("body", "json", "is not valid JSON: invalid character '{' after top-level value (byte "+strconv.Itoa(len(validSend)+1)+")")},
		"trailing comma":  {`{"to":"+14155550123",}`, violations("body", "json", "is not valid JSON: invalid character '}' looking for beginning of object key string (byte 22)")},
		"comment":         {`{/* */}`, violations("body", "json", "is not valid JSON: invalid character '/' looking for beginning of object key string (byte 2)")},
		"two marks":       {"\ufeff\ufeff" + validSend, violations("body", "json", "is not valid JSON: invalid character 'ï' looking for beginning of value (byte 1)")},
		"deep":            {strings.Repeat("[", 20000), violations("body", "json", "is not valid JSON: invalid character '[' exceeded max depth (byte 10001)")},
		"invalid UTF-8":   {`{"to":"+14155550123","text":"` + "\xff" + `"}`, violations("body", "utf8", "must be valid UTF-8")},
		"unpaired surrogates": {
			`{"to":"\ud83d","text":"\udc00 \ud83d\ude00","mediaUrl":"\\ud83d","from":"\ud83dx"}`,
			violations("to", "utf8", errSurrogate, "text", "utf8", errSurrogate, "from", "utf8", errSurrogate),
		},
		"unpaired surrogate in a name": {
			`{"metadata":{"a":"","\ud83d":"x"}}`, violations("metadata", "utf8", "must not contain names with an unpaired surrogate"),
		},
		"unknown names": {
			`{"To":"+14155550123","media_url":"x","mediaUrl":"https://example.com/a.jpg","":1}`,
			violations("To", "unknown", errUnknown, "media_url", "unknown", errUnknown, "", "unknown", errUnknown),
		},
		"long unknown name": {`{"` + strings.Repeat("é", 100) + `":1}`, violations(strings.Repeat("é", 32), "unknown", errUnknown)},
		"duplicate name": {
			`{"to":"+14155550123","to":"+14155550124","mediaUrl":"https://example.com/a.jpg"}`,
			violations("to", "duplicate", "is given more than once"),
		},
		"wrong types": {
			`{"to":14155550123,"text":null,"mediaUrl":["x"],"mediaUrls":"x","from":{}}`,
			violations("to", "type", "must be a string, not a number", "mediaUrl", "type", "must be a string, not a list",
				"mediaUrls", "type", "must be a list of strings, not a string", "from", "type", "must be a string, not an object"),
		},
		"wrong types in a list": {
			`{"to":"+14155550123","mediaUrls":["https://example.com/a.jpg",null,false,"\ud83d"]}`,
			violations("mediaUrls[1]", "type", "must be a string, not null", "mediaUrls[2]", "type", "must be a string, not a boolean",
				"mediaUrls[3]", "utf8", errSurrogate),
		},
		"string as number":    {`{"validFor":"60"}`, violations("validFor", "type", "must be an integer, not a string")},
		"fraction":            {`{"validFor":60.5}`, violations("validFor", "type", "must be an integer")},
		"number out of range": {`{"validFor":1e99}`, violations("validFor", "type", "must be an integer")},
		"null everywhere": {
			`{"to":null,"text":null,"mediaUrl":null,"mediaUrls":null,"from":null,"sendAt":null,"validFor":null,"priority":null,"metadata":null,"dryRun":null}`,
			violations("to", "required", errNoTo, "mediaUrl", "required", errNoMedia),
		},
		"null twice":   {`{"text":null,"text":null}`, violations("text", "duplicate", "is given more than once")},
		"empty object": {`{}`, violations("to", "required", errNoTo, "mediaUrl", "required", errNoMedia)},
		"every field invalid": {
			`{"to":"123","text":"` + strings.Repeat("x", mms.MaxText+1) + `","mediaUrl":"ftp://x"}`,
			violations("to", "e164", errE164, "text", "max_length", "must be at most 1600 characters long (it has 1601)",
				"mediaUrl", "media_url", errScheme),
		},
		"some pictures invalid": {
			`{"to":"+14155550123","mediaUrls":["https://example.com/a.jpg","ftp://x","x"]}`,
			violations("mediaUrls[1]", "media_url", errScheme, "mediaUrls[2]", "media_url", errScheme),
		},
		"mediaUrl and mediaUrls": {
			`{"to":"+14155550123","mediaUrl":"https://example.com/a.jpg","mediaUrls":["https://example.com/a.jpg"]}`,
			violations("mediaUrls", "exclusive", "must not be given together with mediaUrl: use one of the two"),
		},
		"eleven pictures": {
			`{"to":"+14155550123","mediaUrls":["x"` + strings.Repeat(`,"x"`, 10) + `]}`,
			violations("mediaUrls", "max_items", "must list at most 10 pictures, with those of mediaIds"),
		},
		"unknown sender": {
			`{"to":"+14155550123","mediaUrl":"https://example.com/a.jpg","from":"+14155550999"}`,
			violations("from", "sender", "is not one of the senders of this installation"),
		},
		"NUL in the text": {
			`{"to":"+14155550123","text":"a\u0000b","mediaUrl":"https://example.com/a.jpg"}`,
			violations("text", "control", errNUL),
		},
		"NUL everywhere": {
			`{"to":"\u0000","text":"\u0000","mediaUrl":"\u0000","mediaUrls":["\u0000"],"from":"+1\u0000","sendAt":"\u0000","priority":"\u0000","metadata":{"a":"\u0000"}}`,
			violations("to", "control", errNUL, "text", "control", errNUL, "mediaUrl", "control", errNUL, "mediaUrls[0]", "control", errNUL,
				"from", "control", errNUL, "sendAt", "control", errNUL, "priority", "control", errNUL, "metadata.a", "control", errNUL),
		},
		"another control character": {
			`{"to":"+14155550123","text":"a\u0007b","mediaUrl":"https://example.com/a.jpg"}`,
			violations("text", "control", "must not contain control characters other than line breaks"),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := (&client{system: ada.system, cookie: ada.cookie}).do("POST", "/api/send-mms", c.body)
			detail := "1 field is invalid."
			if len(c.want) > 1 {
				detail = fmt.Sprintf("%d fields are invalid.", len(c.want))
			}
			want := map[string]any{"title": "Bad Request", "status": 400.0, "detail": detail, "requestId": "test-request"}
			var list []any
			for _, f := range c.want {
				list = append(list, map[string]any{"field": f.Field, "rule": f.Rule, "message": f.Message})
			}
			want["errors"] = list
			if diff := cmp.Diff(want, decode[map[string]any](t, got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSendLimitsListedViolations(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	names, list := `{"x0":1`, `{"mediaUrls":[1`
	for i := range 5000 {
		names += fmt.Sprintf(`,"x%d":1`, i+1)
		list += ",1"
	}
	for _, body := range []string{names + "}", list + "]}"} {
		got := ada.do("POST", "/api/send-mms", body)
		if p := decode[httpapi.Problem](t, got); got.status != 400 || len(p.Errors) != 50 {
			t.Errorf("got %d with %d errors, want 400 with 50", got.status, len(p.Errors))
		}
	}
}

func TestSendBodySize(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	pad := func(size int) string { return validSend + strings.Repeat(" ", size-len(validSend)) }
	if got := ada.do("POST", "/api/send-mms", pad(64<<10)); got.status != http.StatusAccepted {
		t.Errorf("64 KiB: got %d %s, want 202", got.status, got.body)
	}
	if got := ada.do("POST", "/api/send-mms", pad(64<<10+1)); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("64 KiB and 1 byte: got %d %s, want 413", got.status, got.body)
	}
}

// TestByteOrderMark expects a mark to be ignored only where a body begins.
func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	for body, want := range map[string]int{
		"\ufeff" + validSend:       202,
		"\ufeff\r\n" + validSend:   202,
		"\ufeff\ufeff" + validSend: 400,
		validSend + "\ufeff":       400,
		"\ufeff":                   400,
		"\xff\xfe{\x00}\x00":       400, // UTF-16
	} {
		if got := ada.do("POST", "/api/send-mms", body); got.status != want {
			t.Errorf("%q: got %d %s, want %d", body, got.status, got.body, want)
		}
	}
}

func TestSendContentTypes(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	cases := map[string]int{
		"":                                   202, // a client that sets none
		"application/json":                   202,
		"application/json; charset=utf-8":    202,
		"Application/JSON;charset=\"UTF-8\"": 202,
		"application/json; charset=latin1":   415,
		"application/x-www-form-urlencoded":  415, // the default of curl -d
		"multipart/form-data; boundary=x":    415,
		"text/plain":                         415, // any site can make a browser send it
		"application/problem+json":           415,
		"json":                               415,
		"/;":                                 415,
	}
	for contentType, want := range cases {
		t.Run(contentType, func(t *testing.T) {
			t.Parallel()
			c := &client{system: ada.system, cookie: ada.cookie}
			if got := c.doAs(contentType, "POST", "/api/send-mms", validSend); got.status != want {
				t.Errorf("got %d, want %d: %s", got.status, want, got.body)
			}
		})
	}
}

func TestSendFailures(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		err    error
		status int
	}{
		"unknown":     {errors.New("pq: relation +14155550123 does not exist"), 500},
		"unavailable": {fmt.Errorf("creating a message: %w: connection refused", mms.ErrUnavailable), 503},
	}
	s := newSystem(t)
	ada := s.ada()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { // not parallel: the cases share the injected error
			s.logs.reset()
			s.messages.err = c.err
			got := ada.do("POST", "/api/send-mms", validSend)
			checkOpaqueError(t, s, got, c.status)
		})
	}
}

// checkOpaqueError checks that the response exposes no details and that the error is
// logged once.
func checkOpaqueError(t *testing.T, s *system, got response, status int) {
	t.Helper()
	if got.status != status || strings.Contains(got.body, "pq:") || strings.Contains(got.body, "refused") || strings.Contains(got.body, "disk") {
		t.Errorf("got %d %s, want %d without details", got.status, got.body, status)
	}
	if (got.header.Get("Retry-After") != "") != (status == http.StatusServiceUnavailable) {
		t.Errorf("Retry-After is %q with %d", got.header.Get("Retry-After"), status)
	}
	logs := s.logs.String()
	if strings.Count(logs, "level=ERROR") != 1 || !strings.Contains(logs, "request_id=test-request") {
		t.Errorf("got log:\n%s\nwant one error with the request id", logs)
	}
}

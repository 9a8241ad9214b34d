package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/mms"
)

// RFC 9562 lets ids be read in any case. Postcard writes them in lower case.
func TestIDsInAnyCase(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	own := undelivered(s.users.users[0].ID)
	own.Recipient, own.MediaURLs = "+14155550123", []string{"https://example.com/a.jpg"}
	s.messages.put(own)
	var fingerprints [][32]byte
	s.messages.onCreate = func(r mms.CreateRequest) { fingerprints = append(fingerprints, r.Idempotency.Fingerprint) }
	ada := s.ada()
	lower := own.ID.String()
	for _, id := range []string{lower, strings.ToUpper(lower), strings.ToUpper(lower[:18]) + lower[18:]} {
		for path, want := range map[string]int{"": 200, "/cancel": 200, "/resend": 202, "/decision": 409} {
			method, body := "POST", ""
			switch path {
			case "":
				method = "GET"
			case "/decision":
				body = `{"decision":"retry"}`
			}
			got := ada.do(method, "/api/messages/"+id+path, body)
			if got.status != want || got.status == 200 && decode[httpapi.Message](t, got).ID != own.ID {
				t.Errorf("%s %s%s: got %d %s, want %d", method, id, path, got.status, got.body, want)
			}
		}
		if got := ada.do("GET", "/api/messages?batch="+id, ""); got.status != http.StatusOK {
			t.Errorf("batch=%s: got %d %s", id, got.status, got.body)
		}
	}
	for _, fingerprint := range fingerprints {
		if fingerprint != fingerprints[0] {
			t.Error("a resend has another fingerprint when its id is written in another case")
		}
	}
}

func TestIntegers(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var validFor time.Duration
	s.messages.onCreate = func(r mms.CreateRequest) { validFor = r.ValidFor }
	ada := s.ada()
	const isType = "400 type must be an integer"
	const isRange = "400 range must be from 60 to 2592000 seconds"
	for number, want := range map[string]string{
		"3600": "202 3600", "3600.0": "202 3600", "3600.000": "202 3600", "3.6e3": "202 3600", "3.6E+3": "202 3600", "36000e-1": "202 3600",
		"0.36e4": "202 3600", "null": "202 10800", "60.0": "202 60",
		"3600.5": isType, "3.6001e2": isType, "1e-1": isType, "1e99": isType, "1e999": isType, "1e-999": isRange, "9007199254740993": isRange,
		"99999999999999999999": isType, "-3600": isRange, "-3600.0": isRange, "0": isRange, "-0.0": isRange, "59.0": isRange,
		`"3600"`: isType + ", not a string", "true": isType + ", not a boolean", "[3600]": isType + ", not a list",
	} {
		validFor = 0
		got := ada.do("POST", "/api/send-mms", strings.TrimSuffix(validSend, "}")+`,"validFor":`+number+"}")
		outcome := fmt.Sprint(got.status, " ", validFor.Seconds())
		if got.status == http.StatusBadRequest {
			e := decode[httpapi.Problem](t, got).Errors[0]
			outcome = fmt.Sprint("400 ", e.Rule, " ", e.Message)
		}
		if outcome != want {
			t.Errorf("%s: got %s, want %s", number, outcome, want)
		}
	}
}

// Every optional field can be null.
func TestNullCountsAsAbsent(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var created mms.Message
	s.messages.onCreate = func(r mms.CreateRequest) { created = r.Message }
	ada := s.ada()
	for body, want := range map[string]int{
		`{"to":"+14155550123","mediaUrl":"https://example.com/a.jpg","text":null,"mediaUrls":null,"from":null,"sendAt":null,"validFor":null,"priority":null,"metadata":null,"dryRun":null}`: 202,
		`{"to":"+14155550123","mediaUrl":null,"mediaUrls":["https://example.com/a.jpg"],"metadata":{"a":null}}`:                                                                             202,
		`{"to":"+14155550123","mediaUrls":["https://example.com/a.jpg",null]}`:                                                                                                              400,
	} {
		created = mms.Message{}
		got := ada.do("POST", "/api/send-mms", body)
		if got.status != want || want == 202 && (created.ValidFor != mms.DefaultValidFor || created.Priority != mms.Normal || len(created.Metadata) > 0 || len(created.MediaURLs) != 1) {
			t.Errorf("%s: got %d %s and created %+v, want %d", body, got.status, got.body, created, want)
		}
	}
	for path, body := range map[string]string{
		"/api/batches": `{"name":null,"text":null,"mediaUrl":"https://example.com/a.jpg","mediaUrls":null,"from":null,"sendAt":null,"validFor":null,"priority":null,"metadata":null,"onError":null,"rows":[{"to":"+14155550123"}]}`,
	} {
		if got := ada.do("POST", path, body); got.status != http.StatusAccepted {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
	}
	if got := ada.do("POST", "/api/login", `{"email":null,"password":null}`); got.status != 400 || len(decode[httpapi.Problem](t, got).Errors) != 2 {
		t.Errorf("login without values: got %d %s, want 400 with two errors", got.status, got.body)
	}
}

// FuzzIDs reads arbitrary paths: no id but the message's own finds it.
func FuzzIDs(f *testing.F) {
	s := newSystem(f)
	own := undelivered(s.users.users[0].ID)
	own.ID = uuid.MustParse("019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b")
	s.messages.put(own)
	for _, seed := range []string{own.ID.String(), strings.ToUpper(own.ID.String()), "{" + own.ID.String() + "}", "urn:uuid:" + own.ID.String(), "x", "", "\x00", "019a2b3c4d5e7f608a9b0c1d2e3f4a5b"} {
		f.Add(seed)
	}
	ada := s.ada()
	f.Fuzz(func(t *testing.T, id string) {
		got := (&client{system: &system{t: t, handler: s.handler}, cookie: ada.cookie}).do("GET", "/api/messages/"+pathEscape(id), "")
		if found := strings.EqualFold(id, own.ID.String()); found != (got.status == 200) && id != "" {
			t.Errorf("%q: got %d", id, got.status)
		}
		if got.status >= 500 {
			t.Errorf("%q: got %d %s", id, got.status, got.body)
		}
	})
}

// pathEscape encodes every byte, so that an id cannot be taken for several segments.
func pathEscape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

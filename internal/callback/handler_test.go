package callback_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/callback"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/plivosim"
)

const (
	publicURL = "https://mms.example.com"
	authToken = "test_auth_token_0001"
	secret    = "secret-callback-token"
)

// desk plays receipts.
type desk struct {
	err error
	got []mms.Report

	inbound []mms.Inbound
	mayLift bool
}

func (d *desk) Apply(_ context.Context, r mms.Report) error {
	d.got = append(d.got, r)
	return d.err
}

func (d *desk) RecordInbound(_ context.Context, in mms.Inbound, mayLift bool) (bool, error) {
	in.ID = uuid.Nil
	d.inbound, d.mayLift = append(d.inbound, in), mayLift
	return true, d.err
}

// ask has the webhook answer, and returns the answer, what receipts got, how the
// callback was counted and what was logged.
func ask(t *testing.T, d *desk, r *http.Request) (answer *httptest.ResponseRecorder, counted []string, log string) {
	t.Helper()
	var out strings.Builder
	handler := callback.New(callback.Options{
		Verifier: plivo.Verifier{Tokens: []string{authToken}, PublicURL: publicURL},
		Reports:  d,
		Inbox:    d,
		Count:    func(result string) { counted = append(counted, result) },
		Logger:   slog.New(slog.NewTextHandler(&out, nil)),
	})
	answer = httptest.NewRecorder()
	handler.ServeHTTP(answer, r)
	return answer, counted, out.String()
}

func fields() url.Values {
	return url.Values{"MessageUUID": {"u-1"}, "Status": {"delivered"}, "To": {"14155550123"}, "Colour": {"blue"}}
}

// post is a callback as Plivo makes it, signed with V3 by an implementation of
// its own.
func post(form url.Values) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://10.0.0.1"+callback.StatusPath(secret), strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Plivo-Signature-V3-Nonce", "1")
	r.Header.Set("X-Plivo-Signature-Ma-V3", plivosim.SignV3(authToken, http.MethodPost, publicURL+callback.StatusPath(secret), "1", form))
	return r
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	get := httptest.NewRequest(http.MethodGet, "http://10.0.0.1"+callback.StatusPath(secret)+"?"+fields().Encode(), nil)
	get.Header.Set("X-Plivo-Signature-V3-Nonce", "1")
	get.Header.Set("X-Plivo-Signature-V3", plivosim.SignV3(authToken, http.MethodGet, publicURL+callback.StatusPath(secret), "1", fields()))
	v2 := post(fields())
	v2.Header = http.Header{"Content-Type": v2.Header["Content-Type"], "X-Plivo-Signature-V2-Nonce": {"1"},
		"X-Plivo-Signature-V2": {plivosim.SignV2(authToken, publicURL+callback.StatusPath(secret), "1")}}
	forged := post(fields())
	forged.Header.Set("X-Plivo-Signature-Ma-V3", "Zm9yZ2Vk")
	unsigned := post(fields())
	unsigned.Header = http.Header{"Content-Type": unsigned.Header["Content-Type"]}
	broken := post(url.Values{})
	broken.Body = http.NoBody
	broken.URL.RawQuery = "%zz"
	long := post(url.Values{"MessageUUID": {strings.Repeat("x", 1<<17)}})

	proven := mms.Report{Token: secret, PlivoUUID: "u-1", State: "delivered", Proven: true}
	unproven := proven
	unproven.Proven = false
	tests := map[string]struct {
		request *http.Request
		err     error
		status  int
		result  string
		applied []mms.Report
	}{
		"signed with V3":        {post(fields()), nil, http.StatusOK, "applied", []mms.Report{proven}},
		"a GET":                 {get, nil, http.StatusOK, "applied", []mms.Report{proven}},
		"signed with V2":        {v2, nil, http.StatusOK, "applied", []mms.Report{unproven}},
		"forged":                {forged, nil, http.StatusForbidden, "bad_signature", nil},
		"unsigned":              {unsigned, nil, http.StatusForbidden, "bad_signature", nil},
		"nothing readable":      {broken, nil, http.StatusBadRequest, "unreadable", nil},
		"too long":              {long, nil, http.StatusBadRequest, "unreadable", nil},
		"fields missing":        {post(url.Values{"Status": {"sent"}}), nil, http.StatusBadRequest, "unreadable", nil},
		"a token nobody has":    {post(fields()), mms.ErrNotFound, http.StatusNotFound, "unknown", []mms.Report{proven}},
		"of another message":    {post(fields()), callback.ErrMismatch, http.StatusForbidden, "mismatch", []mms.Report{proven}},
		"the database is away":  {post(fields()), mms.ErrUnavailable, http.StatusInternalServerError, "failed", []mms.Report{proven}},
		"another fault of ours": {post(fields()), errors.New("secret-inner-thing"), http.StatusInternalServerError, "failed", []mms.Report{proven}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &desk{err: tt.err}
			answer, counted, log := ask(t, d, tt.request)
			if answer.Code != tt.status {
				t.Errorf("answered %d %s, want %d", answer.Code, answer.Body, tt.status)
			}
			if diff := cmp.Diff([]string{tt.result}, counted); diff != "" {
				t.Errorf("counted (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.applied, d.got); diff != "" {
				t.Errorf("handed on (-want +got):\n%s", diff)
			}
			if strings.Contains(log, secret) || strings.Contains(log, "5550123") {
				t.Errorf("the log tells a token or a number:\n%s", log)
			}
			if strings.Contains(answer.Body.String(), "secret-inner-thing") {
				t.Errorf("the answer tells what is inside: %s", answer.Body)
			}
		})
	}
}

func TestInbound(t *testing.T) {
	t.Parallel()
	form := url.Values{"MessageUUID": {"u-1"}, "From": {"14155550123"}, "To": {"14155550100"}, "Text": {" Stop \x00"}, "Type": {"mms"},
		"Media0": {"https://media.plivo.example/1"}, "Media1": {"javascript:alert(1)"}, "Media9": {"http://media.plivo.example/9"}}
	inbound := func(form url.Values, header http.Header) *http.Request {
		r := httptest.NewRequest(http.MethodPost, "http://10.0.0.1"+callback.InboundPath, strings.NewReader(form.Encode()))
		r.Header = header
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return r
	}
	v3 := func(form url.Values) http.Header {
		return http.Header{"X-Plivo-Signature-V3-Nonce": {"1"}, "X-Plivo-Signature-V3": {plivosim.SignV3(authToken, http.MethodPost, publicURL+callback.InboundPath, "1", form)}}
	}
	v2 := http.Header{"X-Plivo-Signature-V2-Nonce": {"1"}, "X-Plivo-Signature-V2": {plivosim.SignV2(authToken, publicURL+callback.InboundPath, "1")}}
	want := mms.Inbound{
		PlivoUUID: "u-1", From: "+14155550123", To: "+14155550100", Text: " Stop ", Keyword: mms.KeywordStop,
		MediaURLs: []string{"https://media.plivo.example/1", "http://media.plivo.example/9"},
	}
	lacking := url.Values{"MessageUUID": {"u-1"}, "From": {"14155550123"}}
	for name, tt := range map[string]struct {
		request *http.Request
		err     error
		status  int
		taken   []mms.Inbound
		mayLift bool
	}{
		"signed with V3":       {inbound(form, v3(form)), nil, http.StatusOK, []mms.Inbound{want}, true},
		"signed with V2":       {inbound(form, v2), nil, http.StatusOK, []mms.Inbound{want}, false},
		"forged":               {inbound(form, v3(lacking)), nil, http.StatusForbidden, nil, false},
		"fields missing":       {inbound(lacking, v3(lacking)), nil, http.StatusBadRequest, nil, false},
		"the database is away": {inbound(form, v3(form)), mms.ErrUnavailable, http.StatusInternalServerError, []mms.Inbound{want}, true},
	} {
		d := &desk{err: tt.err}
		answer, _, log := ask(t, d, tt.request)
		if answer.Code != tt.status || answer.Code == http.StatusOK && answer.Body.Len() != 0 {
			t.Errorf("%s: answered %d %q, want %d", name, answer.Code, answer.Body, tt.status)
		}
		if diff := cmp.Diff(tt.taken, d.inbound); diff != "" || d.mayLift != tt.mayLift {
			t.Errorf("%s: may lift %v, taken (-want +got):\n%s", name, d.mayLift, diff)
		}
		if strings.Contains(log, "5550123") || strings.Contains(log, "Stop") {
			t.Errorf("%s: the log tells a number or a text:\n%s", name, log)
		}
	}
}

func TestOtherMethodsAndPaths(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]int{callback.StatusPath(secret): http.StatusMethodNotAllowed, "/webhooks/plivo/status/": http.StatusNotFound, "/webhooks/plivo/status/a/b": http.StatusNotFound} {
		answer, counted, _ := ask(t, &desk{}, httptest.NewRequest(http.MethodPut, path, nil))
		if answer.Code != want || len(counted) != 0 {
			t.Errorf("PUT %s = %d, counted %v, want %d", path, answer.Code, counted, want)
		}
	}
}

func FuzzCallback(f *testing.F) {
	f.Add("/webhooks/plivo/status/x", "a=b", "MessageUUID=u&Status=sent", "c2ln", "1")
	f.Add("/webhooks/plivo/status/%00", "%zz", "=&=", ",,", "")
	f.Fuzz(func(t *testing.T, path, query, body, signature, nonce string) {
		r := httptest.NewRequest(http.MethodPost, "/webhooks/plivo/status/x", strings.NewReader(body))
		r.URL = &url.URL{Path: path, RawQuery: query}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-Plivo-Signature-V3", signature)
		r.Header.Set("X-Plivo-Signature-V3-Nonce", nonce)
		d := &desk{}
		answer, _, _ := ask(t, d, r)
		if len(d.got) != 0 || answer.Code < 400 || answer.Code >= 500 {
			t.Errorf("made-up callback: %d, handed on %v", answer.Code, d.got)
		}
	})
}

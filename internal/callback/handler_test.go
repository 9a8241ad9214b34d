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
	callbackURL = "https://mms.example.com"
	authToken   = "test_auth_token_0001"
	token       = "secret-callback-token"
)

// fakeBackend is a ReportApplier and an Inbox. It keeps what it receives.
type fakeBackend struct {
	err     error
	reports []mms.Report
	inbound []mms.Inbound
	mayLift bool
}

func (b *fakeBackend) Apply(_ context.Context, r mms.Report) error {
	b.reports = append(b.reports, r)
	return b.err
}

func (b *fakeBackend) RecordInbound(_ context.Context, in mms.Inbound, mayLift bool) (bool, error) {
	in.ID = uuid.Nil
	b.inbound, b.mayLift = append(b.inbound, in), mayLift
	return true, b.err
}

// serve handles one request and returns the response, the counted results and
// the log.
func serve(backend *fakeBackend, r *http.Request) (response *httptest.ResponseRecorder, counted []string, log string) {
	var logged strings.Builder
	handler := callback.New(callback.Options{
		Verifier: plivo.Verifier{Tokens: []string{authToken}, CallbackURL: callbackURL},
		Reports:  backend,
		Inbox:    backend,
		Count:    func(result string) { counted = append(counted, result) },
		Logger:   slog.New(slog.NewTextHandler(&logged, nil)),
	})
	response = httptest.NewRecorder()
	handler.ServeHTTP(response, r)
	return response, counted, logged.String()
}

func reportForm() url.Values {
	return url.Values{"MessageUUID": {"u-1"}, "Status": {"delivered"}, "To": {"14155550123"}, "Colour": {"blue"}}
}

// post returns a POST of the form to path. Its host is a proxy's, not that of
// the callback URL.
func post(path string, form url.Values, signature http.Header) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://10.0.0.1"+path, strings.NewReader(form.Encode()))
	r.Header = signature.Clone()
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// signV3 signs with the simulator's implementation, which shares no code with
// ours.
func signV3(method, path string, form url.Values) http.Header {
	h := http.Header{}
	h.Set("X-Plivo-Signature-V3-Nonce", "1")
	h.Set("X-Plivo-Signature-V3", plivosim.SignV3(authToken, method, callbackURL+path, "1", form))
	return h
}

func signV2(path string) http.Header {
	h := http.Header{}
	h.Set("X-Plivo-Signature-V2-Nonce", "1")
	h.Set("X-Plivo-Signature-V2", plivosim.SignV2(authToken, callbackURL+path, "1"))
	return h
}

// postReport returns a delivery report that is signed with V3.
func postReport(form url.Values) *http.Request {
	path := callback.StatusPath(token)
	return post(path, form, signV3(http.MethodPost, path, form))
}

func TestStatusCallback(t *testing.T) {
	t.Parallel()
	path := callback.StatusPath(token)
	get := httptest.NewRequest(http.MethodGet, "http://10.0.0.1"+path+"?"+reportForm().Encode(), nil)
	get.Header = signV3(http.MethodGet, path, reportForm())
	mainAccount := postReport(reportForm())
	mainAccount.Header.Set("X-Plivo-Signature-Ma-V3", mainAccount.Header.Get("X-Plivo-Signature-V3"))
	mainAccount.Header.Del("X-Plivo-Signature-V3")
	forged := postReport(reportForm())
	forged.Header.Set("X-Plivo-Signature-V3", "Zm9yZ2Vk")
	malformed := postReport(url.Values{})
	malformed.Body = http.NoBody
	malformed.URL.RawQuery = "%zz"

	proven := mms.Report{Token: token, PlivoUUID: "u-1", State: "delivered", Authenticated: true}
	unproven := proven
	unproven.Authenticated = false
	tests := map[string]struct {
		request *http.Request
		err     error
		status  int
		result  string
		reports []mms.Report
	}{
		"signed with V3":         {postReport(reportForm()), nil, http.StatusOK, "applied", []mms.Report{proven}},
		"signed by main account": {mainAccount, nil, http.StatusOK, "applied", []mms.Report{proven}},
		"GET":                    {get, nil, http.StatusOK, "applied", []mms.Report{proven}},
		"signed with V2":         {post(path, reportForm(), signV2(path)), nil, http.StatusOK, "applied", []mms.Report{unproven}},
		"forged signature":       {forged, nil, http.StatusForbidden, "bad_signature", nil},
		"no signature":           {post(path, reportForm(), http.Header{}), nil, http.StatusForbidden, "bad_signature", nil},
		"malformed query":        {malformed, nil, http.StatusBadRequest, "unreadable", nil},
		"body too large":         {postReport(url.Values{"MessageUUID": {strings.Repeat("x", 1<<17)}}), nil, http.StatusBadRequest, "unreadable", nil},
		"missing fields":         {postReport(url.Values{"Status": {"sent"}}), nil, http.StatusBadRequest, "unreadable", nil},
		"unknown token":          {postReport(reportForm()), mms.ErrNotFound, http.StatusNotFound, "unknown", []mms.Report{proven}},
		"another message":        {postReport(reportForm()), callback.ErrMismatch, http.StatusForbidden, "mismatch", []mms.Report{proven}},
		"database down":          {postReport(reportForm()), mms.ErrUnavailable, http.StatusServiceUnavailable, "failed", []mms.Report{proven}},
		"internal error":         {postReport(reportForm()), errors.New("secret-internal-error"), http.StatusInternalServerError, "failed", []mms.Report{proven}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := &fakeBackend{err: tt.err}
			response, counted, log := serve(backend, tt.request)
			if response.Code != tt.status {
				t.Errorf("got %d %s, want %d", response.Code, response.Body, tt.status)
			}
			if diff := cmp.Diff([]string{tt.result}, counted); diff != "" {
				t.Errorf("counted results (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.reports, backend.reports); diff != "" {
				t.Errorf("reports (-want +got):\n%s", diff)
			}
			if strings.Contains(log, token) || strings.Contains(log, "5550123") {
				t.Errorf("got log\n%s\nwant no token and no phone number", log)
			}
			if strings.Contains(response.Body.String(), "secret-internal-error") {
				t.Errorf("got response %q, want no internal error", response.Body)
			}
		})
	}
}

func TestInboundCallback(t *testing.T) {
	t.Parallel()
	form := url.Values{"MessageUUID": {"u-1"}, "From": {"14155550123"}, "To": {"14155550100"}, "Text": {" Stop \x00"}, "Type": {"mms"},
		"Media0": {"https://media.plivo.example/1"}, "Media1": {"javascript:alert(1)"}, "Media9": {"http://media.plivo.example/9"}}
	incomplete := url.Values{"MessageUUID": {"u-1"}, "From": {"14155550123"}}
	postV3 := func(form, signed url.Values) *http.Request {
		return post(callback.InboundPath, form, signV3(http.MethodPost, callback.InboundPath, signed))
	}
	want := mms.Inbound{
		PlivoUUID: "u-1", From: "+14155550123", To: "+14155550100", Text: " Stop ", Keyword: mms.KeywordStop,
		MediaURLs: []string{"https://media.plivo.example/1", "http://media.plivo.example/9"},
	}
	tests := map[string]struct {
		request *http.Request
		err     error
		status  int
		inbound []mms.Inbound
		mayLift bool
	}{
		"signed with V3":   {postV3(form, form), nil, http.StatusOK, []mms.Inbound{want}, true},
		"signed with V2":   {post(callback.InboundPath, form, signV2(callback.InboundPath)), nil, http.StatusOK, []mms.Inbound{want}, false},
		"forged signature": {postV3(form, incomplete), nil, http.StatusForbidden, nil, false},
		"missing fields":   {postV3(incomplete, incomplete), nil, http.StatusBadRequest, nil, false},
		"database down":    {postV3(form, form), mms.ErrUnavailable, http.StatusServiceUnavailable, []mms.Inbound{want}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := &fakeBackend{err: tt.err}
			response, _, log := serve(backend, tt.request)
			if response.Code != tt.status || response.Code == http.StatusOK && response.Body.Len() != 0 {
				t.Errorf("got %d %q, want %d, with an empty body if 200", response.Code, response.Body, tt.status)
			}
			if diff := cmp.Diff(tt.inbound, backend.inbound); diff != "" {
				t.Errorf("inbound messages (-want +got):\n%s", diff)
			}
			if backend.mayLift != tt.mayLift {
				t.Errorf("got mayLift %v, want %v", backend.mayLift, tt.mayLift)
			}
			if strings.Contains(log, "5550123") || strings.Contains(log, "Stop") {
				t.Errorf("got log\n%s\nwant no phone number and no text", log)
			}
		})
	}
}

func TestOtherMethodsAndPathsAreNotCallbacks(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]int{
		callback.StatusPath(token):    http.StatusMethodNotAllowed,
		"/callbacks/plivo/status/":    http.StatusNotFound,
		"/callbacks/plivo/status/a/b": http.StatusNotFound,
	} {
		response, counted, _ := serve(&fakeBackend{}, httptest.NewRequest(http.MethodPut, path, nil))
		if response.Code != want || len(counted) != 0 {
			t.Errorf("PUT %s: got %d, counted %v, want %d, nothing counted", path, response.Code, counted, want)
		}
	}
}

func FuzzCallback(f *testing.F) {
	f.Add("/callbacks/plivo/status/x", "a=b", "MessageUUID=u&Status=sent", "c2ln", "1")
	f.Add("/callbacks/plivo/status/%00", "%zz", "=&=", ",,", "")
	f.Fuzz(func(t *testing.T, path, query, body, signature, nonce string) {
		r := httptest.NewRequest(http.MethodPost, "/callbacks/plivo/status/x", strings.NewReader(body))
		r.URL = &url.URL{Path: path, RawQuery: query}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-Plivo-Signature-V3", signature)
		r.Header.Set("X-Plivo-Signature-V3-Nonce", nonce)
		backend := &fakeBackend{}
		response, _, _ := serve(backend, r)
		if len(backend.reports) != 0 || response.Code < 400 || response.Code >= 500 {
			t.Errorf("got %d and reports %v, want 4xx and none", response.Code, backend.reports)
		}
	})
}

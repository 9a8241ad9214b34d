package plivo_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
	"github.com/postcard-mms/postcard/internal/plivo"
	"github.com/postcard-mms/postcard/internal/plivosim"
)

// TestAccountAndNumbers asks the simulator.
func TestAccountAndNumbers(t *testing.T) {
	t.Parallel()
	const messageURL = "https://mms.example.com/callbacks/plivo/inbound"
	sim := plivosim.New(plivosim.Config{AuthID: authID, AuthToken: authToken, Numbers: []string{"+14155550100", "+18005550100"}, MessageURL: messageURL, Credits: "27.31000"})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	t.Cleanup(sim.Close)
	client := newClient(t, server.URL, authToken)
	account, err := client.Account(t.Context())
	if diff := cmp.Diff(operator.Account{Type: "standard", BillingMode: "prepaid", Credits: "27.31000"}, account); err != nil || diff != "" {
		t.Errorf("error %v; account (-want +got):\n%s", err, diff)
	}
	for number, want := range map[mms.PhoneNumber]operator.Number{
		"+14155550100": {Found: true, Type: "local", MMS: true, TenDLC: "COMPLETED", Campaign: "CSIMUL8", Application: true, MessageURL: messageURL},
		"+18005550100": {Found: true, Type: "tollfree", MMS: true, TollFree: "verified", Application: true, MessageURL: messageURL},
		"+14155550101": {},
	} {
		got, err := client.Number(t.Context(), number)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("error %v; number %s (-want +got):\n%s", err, number, diff)
		}
	}
	_, plainURL := newSimulator(t)
	if got, err := newClient(t, plainURL, authToken).Number(t.Context(), "+14155550100"); err != nil || !got.Found || got.Application {
		t.Errorf("without a message URL: got %+v, %v, want a number without an application", got, err)
	}
}

// TestProblemsOfQueries describes answers for operators.
func TestProblemsOfQueries(t *testing.T) {
	t.Parallel()
	answers := map[string]struct {
		status int
		body   string
		want   string
	}{
		"/401/":       {http.StatusUnauthorized, "no", "Plivo rejected the credentials (401)."},
		"/404/":       {http.StatusNotFound, "", "Plivo does not know it (404)."},
		"/429/":       {http.StatusTooManyRequests, "", "Plivo's limit on requests was exceeded (429)."},
		"/503/":       {http.StatusServiceUnavailable, "", "Plivo answered with a server error (503)."},
		"/302/":       {http.StatusFound, "", "Plivo answered with status 302."},
		"/cut/":       {http.StatusOK, `{"auth_id":`, "Plivo's answer was malformed."},
		"/empty/":     {http.StatusOK, ``, "Plivo's answer was malformed."},
		"/somebody's": {http.StatusOK, `{"auth_id":"MAother"}`, "Plivo's answer was malformed."},
	}
	for name, tt := range answers {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = w.Write([]byte(tt.body))
		}))
		_, err := newClient(t, server.URL, authToken).Account(t.Context())
		if err == nil || plivo.Problem(err) != tt.want {
			t.Errorf("%s: got problem %q of %v, want %q", name, plivo.Problem(err), err, tt.want)
		}
		_, err = newClient(t, server.URL, authToken).Number(t.Context(), "+14155550100")
		if (err == nil) != (tt.status == http.StatusNotFound) {
			t.Errorf("%s: got error %v of a number", name, err)
		}
		server.Close()
	}
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	_, err := newClient(t, server.URL, authToken).Account(t.Context())
	if got := plivo.Problem(err); got != "Plivo could not be reached." {
		t.Errorf("closed server: got problem %q", got)
	}
}

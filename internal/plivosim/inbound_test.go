package plivosim_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

func TestReceiveCallsMessageURL(t *testing.T) {
	t.Parallel()
	sim := plivosim.New(plivosim.Config{AuthID: "MATESTTESTTESTTEST01", AuthToken: "token"})
	t.Cleanup(sim.Close)
	var form url.Values
	var signed bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		form = r.PostForm
		want := plivosim.SignV3("token", http.MethodPost, "http://"+r.Host+r.URL.Path, r.Header.Get("X-Plivo-Signature-V3-Nonce"), r.PostForm)
		signed = r.Header.Get("X-Plivo-Signature-V3") == want
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(server.Close)
	text := plivosim.Text{From: "+1 415 555 0123", To: "+14155550100", Text: "Hi", MediaURLs: []string{"https://example.com/1"}, URL: server.URL + "/inbound"}
	if status, err := sim.Receive(t.Context(), text); err != nil || status != http.StatusAccepted || !signed {
		t.Fatalf("Receive = %d, %v, signed %v; want a signed call without error", status, err, signed)
	}
	if form.Get("MessageUUID") == "" {
		t.Error("got no MessageUUID")
	}
	form.Del("MessageUUID")
	want := url.Values{
		"From": {"14155550123"}, "To": {"14155550100"}, "Text": {"Hi"}, "Type": {"mms"}, "Media0": {"https://example.com/1"},
		"Units": {"1"}, "TotalRate": {"0"}, "TotalAmount": {"0"},
	}
	if diff := cmp.Diff(want, form); diff != "" {
		t.Errorf("form (-want +got):\n%s", diff)
	}
	text.URL = "http://127.0.0.1:1/"
	if _, err := sim.Receive(t.Context(), text); err == nil {
		t.Error("Receive with an unreachable URL: got no error")
	}
}

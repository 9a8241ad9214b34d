package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/client"
)

// TestSendShowsWarnings passes a pasted number to the api, which reads it, with a pasted
// API key.
func TestSendShowsWarnings(t *testing.T) {
	const warning = "Check the number +1 624-555-0142."
	var got client.MessageParams
	var authorization string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization = r.Header.Get("Authorization")
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"id": "m", "to": "+16245550142", "from": "+14155550100", "warnings": []string{warning}}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("POSTCARD_URL", server.URL+"\u00a0")
	t.Setenv("POSTCARD_API_KEY", "\u200bpc_key\n")
	for _, flag := range []string{"", " --dry-run"} {
		out, err := call(t, "", "send --to \u202a+16245550142\u202c --media https://example.com/a.jpg"+flag)
		if err != nil || strings.Count(out, warning) != 1 {
			t.Errorf("send%s: got %q, %v, want the warning", flag, out, err)
		}
		if got.To != "\u202a+16245550142\u202c" || authorization != "Bearer pc_key" {
			t.Errorf("send%s: the api got %+v with %q", flag, got, authorization)
		}
	}
}

package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/httpapi"
)

// typedNumbers are ways to write +14155550123, as a client or a batch may have them.
var typedNumbers = []string{
	"+14155550123", "(415) 555-0123", "415.555.0123", "415-555-0123", "14155550123", "4155550123", " 4155550123 ", "tel:+14155550123", "tel:4155550123",
	"\u202a+1 415 555 0123\u202c", "\ufeff+14155550123", "+1\u00a0415\u00a0555\u00a00123", "4155550123\u200b", "＋１４１５５５５０１２３", "415–555–0123",
}

func sendBody(t *testing.T, fields map[string]any) string {
	t.Helper()
	body, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestSendReadsTypedNumbers(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	for _, typed := range typedNumbers {
		got := ada.do("POST", "/api/send-mms", sendBody(t, map[string]any{
			"to": typed, "from": "\u2066(415) 555-0100\u2069", "mediaUrl": "\ufeff https://example.com/a.jpg\u200b\n",
		}))
		if got.status != http.StatusAccepted {
			t.Errorf("%q: got %d %s", typed, got.status, got.body)
			continue
		}
		m := decode[httpapi.CreatedMessage](t, got)
		if m.To != "+14155550123" || m.From != "+14155550100" || m.MediaURLs[0] != "https://example.com/a.jpg" || m.Warnings != nil {
			t.Errorf("%q: got to %s, from %s, media %q, warnings %q", typed, m.To, m.From, m.MediaURLs, m.Warnings)
		}
	}
}

func TestSendWarnsAboutUnknownNumbers(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	body := map[string]any{"to": "+16245550142", "mediaUrl": "https://example.com/a.jpg"}
	want := []string{"Check the number +1 624-555-0142: Postcard knows no numbers that begin with 624-555. The area code may be new, or a digit may be wrong."}
	got := ada.do("POST", "/api/send-mms", sendBody(t, body))
	if diff := cmp.Diff(want, decode[httpapi.CreatedMessage](t, got).Warnings); diff != "" || got.status != http.StatusAccepted {
		t.Errorf("warnings (-want +got), status %d:\n%s", got.status, diff)
	}
	body["dryRun"] = true
	got = ada.do("POST", "/api/send-mms", sendBody(t, body))
	if diff := cmp.Diff(want, decode[httpapi.Forecast](t, got).Warnings); diff != "" || got.status != http.StatusOK {
		t.Errorf("warnings of a dry run (-want +got), status %d:\n%s", got.status, diff)
	}
}

func TestBatchesReadTypedNumbers(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	for _, typed := range typedNumbers {
		rows := sendBody(t, map[string]any{"mediaUrl": "https://example.com/a.jpg", "rows": []map[string]string{{"to": typed}}})
		if got := ada.do("POST", "/api/batches", rows); got.status != http.StatusAccepted {
			t.Errorf("JSON, %q: got %d %s", typed, got.status, got.body)
		}
		if got := ada.doAs("text/csv", "POST", "/api/batches?mediaUrl=https://example.com/a.jpg", "to\n\""+typed+"\"\n"); got.status != http.StatusAccepted {
			t.Errorf("CSV, %q: got %d %s", typed, got.status, got.body)
		}
	}
	for typed, want := range map[string]string{"1.41556E+10": "spreadsheet", "4.155550123E9": "spreadsheet", "14155550123.0": "decimal", "415555012": "9 digits"} {
		got := ada.doAs("text/csv", "POST", "/api/batches?mediaUrl=https://example.com/a.jpg", "to\n"+typed+"\n")
		if errs := decode[httpapi.Problem](t, got).Errors; got.status != http.StatusBadRequest || len(errs) != 1 || errs[0].Field != "rows[2].to" || !strings.Contains(errs[0].Message, want) {
			t.Errorf("%q: got %d %s, want %q", typed, got.status, got.body, want)
		}
	}
}

func TestFiltersReadTypedNumbers(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	if got := ada.do("POST", "/api/send-mms", validSend); got.status != http.StatusAccepted {
		t.Fatalf("%d %s", got.status, got.body)
	}
	// A plus sign that was not encoded arrives as a blank.
	queries := []string{"to=+14155550123", "to=%2B14155550123"}
	for _, typed := range typedNumbers {
		queries = append(queries, "to="+url.QueryEscape(typed), "from="+url.QueryEscape(strings.ReplaceAll(typed, "123", "100")))
	}
	for _, query := range queries {
		got := ada.do("GET", "/api/messages?"+query, "")
		if got.status != http.StatusOK {
			t.Errorf("%s: got %d %s", query, got.status, got.body)
		}
	}
}

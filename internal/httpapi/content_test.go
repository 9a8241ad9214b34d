package httpapi_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/httpapi"
)

func compress(t testing.TB, body string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestContentEncoding(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	const batch = `{"mediaUrl":"https://example.com/a.jpg","rows":[{"to":"+14155550123"}]}`
	zipped := compress(t, validSend)
	for name, tt := range map[string]struct {
		path, body string
		encodings  []string
		want       string
	}{
		"none":                 {"/api/send-mms", validSend, nil, "202"},
		"empty":                {"/api/send-mms", validSend, []string{""}, "202"},
		"identity":             {"/api/send-mms", validSend, []string{"identity"}, "202"},
		"gzip":                 {"/api/send-mms", zipped, []string{"gzip"}, "202"},
		"upper case":           {"/api/send-mms", zipped, []string{"GZIP"}, "202"},
		"x-gzip":               {"/api/send-mms", zipped, []string{"x-gzip"}, "202"},
		"two members":          {"/api/send-mms", compress(t, validSend[:20]) + compress(t, validSend[20:]), []string{"gzip"}, "202"},
		"batch":                {"/api/batches", compress(t, batch), []string{"gzip"}, "202"},
		"empty object":         {"/api/logout", compress(t, `{}`), []string{"gzip"}, "204"},
		"fields":               {"/api/logout", compress(t, `{"all":1}`), []string{"gzip"}, "400 all unknown"},
		"not gzip":             {"/api/send-mms", validSend, []string{"gzip"}, "400 body gzip"},
		"batch is not gzip":    {"/api/batches", batch, []string{"gzip"}, "400 body gzip"},
		"no bytes":             {"/api/send-mms", "", []string{"gzip"}, "400 body gzip"},
		"truncated":            {"/api/send-mms", zipped[:len(zipped)-9], []string{"gzip"}, "400 body gzip"},
		"wrong checksum":       {"/api/send-mms", zipped[:len(zipped)-8] + "12345678", []string{"gzip"}, "400 body gzip"},
		"trailing data":        {"/api/send-mms", zipped + "x", []string{"gzip"}, "400 body gzip"},
		"invalid JSON inside":  {"/api/send-mms", compress(t, "{"), []string{"gzip"}, "400 body json"},
		"bomb":                 {"/api/send-mms", compress(t, validSend+strings.Repeat(" ", 64<<10)), []string{"gzip"}, "413"},
		"bomb without content": {"/api/send-mms", strings.Repeat(compress(t, ""), 4000), []string{"gzip"}, "413"},
		"bomb of a batch":      {"/api/batches", compress(t, batch+strings.Repeat(" ", 64<<20)), []string{"gzip"}, "413"},
		"brotli":               {"/api/send-mms", "x", []string{"br"}, "415"},
		"deflate":              {"/api/batches", "x", []string{"deflate"}, "415"},
		"twice":                {"/api/send-mms", compress(t, zipped), []string{"gzip, gzip"}, "415"},
		"two headers":          {"/api/send-mms", compress(t, zipped), []string{"gzip", "br"}, "415"},
	} {
		var headers []string
		for _, encoding := range tt.encodings {
			headers = append(headers, "Content-Encoding", encoding)
		}
		got := ada.doAs("application/json", "POST", tt.path, tt.body, headers...)
		if outcome := outcomeOf(t, got); outcome != tt.want {
			t.Errorf("%s: got %s, want %s: %s", name, outcome, tt.want, got.body)
		}
		if got.status == http.StatusUnsupportedMediaType && (got.header.Get("Accept-Encoding") != "gzip" || !strings.Contains(got.body, strings.Join(tt.encodings, ","))) {
			t.Errorf("%s: got %v %s, want the encoding by name and Accept-Encoding: gzip", name, got.header, got.body)
		}
		if tt.path == "/api/logout" {
			ada.cookie = ada.login(adaEmail).cookie
		}
	}
}

func TestCharsetIsNamed(t *testing.T) {
	t.Parallel()
	ada := newSystem(t).ada()
	for _, path := range []string{"/api/send-mms", "/api/batches"} {
		got := ada.doAs("application/json; charset=ISO-8859-1", "POST", path, validSend)
		if p := decode[httpapi.Problem](t, got); got.status != 415 || p.Detail != `The charset "ISO-8859-1" in the Content-Type is not supported: send UTF-8.` {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
	}
}

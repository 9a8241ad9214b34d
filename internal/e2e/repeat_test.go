package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// TestRepeatedRequestWithoutItsUpload repeats requests whose upload has been deleted since:
// the answer is what the first request created. With a 400 instead, its client would upload
// the picture again and send it twice.
func TestRepeatedRequestWithoutItsUpload(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	ada := (&contract{t: t, url: url}).user("")
	ada.http.Transport = nil
	ada.want(http.StatusOK, "POST", "/api/login", `{"email":"admin@example.com","password":"correct horse"}`)
	upload := ada.uploadPixel()
	requests := map[string]string{
		"/api/send-mms": fmt.Sprintf(`{"to":"+14165551000","mediaIds":[%q]}`, upload),
		"/api/batches":  fmt.Sprintf(`{"mediaIds":[%q],"rows":[{"to":"+14165551001"}]}`, upload),
	}
	first := map[string]any{}
	for path, body := range requests {
		first[path] = ada.want(http.StatusAccepted, "POST", path, body, "Idempotency-Key", path)["id"]
	}
	ada.want(http.StatusNoContent, "DELETE", "/api/media/"+upload, "")
	for path, body := range requests {
		status, header, text := ada.do("POST", path, body, "Idempotency-Key", path)
		if status != http.StatusAccepted || header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%s again: got %d %s, want 202 and a replay", path, status, text)
		}
		if again := ada.want(http.StatusAccepted, "POST", path, body, "Idempotency-Key", path)["id"]; again != first[path] {
			t.Errorf("%s again: got %v, want %v", path, again, first[path])
		}
		ada.want(http.StatusBadRequest, "POST", path, body, "Idempotency-Key", "new")
	}
	if n := r.count(`SELECT count(*) FROM messages`); n != 2 {
		t.Errorf("got %d messages, want 2", n)
	}
}

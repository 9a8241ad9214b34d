package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/mms"
)

// A client that sends the header relies on it: a key that cannot be used must not be
// taken for none.
func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var stored string
	s.messages.onCreate = func(r mms.CreateRequest) { stored = r.Idempotency.Key }
	ada := s.ada()
	final := mms.Message{ID: uuid.Must(uuid.NewV7()), Workspace: s.users.users[0].ID, Status: mms.Sent, Recipient: "+14155550123", MediaURLs: []string{"https://example.com/a.jpg"}, Priority: mms.Normal}
	s.messages.put(mms.History{Message: final})
	requests := map[string]string{
		"/api/send-mms": validSend,
		"/api/batches":  `{"mediaUrl":"https://example.com/a.jpg","rows":[{"to":"+14155550123"}]}`,
		"/api/messages/" + final.ID.String() + "/resend": "",
	}
	for name, tt := range map[string]struct {
		values []string
		want   string // the key or the violated rule
	}{
		"none":                    {nil, "202 "},
		"one":                     {[]string{"order-1017"}, "202 order-1017"},
		"spaces inside":           {[]string{"order 1017"}, "202 order 1017"},
		"spaces around":           {[]string{" \torder-1017 "}, "202 order-1017"},
		"quoted":                  {[]string{`"order-1017"`}, `202 "order-1017"`},
		"two equal":               {[]string{"order-1017", "order-1017 "}, "202 order-1017"},
		"255 characters":          {[]string{strings.Repeat("k", 255)}, "202 " + strings.Repeat("k", 255)},
		"empty":                   {[]string{""}, "400 required"},
		"only spaces":             {[]string{"  \t"}, "400 required"},
		"two empty":               {[]string{"", ""}, "400 required"},
		"two different":           {[]string{"order-1017", "order-1018"}, "400 duplicate"},
		"differ in case":          {[]string{"order-1017", "Order-1017"}, "400 duplicate"},
		"one and an empty one":    {[]string{"order-1017", ""}, "400 duplicate"},
		"an empty one and one":    {[]string{"", "order-1017"}, "400 duplicate"},
		"256 characters":          {[]string{strings.Repeat("k", 256)}, "400 idempotency_key"},
		"outside ASCII":           {[]string{"é"}, "400 idempotency_key"},
		"tab inside":              {[]string{"a\tb"}, "400 idempotency_key"},
		"two equal and too long":  {[]string{strings.Repeat("k", 256), strings.Repeat("k", 256)}, "400 idempotency_key"},
		"comma, as of two values": {[]string{"a, b"}, "202 a, b"},
	} {
		var headers []string
		for _, value := range tt.values {
			headers = append(headers, "Idempotency-Key", value)
		}
		for path, body := range requests {
			stored = ""
			got := ada.do("POST", path, body, headers...)
			outcome := fmt.Sprint(got.status, " ", stored)
			if got.status == http.StatusBadRequest {
				p := decode[httpapi.Problem](t, got)
				if len(p.Errors) != 1 || p.Errors[0].Field != "Idempotency-Key" || stored != "" {
					t.Errorf("%s: %s: got errors %v and stored %q, want one about Idempotency-Key and nothing stored", name, path, p.Errors, stored)
				} else {
					outcome = "400 " + p.Errors[0].Rule
				}
			}
			want := tt.want
			if path == "/api/batches" && got.status == http.StatusAccepted {
				want = "202 " // the fake store of batches does not record keys
			}
			if outcome != want {
				t.Errorf("%s: %s: got %s, want %s: %s", name, path, outcome, want, got.body)
			}
		}
	}
}

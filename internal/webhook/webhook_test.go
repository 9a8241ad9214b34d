package webhook

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeStore returns the endpoint unchanged.
type fakeStore struct{}

func (fakeStore) CreateWebhook(_ context.Context, e Endpoint, _ Secret) (Endpoint, error) {
	return e, nil
}

func TestCreate(t *testing.T) {
	t.Parallel()
	for raw, violations := range map[string]string{ // by default / with private hosts allowed
		"https://example.com/events?x=1":             " / ",
		"http://example.com/":                        "https:// / ",
		"http://127.0.0.1:9000/":                     "https:// / ",
		"https://localhost/":                         "private / ",
		"https://2130706433/":                        "private / ",
		"https://user:secret@example.com/":           "user name / user name",
		"https://example.com/#part":                  "must be a URL / must be a URL",
		"":                                           "missing / missing",
		"https:///x":                                 "must be a URL / must be a URL",
		"ftp://example.com/":                         "https:// / https://",
		"https://example.com/\n":                     "must be a URL / must be a URL",
		"https://e.com/" + strings.Repeat("x", 2000): "at most / at most",
	} {
		want := strings.Split(violations, " / ")
		for i, allow := range []bool{false, true} {
			_, _, err := Create(t.Context(), fakeStore{}, uuid.New(), Params{URL: raw}, allow)
			if (err == nil) != (want[i] == "") || err != nil && !strings.Contains(err.Error(), want[i]) {
				t.Errorf("%.40s, private hosts allowed %t: got %v, want %q", raw, allow, err, want[i])
			}
		}
	}
	params := Params{URL: "https://example.com/", Description: "orders", Statuses: []string{"sent", "sent", "failed"}}
	endpoint, secret, err := Create(t.Context(), fakeStore{}, uuid.New(), params, false)
	if diff := cmp.Diff([]mms.Status{mms.Sent, mms.Failed}, endpoint.Statuses); diff != "" || err != nil {
		t.Errorf("statuses (-want +got):\n%s%v", diff, err)
	}
	if _, err := secret.Key(); err != nil || endpoint.ID == uuid.Nil {
		t.Errorf("got ID %v and secret error %v, want an ID and a valid secret", endpoint.ID, err)
	}
}

func TestRetriesEndAfterAboutThreeDays(t *testing.T) {
	t.Parallel()
	var total time.Duration
	attempts := 1
	for ; ; attempts++ {
		wait, retry := NextRetry(attempts, 1)
		if !retry {
			break
		}
		total += wait
	}
	if attempts != 11 || total < 72*time.Hour || total > 96*time.Hour {
		t.Errorf("got %d attempts over %v, want 11 over three to four days", attempts, total)
	}
	if _, retry := NextRetry(0, 0); retry {
		t.Error("NextRetry(0): got a wait, want none")
	}
}

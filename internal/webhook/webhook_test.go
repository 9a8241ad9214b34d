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

// echo is a store that returns what it is given.
type echo struct{}

func (echo) CreateWebhook(_ context.Context, e Endpoint, _ Secret) (Endpoint, error) { return e, nil }

func TestCreate(t *testing.T) {
	t.Parallel()
	for raw, private := range map[string]string{ // violations: by default / where private hosts are allowed
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
		want := strings.Split(private, " / ")
		for i, allow := range []bool{false, true} {
			_, _, err := Create(t.Context(), echo{}, uuid.New(), Params{URL: raw}, allow)
			if (err == nil) != (want[i] == "") || err != nil && !strings.Contains(err.Error(), want[i]) {
				t.Errorf("%.40s, private allowed %t: %v, want %q", raw, allow, err, want[i])
			}
		}
	}
	params := Params{URL: "https://example.com/", Description: "mine", Statuses: []string{"sent", "sent", "failed"}}
	w, secret, err := Create(t.Context(), echo{}, uuid.New(), params, false)
	if diff := cmp.Diff([]mms.Status{mms.Sent, mms.Failed}, w.Statuses); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	if _, err := secret.Key(); err != nil || w.ID == uuid.Nil {
		t.Errorf("id %v, secret: %v", w.ID, err)
	}
}

func TestRetriesEndAfterAboutThreeDays(t *testing.T) {
	t.Parallel()
	var all time.Duration
	tries := 1
	for ; ; tries++ {
		wait, again := NextRetry(tries, 1)
		if !again {
			break
		}
		all += wait
	}
	if tries != 11 || all < 72*time.Hour || all > 96*time.Hour {
		t.Errorf("%d tries over %v", tries, all)
	}
	if _, again := NextRetry(0, 0); again {
		t.Error("a wait after no try")
	}
}

package webhook

import (
	"context"
	"slices"
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
		"https://example.com/a\nb":                   "must be a URL / must be a URL",
		" https://example.com/\u200b\n":              " / ",
		"\u202ahttps://example.com/\u202c":           " / ",
		"https://example.com/\u200bhook":             "U+200B / U+200B",
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
		wait, retry := NextRetry(attempts, 1, 0)
		if !retry {
			break
		}
		total += wait
	}
	if attempts != 11 || total < 72*time.Hour || total > 96*time.Hour {
		t.Errorf("got %d attempts over %v, want 11 over three to four days", attempts, total)
	}
	if _, retry := NextRetry(0, 0, time.Hour); retry {
		t.Error("NextRetry(0): got a wait, want none")
	}
}

// TestReceiverMayAskForALongerWait checks that a receiver can lengthen the schedule's wait, up
// to the schedule's longest.
func TestReceiverMayAskForALongerWait(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		attempts            int
		asked, want, paused time.Duration
	}{
		{1, 0, 5 * time.Second, 0},
		{1, 2 * time.Second, 5 * time.Second, 2 * time.Second},
		{1, time.Minute, time.Minute, time.Minute},
		{10, time.Hour, 24 * time.Hour, time.Hour},
		{2, 2 * time.Hour, 2 * time.Hour, MaxPause},
		{2, 1000 * time.Hour, MaxRetryAfter, MaxPause},
	} {
		got, retry := NextRetry(tt.attempts, 0, tt.asked)
		if pause := (DeliveryResult{RetryAfter: tt.asked}).Pause(); got != tt.want || !retry || pause != tt.paused {
			t.Errorf("after attempt %d, asked for %v: got %v, %t and a pause of %v, want %v and %v", tt.attempts, tt.asked, got, retry, pause, tt.want, tt.paused)
		}
	}
	if longest := slices.Max(retrySchedule); MaxRetryAfter != longest {
		t.Errorf("MaxRetryAfter = %v, want the schedule's longest step, %v", MaxRetryAfter, longest)
	}
	until := time.Date(2026, 3, 9, 7, 5, 0, 0, time.UTC)
	for want, e := range map[string]Endpoint{
		"Failing: the last deliveries failed. Each event is retried for about three days. No event is sent to it before 9 Mar 2026, 07:05:00 UTC: it asked for that (Retry-After), or it failed slowly.": {FailingSince: &until, WaitsUntil: &until},
		"Enabled. No event is sent to it before 9 Mar 2026, 07:05:00 UTC: it asked for that (Retry-After), or it failed slowly.":                                                                         {WaitsUntil: &until},
		"Enabled.": {},
	} {
		if got := e.Explain(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

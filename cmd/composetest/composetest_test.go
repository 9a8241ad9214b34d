package main

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/client"
)

// TestSettingsDoNotReachCompose expects that nothing in the environment can make the test
// send messages for real.
func TestSettingsDoNotReachCompose(t *testing.T) {
	t.Parallel()
	got := engineEnvironment([]string{
		"PATH=/bin", "HOME=/root", "DOCKER_HOST=unix:///docker.sock", "https_proxy=http://proxy:3128",
		"PLIVO_BASE_URL=https://api.plivo.com", "PLIVO_AUTH_TOKEN=secret", "COMPOSE_FILE=other.yml", "POSTGRES_PASSWORD=secret",
	})
	want := []string{"PATH=/bin", "HOME=/root", "DOCKER_HOST=unix:///docker.sock", "https_proxy=http://proxy:3128"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseSockets(t *testing.T) {
	t.Parallel()
	got := map[string]bool{}
	err := parseSockets(`  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:2500 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0
   1: 050012AC:D0F4 020012AC:1538 01 00000000:00000000 02:000000CF 00000000     0        0 2 2 0000000000000000 20 4 30 10 -1
   2: 050012AC:D0F6 020012AC:1538 06 00000000:00000000 02:000000CF 00000000     0        0 3 2 0000000000000000 20 4 30 10 -1
`, got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"172.18.0.5:53492": true}, got); diff != "" {
		t.Error(diff)
	}
	if err := parseSockets(" 1: 05:D0F4 020012AC:1538 01", got); err == nil {
		t.Error("got no error for a short address, want one")
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err     error
		service string
		fine    bool
	}{
		"created":                     {nil, "redis", true},
		"unavailable":                 {&client.Error{Status: 503, RetryAfter: time.Second}, "postgres", true},
		"unavailable, but until when": {&client.Error{Status: 503}, "postgres", false},
		"internal error":              {&client.Error{Status: 500}, "postgres", false},
		"no answer of the api":        {errors.New("timeout"), "api", true},
		"no answer without Postgres":  {errors.New("timeout"), "postgres", false},
	} {
		r := result{target: target{service: tt.service}, answers: map[string]int{kindOf(tt.err): 1}}
		if problems := r.problems(); (len(problems) == 0) != tt.fine {
			t.Errorf("%s: got problems %q, want fine: %v", name, problems, tt.fine)
		}
	}
}

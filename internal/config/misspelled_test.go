package config

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMisspelled(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"SENDER_RATES": "SENDER_RATE", "SENDERRATE": "SENDER_RATE", "sender_rate": "SENDER_RATE", "DOUBT_WIAT": "DOUBT_WAIT",
		"REDIS_URI": "REDIS_URL", "PLIVO_AUTHTOKEN": "PLIVO_AUTH_TOKEN", "PLIVO_SENDER_NUMBERS": "PLIVO_SENDER_NUMBER",
		"WORKER_CONCURENCY": "WORKER_CONCURRENCY", "DATABASE_LISTEN_URLS": "DATABASE_LISTEN_URL", "POSTCARD_APIKEY": "POSTCARD_API_KEY",
		"SENDER_RATE": "", "API_PORT": "", "POSTGRES_PASSWORD": "", // they exist
		"REDIS_PORT": "", "API_HOST": "", "DATABASE_NAME": "", "PORT": "", "LOG_DIR": "", "COMPOSE_PROJECT_NAME": "", "X": "", // of other programs
	} {
		got := ""
		for _, m := range Misspelled(map[string]string{name: ""}) {
			got = m.Setting
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestSettingBesideAnAlmostEqualName checks that a name is not reported for a setting that is
// set too: it belongs to a program that reads the same file.
func TestSettingBesideAnAlmostEqualName(t *testing.T) {
	t.Parallel()
	got := Misspelled(map[string]string{"DATABASE_URL": "", "DATABASE_URI": "", "REDIS_URI": ""})
	want := []Misspelling{{Name: "REDIS_URI", Setting: "REDIS_URL"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEveryComposeVariableIsKnown(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var only []string
	for _, match := range regexp.MustCompile(`\$\{([A-Z_]+)`).FindAllStringSubmatch(string(content), -1) {
		if !slices.Contains(settings(), match[1]) {
			only = append(only, match[1])
		}
	}
	slices.Sort(only)
	if diff := cmp.Diff(composeOnly, slices.Compact(only)); diff != "" {
		t.Errorf("variables that only docker-compose.yml reads (-listed +read):\n%s", diff)
	}
}

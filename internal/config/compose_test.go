package config

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// fixedInCompose lists the variables whose values docker-compose.yml fixes, with the
// reason. .env cannot change them.
var fixedInCompose = map[string]string{
	"DATABASE_URL":        "the server is a container",
	"DATABASE_LISTEN_URL": "DATABASE_URL needs no pooler",
	"REDIS_URL":           "the server is a container",
	"API_ADDR":            "the published port leads to it",
	"API_METRICS_ADDR":    "127.0.0.1, which is usual elsewhere, reaches nothing outside the container",
	"WORKER_METRICS_ADDR": "the health check calls it",
}

// TestComposePassesEverySetting expects docker-compose.yml to hand each variable of
// .env to the processes that read it, except the fixed ones.
func TestComposePassesEverySetting(t *testing.T) {
	t.Parallel()
	shared := composeBlock(t, "x-account") + composeBlock(t, "x-settings")
	for service, settings := range map[string]reflect.Type{"api": reflect.TypeFor[API](), "worker": reflect.TypeFor[Worker]()} {
		block := shared + composeBlock(t, "  "+service)
		for _, variable := range variablesOf(settings) {
			line := regexp.MustCompile(`(?m)^ +` + variable + `:(.*)$`).FindStringSubmatch(block)
			if line == nil {
				t.Errorf("docker-compose.yml does not pass %s to the %s", variable, service)
				continue
			}
			value := strings.TrimSpace(line[1])
			settable := value == "" || strings.Contains(value, "${"+variable+":-")
			if fixed := fixedInCompose[variable] != ""; fixed == settable {
				t.Errorf("docker-compose.yml: %s has the value %q, and fixedInCompose says %q", variable, value, fixedInCompose[variable])
			}
		}
	}
}

// composeBlock returns the lines below a key of docker-compose.yml that are indented
// more than the key.
func composeBlock(t *testing.T, key string) string {
	t.Helper()
	content, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	indent := key[:len(key)-len(strings.TrimLeft(key, " "))]
	block := regexp.MustCompile(`(?m)^` + key + `:.*\n((?:` + indent + ` +.*\n|\n)+)`).FindStringSubmatch(string(content))
	if block == nil {
		t.Fatalf("docker-compose.yml has no %s", strings.TrimSpace(key))
	}
	return block[1]
}

package config_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/config"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	c, err := config.ReadWorker(completeEnv("SENDER_RATE", "2.5", "DOUBT_WAIT", "90s", "LOG_LEVEL", "warn"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]config.Setting{}
	for _, s := range config.Settings(c) {
		got[s.Name] = s
		if strings.Contains(s.Value, "hush") {
			t.Errorf("%s shows a secret", s.Name)
		}
	}
	for _, want := range []config.Setting{
		{"PLIVO_SENDER_NUMBER", "+14155550100,+14155550101", true}, {"PLIVO_AUTH_TOKEN", "[hidden]", true}, {"DATABASE_URL", "[hidden]", true},
		{"SENDER_RATE", "2.5", true}, {"DOUBT_WAIT", "1m30s", true}, {"REPORT_WAIT", "10m", false}, {"LOG_LEVEL", "WARN", true},
		{"REFIT", "true", false}, {"PUBLIC_URL", "", false}, {"PLIVO_AUTH_TOKEN_PREVIOUS", "", false},
	} {
		if diff := cmp.Diff(want, got[want.Name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want.Name, diff)
		}
	}
}

// TestSecretsHaveTheirType looks for variables whose name says that they are secret. Only
// values of type Secret are masked.
func TestSecretsHaveTheirType(t *testing.T) {
	t.Parallel()
	words := []string{"SECRET", "TOKEN", "PASSWORD", "DATABASE_URL", "REDIS_URL", "SMTP_URL", "LISTEN_URL"}
	found := 0
	var check func(reflect.Type)
	check = func(c reflect.Type) {
		for i := range c.NumField() {
			field := c.Field(i)
			name := field.Tag.Get("env")
			switch {
			case name == "" && field.Type.Kind() == reflect.Struct:
				check(field.Type)
			case slices.ContainsFunc(words, func(word string) bool { return strings.Contains(name, word) }) && field.Type.Kind() == reflect.String:
				found++
				if !strings.HasSuffix(fmt.Sprint(field.Type), "config.Secret") {
					t.Errorf("%s has type %s, want Secret", name, field.Type)
				}
			}
		}
	}
	check(reflect.TypeFor[config.API]())
	check(reflect.TypeFor[config.Worker]())
	if found < 8 {
		t.Errorf("got %d secrets, want all of both processes", found)
	}
}

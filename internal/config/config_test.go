package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/config"
)

// completeEnv returns the variables that both processes require, with the given
// names and values set.
func completeEnv(overrides ...string) map[string]string {
	vars := map[string]string{
		"DATABASE_URL": "postgres://u:db-hush@localhost/postcard", "REDIS_URL": "redis://:redis-hush@localhost:6379",
		"PLIVO_AUTH_ID": "MAXXXXXXXXXXXXXXXXXX", "PLIVO_AUTH_TOKEN": "token-hush", "PLIVO_SENDER_NUMBER": "+14155550100, +14155550101",
		"SECRET_KEY": aKey,
	}
	for i := 0; i < len(overrides); i += 2 {
		vars[overrides[i]] = overrides[i+1]
	}
	return vars
}

func TestReadAPI(t *testing.T) {
	t.Parallel()
	want := config.API{
		Shared: config.Shared{
			DatabaseURL: "postgres://u:db-hush@localhost/postcard", RedisURL: "redis://:redis-hush@localhost:6379",
			DatabaseListenURL: "postgres://u:db-hush@localhost/postcard",
			OptOutScope:       "all",
			MediaBudget:       500_000, MediaMemory: 400 << 20, MediaCheck: "on",
			LogLevel: slog.LevelInfo, LogFormat: "json",
			PublicURL: "https://postcard.example.com", CallbackURL: "https://postcard.example.com",
			Plivo: config.Plivo{
				AuthID: "MAXXXXXXXXXXXXXXXXXX", AuthToken: "token-hush",
				Senders: []string{"+14155550100", "+14155550101"}, BaseURL: config.PlivoAPI,
			},
		},
		MaxConnections: 25, Addr: ":8080", MetricsAddr: "127.0.0.1:9464", Signup: "closed", Countries: []string{"US", "CA"}, KeyRate: 3000, DailyCap: 200000, MediaQuota: 200_000_000,
		OIDC: config.OIDC{PasswordLogin: true}, SecretKey: aKey, Require2FA: "off",
	}
	got, err := config.ReadAPI(completeEnv(
		"PUBLIC_URL", "https://postcard.example.com/",
		"API_ADDR", "", "SIGNUP", "  ", // count as not set
		"MMS_COUNTRIES", "us, ca",
	))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want.DatabaseURL), string(got.DatabaseURL)); diff != "" {
		t.Error(diff) // a diff of the structs shows [hidden]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Plivo.Simulated() {
		t.Error("Simulated() = true for the real Plivo")
	}
}

func TestReadWorkerDefaults(t *testing.T) {
	t.Parallel()
	got, err := config.ReadWorker(completeEnv("PLIVO_BASE_URL", "http://127.0.0.1:9999/"))
	if err != nil {
		t.Fatal(err)
	}
	got.Shared = config.Shared{Plivo: config.Plivo{BaseURL: got.Plivo.BaseURL}}
	want := config.Worker{
		Shared:         config.Shared{Plivo: config.Plivo{BaseURL: "http://127.0.0.1:9999"}},
		MaxConnections: 20, MetricsAddr: "127.0.0.1:9465", Concurrency: 20, SendTimeout: 30 * time.Second, MaxAttempts: 8,
		DoubtWait: 3 * time.Minute, ReportWait: 10 * time.Minute, DoubtPolicy: "retry", Refit: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !got.Plivo.Simulated() {
		t.Error("Simulated() = false for another base URL")
	}
}

func TestAllErrorsAreReported(t *testing.T) {
	t.Parallel()
	readAPI := func(vars map[string]string) error { _, err := config.ReadAPI(vars); return err }
	readWorker := func(vars map[string]string) error { _, err := config.ReadWorker(vars); return err }
	readDatabaseURL := func(vars map[string]string) error { _, err := config.ReadDatabaseURL(vars); return err }
	cases := map[string]struct {
		read func(map[string]string) error
		vars map[string]string
		want []string
	}{
		"no variables": {readAPI, map[string]string{}, []string{
			"DATABASE_URL is missing",
			"PLIVO_AUTH_ID is missing",
			"PLIVO_AUTH_TOKEN is missing",
			"PLIVO_SENDER_NUMBER is missing: set one or more numbers in E.164 form, separated by commas",
			"REDIS_URL is missing",
		}},
		"all values invalid": {
			readAPI, completeEnv("DATABASE_URL", "mysql://u:db-hush@h/", "DATABASE_LISTEN_URL", "listen-hush", "DATABASE_MAX_CONNECTIONS", "4", "REDIS_URL", "redis-hush", "LOG_FORMAT", "xml", "OPT_OUT_SCOPE", "none", "LOG_LEVEL", "loud",
				"PUBLIC_URL", "https://u:url-hush@h/?x", "CALLBACK_URL", "ftp://u:url-hush@h", "PLIVO_SENDER_NUMBER", "+14155550100,4155550101", "PLIVO_BASE_URL", "https://h/v1",
				"API_ADDR", "8080", "API_METRICS_ADDR", "x", "SIGNUP", "maybe", "ADMIN_PASSWORD", "admin-hush", "MMS_COUNTRIES", "USA,US,UK", "MMS_BUDGET", "5000001", "MEDIA_MEMORY", "1", "MEDIA_CHECK", "yes", "MEDIA_QUOTA", "0",
				"ALLOW_PRIVATE_MEDIA", "sure", "QUEUES_WRITABLE", "hush", "API_KEY_RATE", "-1", "DAILY_CAP", "-1"), []string{
				"ADMIN_EMAIL and ADMIN_PASSWORD must be set together",
				"ALLOW_PRIVATE_MEDIA must be true or false",
				"API_ADDR must be an address like :8080 or 127.0.0.1:8080",
				"API_KEY_RATE must be 0 or more requests per minute",
				"API_METRICS_ADDR must be an address like :8080 or 127.0.0.1:8080",
				"CALLBACK_URL must be a URL like https://example.com, without user, query or fragment",
				"DAILY_CAP must be from 0 to 2147483647 messages per day",
				"DATABASE_LISTEN_URL must be a URL that starts with postgres:// or postgresql://, or a list like host=localhost dbname=postcard",
				"DATABASE_MAX_CONNECTIONS must be 5 or more",
				"DATABASE_URL must be a URL that starts with postgres:// or postgresql://, or a list like host=localhost dbname=postcard",
				"LOG_FORMAT must be json or text",
				"LOG_LEVEL must be one of debug, info, warn, error",
				"MEDIA_CHECK must be on or off",
				"MEDIA_MEMORY must be at least 100000000 bytes",
				"MEDIA_QUOTA must be a number of bytes above 0",
				"MMS_BUDGET must be from 20000 to 5000000 bytes",
				"MMS_COUNTRIES must be two-letter country codes (ISO 3166) separated by commas, like US,CA; entry 1 is not",
				"MMS_COUNTRIES must be two-letter country codes (ISO 3166) separated by commas, like US,CA; entry 3 is not",
				"OPT_OUT_SCOPE must be all or sender",
				"PLIVO_BASE_URL must not have a path",
				"PLIVO_SENDER_NUMBER must have only numbers in E.164 form, like +14155550123; entry 2 is not",
				"PUBLIC_URL must be a URL like https://example.com, without user, query or fragment",
				"QUEUES_WRITABLE must be true or false",
				"REDIS_URL must be a URL that starts with redis://, rediss://, unix:// or redis-sentinel://",
				"SIGNUP must be closed or open",
			},
		},
		"worker, wrong types": {
			readWorker, completeEnv("WORKER_CONCURRENCY", "token-hush", "SEND_TIMEOUT", "30", "MAX_ATTEMPTS", "8.5", "WORKER_METRICS_ADDR", "x",
				"SENDER_RATE", "many", "DOUBT_WAIT", "long"), []string{
				"DOUBT_WAIT must be a duration like 30s or 5m",
				"MAX_ATTEMPTS must be a whole number",
				"SENDER_RATE must be a number",
				"SEND_TIMEOUT must be a duration like 30s or 5m",
				"WORKER_CONCURRENCY must be a whole number",
				"WORKER_METRICS_ADDR must be an address like :8080 or 127.0.0.1:8080",
			},
		},
		"worker, out of range": {
			readWorker, completeEnv("WORKER_CONCURRENCY", "101", "SEND_TIMEOUT", "10m", "MAX_ATTEMPTS", "0",
				"SENDER_RATE", "-1", "DOUBT_WAIT", "2h", "REPORT_WAIT", "2h", "DOUBT_POLICY", "hope", "DOUBT_SILENCE", "89s"), []string{
				"DOUBT_POLICY must be retry or hold",
				"DOUBT_SILENCE must be 0s, or from 90s to 10m: Plivo repeats a failed callback only after 60 s",
				"DOUBT_WAIT must be from 0s to 1h",
				"MAX_ATTEMPTS must be from 1 to 100",
				"REPORT_WAIT must be from 1s to 1h",
				"SENDER_RATE must be 0 or more messages per minute",
				"SEND_TIMEOUT must be from 1s to 5m",
				"WORKER_CONCURRENCY must be from 1 to 100",
			},
		},
		"database URL": {readDatabaseURL, map[string]string{"DATABASE_URL": "db-hush"}, []string{
			"DATABASE_URL must be a URL that starts with postgres:// or postgresql://, or a list like host=localhost dbname=postcard",
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.read(maps.Clone(c.vars))
			if err == nil {
				t.Fatal("got no error")
			}
			want := fmt.Sprintf("the configuration has %d error(s):\n  %s", len(c.want), strings.Join(c.want, "\n  "))
			if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("got error %v, want no secret in it", err)
			}
		})
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	c, err := config.ReadAPI(completeEnv("ADMIN_EMAIL", "ada@example.com", "ADMIN_PASSWORD", "admin-hush"))
	if err != nil {
		t.Fatal(err)
	}
	printed := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		printed[verb] = fmt.Sprintf(verb, c) + fmt.Sprintf(verb, &c) + fmt.Sprintf(verb, c.Plivo.AuthToken)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	printed["json"] = string(raw)
	var logs bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&logs, nil), slog.NewTextHandler(&logs, nil)} {
		slog.New(handler).Info("read", slog.Any("config", c), slog.Any("pointer", &c), slog.Any("token", c.Plivo.AuthToken))
	}
	printed["slog"] = logs.String()
	for format, text := range printed {
		for _, encoding := range []string{"hush", fmt.Sprintf("%x", "hush"), fmt.Sprintf("%X", "hush")} {
			if strings.Contains(text, encoding) {
				t.Errorf("%s: got %s, want no secret in it", format, text)
			}
		}
	}
	if got := config.Secret("").String(); got != "" {
		t.Errorf("empty secret: got %q, want \"\"", got)
	}
}

func TestEnvironmentOverridesFile(t *testing.T) { // not parallel: it changes the working directory
	t.Chdir(t.TempDir())
	t.Setenv("POSTCARD_TEST_BOTH", "process")
	if _, err := config.Environment(); err != nil {
		t.Fatalf("without a file: got error %v", err)
	}
	writeEnv(t, "POSTCARD_TEST_BOTH=file\nPOSTCARD_TEST_FILE='from the file'\n")
	vars, err := config.Environment()
	if err != nil {
		t.Fatal(err)
	}
	got := [2]string{vars["POSTCARD_TEST_BOTH"], vars["POSTCARD_TEST_FILE"]}
	if want := [2]string{"process", "from the file"}; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, malformed := range []string{"PLIVO_AUTH_TOKEN='hush\n", "PLIVO_AUTH_TOKEN hush\n", "a-b=hush\n"} {
		writeEnv(t, malformed)
		if _, err := config.Environment(); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: got error %v, want one without the secret", malformed, err)
		}
	}
}

func writeEnv(t *testing.T, content string) {
	t.Helper()
	if err := os.WriteFile(".env", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDoubtSilenceNeedsReportsAndAPolicy(t *testing.T) {
	t.Parallel()
	const url = "https://postcard.example.com"
	for want, vars := range map[string][]string{
		"": {"PUBLIC_URL", url, "DOUBT_SILENCE", "90s"},
		"DOUBT_SILENCE must be 0s with DOUBT_POLICY=hold":             {"PUBLIC_URL", url, "DOUBT_SILENCE", "90s", "DOUBT_POLICY", "hold"},
		"DOUBT_SILENCE must be 0s without PUBLIC_URL or CALLBACK_URL": {"DOUBT_SILENCE", "90s"},
		"DOUBT_SILENCE must be 0s, or from 90s to 10m":                {"PUBLIC_URL", url, "DOUBT_SILENCE", "11m"},
		"DOUBT_SILENCE must be a duration":                            {"PUBLIC_URL", url, "DOUBT_SILENCE", "90"},
	} {
		_, err := config.ReadWorker(completeEnv(vars...))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got error %v, want %q", vars, err, want)
		}
	}
}

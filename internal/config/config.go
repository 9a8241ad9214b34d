// Package config turns the environment into one checked struct per process.
// All faults are reported at once, and nothing else in Postcard reads the
// environment.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/joho/godotenv"
)

// PlivoAPI is where the real Plivo answers.
const PlivoAPI = "https://api.plivo.com"

// Shared is what both processes need.
type Shared struct {
	DatabaseURL Secret     `env:"DATABASE_URL"`
	RedisURL    Secret     `env:"REDIS_URL"`
	LogLevel    slog.Level `env:"LOG_LEVEL" envDefault:"info"`
	LogFormat   string     `env:"LOG_FORMAT" envDefault:"json"`
	PublicURL   string     `env:"PUBLIC_URL"` // without a trailing slash; where people and Plivo reach the api

	AllowPrivateWebhooks bool `env:"ALLOW_PRIVATE_WEBHOOKS" envDefault:"false"`

	Plivo Plivo
}

// Plivo is how to reach the Plivo account.
type Plivo struct {
	AuthID    string   `env:"PLIVO_AUTH_ID"`
	AuthToken Secret   `env:"PLIVO_AUTH_TOKEN"`
	OldToken  Secret   `env:"PLIVO_AUTH_TOKEN_PREVIOUS"` // still taken for signatures of callbacks
	Senders   []string `env:"PLIVO_SENDER_NUMBER"`       // E.164, one or more
	BaseURL   string   `env:"PLIVO_BASE_URL" envDefault:"https://api.plivo.com"`
}

// Simulated reports whether messages go to a simulator instead of to Plivo.
func (p Plivo) Simulated() bool { return p.BaseURL != PlivoAPI }

// API is the configuration of cmd/api.
type API struct {
	Shared
	Addr              string   `env:"API_ADDR" envDefault:":8080"`
	MetricsAddr       string   `env:"API_METRICS_ADDR" envDefault:"127.0.0.1:9464"`
	Signup            string   `env:"SIGNUP" envDefault:"closed"` // closed or open
	AdminEmail        string   `env:"ADMIN_EMAIL"`
	AdminPassword     Secret   `env:"ADMIN_PASSWORD"`
	Countries         []string `env:"MMS_COUNTRIES" envDefault:"US,CA"`
	AllowPrivateMedia bool     `env:"ALLOW_PRIVATE_MEDIA" envDefault:"false"`
	ClientIPHeader    string   `env:"CLIENT_IP_HEADER"` // set by a trusted proxy; empty: the connection's address counts
	QueuesWritable    bool     `env:"QUEUES_WRITABLE" envDefault:"false"`
	KeyRate           int      `env:"API_KEY_RATE" envDefault:"3000"` // requests a minute for each API key and process; 0: no limit
	DailyCap          int      `env:"DAILY_CAP" envDefault:"200000"`  // messages a day, UTC, of a user without a cap of their own; 0: no cap
}

// Worker is the configuration of cmd/worker.
type Worker struct {
	Shared
	MetricsAddr string        `env:"WORKER_METRICS_ADDR" envDefault:"127.0.0.1:9465"`
	Concurrency int           `env:"WORKER_CONCURRENCY" envDefault:"20"`
	SendTimeout time.Duration `env:"SEND_TIMEOUT" envDefault:"30s"` // for one call to Plivo, from dialing to the end of the answer
	MaxAttempts int           `env:"MAX_ATTEMPTS" envDefault:"8"`
	SenderRate  *float64      `env:"SENDER_RATE"`                      // messages a minute for each sender; 0: no limit; not set: what Plivo carries for its kind
	DoubtWait   time.Duration `env:"DOUBT_WAIT" envDefault:"3m"`       // for evidence about a lost answer
	ReportWait  time.Duration `env:"REPORT_WAIT" envDefault:"10m"`     // with no delivery report for this long, Plivo is asked
	DoubtPolicy string        `env:"DOUBT_POLICY" envDefault:"resend"` // resend or hold, when none came
}

// Client is how the operator's tool reaches an api.
type Client struct {
	URL string `env:"POSTCARD_URL" envDefault:"http://localhost:8080"`
	Key Secret `env:"POSTCARD_API_KEY"`
}

// Secret is a value that must never be shown. Its zero value is empty.
type Secret string

// LogValue keeps the secret out of logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// String keeps the secret out of formatted text; string(s) is the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[hidden]"
}

// Format does the same for every verb of fmt, %#v, %x and mistaken ones too.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText keeps the secret out of JSON, and so out of logged structs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Environment is the process's environment over what the file .env in the
// working directory says, if there is one.
func Environment() (map[string]string, error) {
	vars, err := godotenv.Read(".env")
	var pathErr *fs.PathError
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist):
	case errors.As(err, &pathErr):
		return nil, fmt.Errorf("reading .env: %w", err)
	default: // the parser's own words repeat what stands in the file
		return nil, errors.New("reading .env: a line is not of the form NAME=value, or a quote is not closed")
	}
	if vars == nil {
		vars = map[string]string{}
	}
	maps.Copy(vars, env.ToMap(os.Environ()))
	return vars, nil
}

// ReadAPI reads and checks the configuration of cmd/api. The error lists every
// fault by the variable's name.
func ReadAPI(vars map[string]string) (API, error) {
	var c API
	unread, err := parse(&c, vars)
	if err != nil {
		return c, err
	}
	return c, report(unread, c.check())
}

// ReadWorker reads and checks the configuration of cmd/worker, like ReadAPI.
func ReadWorker(vars map[string]string) (Worker, error) {
	var c Worker
	unread, err := parse(&c, vars)
	if err != nil {
		return c, err
	}
	return c, report(unread, c.check())
}

// ReadPlivo reads and checks how to reach the Plivo account, like ReadAPI.
func ReadPlivo(vars map[string]string) (Plivo, error) {
	var c Plivo
	unread, err := parse(&c, vars)
	if err != nil {
		return c, err
	}
	return c, report(unread, c.check())
}

// ReadClient reads and checks how to reach an api, like ReadAPI.
func ReadClient(vars map[string]string) (Client, error) {
	var c Client
	unread, err := parse(&c, vars)
	if err != nil {
		return c, err
	}
	faults := checkURL("POSTCARD_URL", c.URL, "http", "https")
	if c.Key == "" {
		faults = append(faults, errors.New("POSTCARD_API_KEY is missing: make one under Settings"))
	}
	return c, report(unread, faults)
}

// ReadDatabaseURL reads the one variable that the operator's tool always needs.
func ReadDatabaseURL(vars map[string]string) (Secret, error) {
	return Secret(vars["DATABASE_URL"]), report(nil, checkURL("DATABASE_URL", vars["DATABASE_URL"], "postgres", "postgresql"))
}

// report lists all faults, sorted by variable. A variable that could not even
// be read holds its zero value: what was found wrong with that is left out.
func report(unread map[string]error, checked []error) error {
	var lines []string
	for _, fault := range unread {
		lines = append(lines, "  "+fault.Error())
	}
	for _, fault := range checked {
		variable, _, _ := strings.Cut(fault.Error(), " ")
		if unread[variable] == nil {
			lines = append(lines, "  "+fault.Error())
		}
	}
	if len(lines) == 0 {
		return nil
	}
	slices.Sort(lines)
	return fmt.Errorf("the configuration has %d fault(s):\n%s", len(lines), strings.Join(lines, "\n"))
}

// checkURL says what is wrong with a URL, never repeating it: it may hold a password.
func checkURL(name, value string, schemes ...string) []error {
	if value == "" {
		return []error{fmt.Errorf("%s is missing", name)}
	}
	u, err := url.Parse(value)
	if err != nil || !slices.Contains(schemes, u.Scheme) || (u.Host == "" && u.Path == "") {
		return []error{fmt.Errorf("%s must be a URL that starts with %s://", name, strings.Join(schemes, ":// or "))}
	}
	return nil
}

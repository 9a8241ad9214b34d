// Package config reads the environment into one checked struct per process and
// reports all errors at once. No other package reads the environment. Errors and
// printed structs never show a secret.
package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// PlivoAPI is the base URL of the real Plivo.
const PlivoAPI = "https://api.plivo.com"

// Shared is the configuration that both processes have.
type Shared struct {
	DatabaseURL Secret     `env:"DATABASE_URL"`
	RedisURL    Secret     `env:"REDIS_URL"`
	LogLevel    slog.Level `env:"LOG_LEVEL" envDefault:"info"`
	LogFormat   string     `env:"LOG_FORMAT" envDefault:"json"`
	PublicURL   string     `env:"PUBLIC_URL"`   // where people reach the api, without a trailing slash; empty if not known
	CallbackURL string     `env:"CALLBACK_URL"` // where Plivo reaches the api, without a trailing slash; PublicURL if not set; empty if it cannot

	AllowPrivateWebhooks bool `env:"ALLOW_PRIVATE_WEBHOOKS" envDefault:"false"`

	OptOutScope string `env:"OPT_OUT_SCOPE" envDefault:"all"` // all or sender: for which senders an opt-out holds

	MediaBudget       int    `env:"MMS_BUDGET" envDefault:"500000"`      // bytes that the pictures of a message may take together
	MediaMemory       int64  `env:"MEDIA_MEMORY" envDefault:"419430400"` // bytes that decoding one picture may take
	MediaCheck        string `env:"MEDIA_CHECK"`                         // on or off: whether media URLs are checked before they are sent; on if not set, off with a simulator
	AllowPrivateMedia bool   `env:"ALLOW_PRIVATE_MEDIA" envDefault:"false"`

	DatabaseListenURL Secret `env:"DATABASE_LISTEN_URL"` // for LISTEN and migrations; DatabaseURL if not set

	Plivo Plivo
}

// Plivo is the configuration of the Plivo account.
type Plivo struct {
	AuthID        string   `env:"PLIVO_AUTH_ID"`
	AuthToken     Secret   `env:"PLIVO_AUTH_TOKEN"`
	PreviousToken Secret   `env:"PLIVO_AUTH_TOKEN_PREVIOUS"` // still accepted in signatures of callbacks
	Senders       []string `env:"PLIVO_SENDER_NUMBER"`       // E.164, one or more
	BaseURL       string   `env:"PLIVO_BASE_URL" envDefault:"https://api.plivo.com"`
}

// Simulated reports whether messages go to a simulator instead of Plivo.
func (p Plivo) Simulated() bool { return p.BaseURL != PlivoAPI }

// API is the configuration of cmd/api.
type API struct {
	Shared
	MaxConnections int      `env:"DATABASE_MAX_CONNECTIONS" envDefault:"25"` // to Postgres, in all
	Addr           string   `env:"API_ADDR" envDefault:":8080"`
	MetricsAddr    string   `env:"API_METRICS_ADDR" envDefault:"127.0.0.1:9464"`
	Signup         string   `env:"SIGNUP" envDefault:"closed"` // closed or open
	AdminEmail     string   `env:"ADMIN_EMAIL"`
	AdminPassword  Secret   `env:"ADMIN_PASSWORD"`
	Countries      []string `env:"MMS_COUNTRIES" envDefault:"US,CA"`
	MediaQuota     int64    `env:"MEDIA_QUOTA" envDefault:"200000000"` // bytes of uploads that a workspace may have at a time
	ClientIPHeader string   `env:"CLIENT_IP_HEADER"`                   // set by a trusted proxy; if empty, the connection's address is used
	QueuesWritable bool     `env:"QUEUES_WRITABLE" envDefault:"false"`
	KeyRate        int      `env:"API_KEY_RATE" envDefault:"3000"` // requests per minute, for each API key and process; 0: no limit
	DailyCap       int      `env:"DAILY_CAP" envDefault:"200000"`  // messages per UTC day, for a workspace without a cap of its own; 0: no cap

	SecretKey         Secret `env:"SECRET_KEY"`                   // in base64; second factors are off without it
	PreviousSecretKey Secret `env:"SECRET_KEY_PREVIOUS"`          // still decrypts, while the key is changed
	Require2FA        string `env:"REQUIRE_2FA" envDefault:"off"` // off, admins or all: who must have a second factor

	SMTPURL  Secret `env:"SMTP_URL"`  // the server that sends mail; empty: no mail is sent
	SMTPFrom string `env:"SMTP_FROM"` // the sender of mails; the user in SMTP_URL if not set

	OIDC OIDC
}

// Worker is the configuration of cmd/worker.
type Worker struct {
	Shared
	MaxConnections int `env:"DATABASE_MAX_CONNECTIONS" envDefault:"20"` // to Postgres, in all

	MetricsAddr string        `env:"WORKER_METRICS_ADDR" envDefault:"127.0.0.1:9465"`
	Concurrency int           `env:"WORKER_CONCURRENCY" envDefault:"20"`
	SendTimeout time.Duration `env:"SEND_TIMEOUT" envDefault:"30s"` // for one call to Plivo, from dialing to the end of the response
	MaxAttempts int           `env:"MAX_ATTEMPTS" envDefault:"8"`
	SenderRate  *float64      `env:"SENDER_RATE"`                     // messages per minute and sender; 0: no limit; not set: Plivo's rate for the kind of number
	DoubtWait   time.Duration `env:"DOUBT_WAIT" envDefault:"3m"`      // how long to look for evidence about a message in doubt
	ReportWait  time.Duration `env:"REPORT_WAIT" envDefault:"10m"`    // time without a delivery report after which Plivo is polled
	DoubtPolicy string        `env:"DOUBT_POLICY" envDefault:"retry"` // retry or hold; what to do without evidence

	Refit bool `env:"REFIT" envDefault:"true"` // resend a message with smaller pictures when Plivo says that they were too large

	DoubtSilence time.Duration `env:"DOUBT_SILENCE" envDefault:"0s"` // how long Plivo must be silent about a message that it answered with an error; 0: silence is no evidence
}

// Client is the configuration with which the command line tool calls the api.
type Client struct {
	URL string `env:"POSTCARD_URL" envDefault:"http://localhost:8080"`
	Key Secret `env:"POSTCARD_API_KEY"`
}

// Secret is a string that is never printed or logged. string(s) is its value.
type Secret string

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// String returns a placeholder, or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[hidden]"
}

// Format writes the placeholder for every verb of fmt, including %#v and %x.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText keeps the secret out of JSON, and thus out of logged structs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Environment returns the variables of the file .env in the working directory, if
// it exists, overridden by those of the process's environment.
func Environment() (map[string]string, error) {
	vars, err := readDotenv()
	if err != nil {
		return nil, err
	}
	maps.Copy(vars, env.ToMap(os.Environ()))
	return vars, nil
}

// ReadAPI reads and checks the configuration of cmd/api. Its error lists every
// invalid variable with the rule that it violates.
func ReadAPI(vars map[string]string) (API, error) {
	var c API
	typeErrs, err := parse(&c, vars)
	if err != nil {
		return c, err
	}
	return c, join(typeErrs, c.check())
}

// ReadWorker reads and checks the configuration of cmd/worker, like ReadAPI.
func ReadWorker(vars map[string]string) (Worker, error) {
	var c Worker
	typeErrs, err := parse(&c, vars)
	if err != nil {
		return c, err
	}
	return c, join(typeErrs, c.check())
}

// ReadPlivo reads and checks the configuration of the Plivo account, like ReadAPI.
func ReadPlivo(vars map[string]string) (Plivo, error) {
	var c Plivo
	typeErrs, err := parse(&c, vars)
	if err != nil {
		return c, err
	}
	return c, join(typeErrs, c.check())
}

// ReadClient reads and checks the configuration of the api's client, like ReadAPI.
func ReadClient(vars map[string]string) (Client, error) {
	var c Client
	typeErrs, err := parse(&c, vars)
	if err != nil {
		return c, err
	}
	c.Key = cleanSecret(c.Key)
	errs := normalizeURL("POSTCARD_URL", &c.URL)
	if c.Key == "" {
		errs = append(errs, errors.New("POSTCARD_API_KEY is missing: create an API key under Settings"))
	}
	return c, join(typeErrs, errs)
}

// ReadDatabaseURL reads and checks the connection string of the command line tool:
// DATABASE_LISTEN_URL, which is a direct connection, or DATABASE_URL if that is not
// set.
func ReadDatabaseURL(vars map[string]string) (Secret, error) {
	name := "DATABASE_LISTEN_URL"
	if strings.TrimSpace(vars[name]) == "" {
		name = "DATABASE_URL"
	}
	return Secret(vars[name]), join(nil, checkDatabaseURL(name, vars[name]))
}

// ReadRedisURL reads and checks REDIS_URL alone. It may be missing.
func ReadRedisURL(vars map[string]string) (Secret, error) {
	value := vars["REDIS_URL"]
	if value == "" {
		return "", nil
	}
	return Secret(value), join(nil, checkRedisURL(value))
}

// ReadOptOutScope reads and checks OPT_OUT_SCOPE alone.
func ReadOptOutScope(vars map[string]string) (string, error) {
	var c struct {
		Scope string `env:"OPT_OUT_SCOPE" envDefault:"all"`
	}
	typeErrs, err := parse(&c, vars)
	if err != nil {
		return "", err
	}
	return c.Scope, join(typeErrs, checkOptOutScope(c.Scope))
}

// join returns one error that lists all errors, sorted by variable. A variable
// with a type error has its zero value, so errors of later checks about it are
// left out. Each error must start with the variable's name and a space.
func join(typeErrs map[string]error, checkErrs []error) error {
	var lines []string
	for _, err := range typeErrs {
		lines = append(lines, "  "+err.Error())
	}
	for _, err := range checkErrs {
		variable, _, _ := strings.Cut(err.Error(), " ")
		if typeErrs[variable] == nil {
			lines = append(lines, "  "+err.Error())
		}
	}
	if len(lines) == 0 {
		return nil
	}
	slices.Sort(lines)
	return fmt.Errorf("the configuration has %d error(s):\n%s", len(lines), strings.Join(lines, "\n"))
}

// keywordList matches a connection string that is a list of names and values.
var keywordList = regexp.MustCompile(`^[a-z_]+ *=`)

// checkDatabaseURL checks that the value looks like a connection string of Postgres.
// Package postgres parses it.
func checkDatabaseURL(name, value string) []error {
	value = strings.TrimSpace(value)
	switch {
	case value == "":
		return []error{fmt.Errorf("%s is missing", name)}
	case strings.HasPrefix(value, "postgres://"), strings.HasPrefix(value, "postgresql://"),
		keywordList.MatchString(value):
		return nil
	}
	return []error{fmt.Errorf("%s must be a URL that starts with postgres:// or postgresql://, or a list like host=localhost dbname=postcard", name)}
}

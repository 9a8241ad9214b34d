package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"

	"github.com/postcard-mms/postcard/internal/pasted"
)

func (c *Shared) check() []error {
	errs := checkDatabaseURL("DATABASE_URL", string(c.DatabaseURL))
	if c.DatabaseListenURL == "" {
		c.DatabaseListenURL = c.DatabaseURL
	} else {
		errs = append(errs, checkDatabaseURL("DATABASE_LISTEN_URL", string(c.DatabaseListenURL))...)
	}
	errs = append(errs, checkRedisURL(string(c.RedisURL))...)
	if c.LogFormat != "json" && c.LogFormat != "text" {
		errs = append(errs, errors.New("LOG_FORMAT must be json or text"))
	}
	if c.PublicURL != "" {
		errs = append(errs, normalizeURL("PUBLIC_URL", &c.PublicURL)...)
		errs = append(errs, checkReservedPath(c.PublicURL)...)
	}
	if c.CallbackURL == "" {
		c.CallbackURL = c.PublicURL
	} else {
		errs = append(errs, normalizeURL("CALLBACK_URL", &c.CallbackURL)...)
	}
	errs = append(errs, checkOptOutScope(c.OptOutScope)...)
	errs = append(errs, c.Plivo.check()...)
	return append(errs, c.checkMedia()...)
}

// Limits of MMS_BUDGET and MEDIA_MEMORY. A picture of 12 megapixels takes 100 MB.
const (
	minMediaBudget = 20_000
	maxMediaBudget = 5_000_000 // Plivo takes no more for a message (Plivo docs, MMS)
	minMediaMemory = 100_000_000
)

func (c *Shared) checkMedia() []error {
	var errs []error
	if c.MediaBudget < minMediaBudget || c.MediaBudget > maxMediaBudget {
		errs = append(errs, fmt.Errorf("MMS_BUDGET must be from %d to %d bytes", minMediaBudget, maxMediaBudget))
	}
	if c.MediaMemory < minMediaMemory {
		errs = append(errs, fmt.Errorf("MEDIA_MEMORY must be at least %d bytes", minMediaMemory))
	}
	switch c.MediaCheck {
	case "":
		c.MediaCheck = "on"
		if c.Plivo.Simulated() {
			c.MediaCheck = "off"
		}
	case "on", "off":
	default:
		errs = append(errs, errors.New("MEDIA_CHECK must be on or off"))
	}
	return errs
}

func checkOptOutScope(scope string) []error {
	if scope != "all" && scope != "sender" {
		return []error{errors.New("OPT_OUT_SCOPE must be all or sender")}
	}
	return nil
}

// redisSchemes are those that package queue reads, which this package cannot import.
var redisSchemes = []string{"redis", "rediss", "unix", "redis-socket", "redis-sentinel", "rediss-sentinel"}

// checkRedisURL checks only the scheme: package queue checks the rest at the start.
func checkRedisURL(value string) []error {
	if value == "" {
		return []error{errors.New("REDIS_URL is missing")}
	}
	scheme, rest, _ := strings.Cut(value, "://")
	if rest == "" || !slices.Contains(redisSchemes, scheme) {
		return []error{errors.New("REDIS_URL must be a URL that starts with redis://, rediss://, unix:// or redis-sentinel://")}
	}
	return nil
}

// e164 checks only the form of a phone number; package mms parses it.
var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

func (p *Plivo) check() []error {
	var errs []error
	p.AuthID, p.AuthToken, p.PreviousToken = pasted.Clean(p.AuthID), cleanSecret(p.AuthToken), cleanSecret(p.PreviousToken)
	if p.AuthID == "" {
		errs = append(errs, errors.New("PLIVO_AUTH_ID is missing"))
	}
	if p.AuthToken == "" {
		errs = append(errs, errors.New("PLIVO_AUTH_TOKEN is missing"))
	}
	if len(p.Senders) == 0 {
		errs = append(errs, errors.New("PLIVO_SENDER_NUMBER is missing: set one or more numbers in E.164 form, separated by commas"))
	}
	for i, sender := range p.Senders {
		p.Senders[i] = unquoted(sender)
		if !e164.MatchString(p.Senders[i]) {
			errs = append(errs, fmt.Errorf("PLIVO_SENDER_NUMBER must have only numbers in E.164 form, like +14155550123; entry %d is not", i+1))
		}
	}
	errs = append(errs, normalizeURL("PLIVO_BASE_URL", &p.BaseURL)...)
	if u, err := url.Parse(p.BaseURL); err == nil && u.Path != "" { // plivo-go ignores it
		errs = append(errs, errors.New("PLIVO_BASE_URL must not have a path"))
	}
	return errs
}

// cleanSecret cleans a pasted key. It must not be used for passwords, which may contain
// any character.
func cleanSecret(s Secret) Secret { return Secret(pasted.Clean(string(s))) }

// unquoted cleans an entry of a pasted list and removes straight and typographic quotes
// around it.
func unquoted(entry string) string {
	return strings.Trim(pasted.Clean(entry), `"'`+"\u2018\u2019\u201c\u201d\u00ab\u00bb ")
}

// urlPath matches paths that every proxy, browser and library writes in the same way.
var urlPath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)

// normalizeURL checks that the value, perhaps pasted, is scheme://host[:port][/path]. It
// changes scheme and host to lower case and removes a trailing slash. Its error does not
// repeat the value, which may contain a password.
func normalizeURL(name string, value *string) []error {
	*value = pasted.Clean(*value)
	u, err := url.Parse(*value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" ||
		u.User != nil || strings.ContainsAny(*value, "?#") {
		return []error{fmt.Errorf("%s must be a URL like https://example.com, without user, query or fragment", name)}
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	if !urlPath.MatchString(path) {
		return []error{fmt.Errorf("%s must have a path like /postcard: only letters, digits and - . _ ~, and no part that is empty or begins with a dot", name)}
	}
	*value = u.Scheme + "://" + strings.ToLower(u.Host) + path
	return nil
}

// reservedPaths are the first parts of the api's own paths. Tests of packages app and webui
// compare them with the routes.
var reservedPaths = []string{
	"account", "admin", "api", "batches", "callbacks", "docs", "favicon.ico", "invitations", "livez", "login", "logout",
	"messages", "openapi.json", "overview", "readyz", "reset", "settings", "signup", "static", "uploads", "workspaces",
}

// checkReservedPath rejects a PUBLIC_URL whose path begins like one of the api's own. Behind
// a proxy that removes the path, a request for /messages would be ambiguous.
func checkReservedPath(publicURL string) []error {
	u, err := url.Parse(publicURL)
	if err != nil {
		return nil // another error says so
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if !slices.Contains(reservedPaths, first) {
		return nil
	}
	return []error{fmt.Errorf("PUBLIC_URL must not have a path that begins with /%s, which is a path of Postcard itself", first)}
}

// minConnections is how many connections to Postgres a process needs: it listens on up
// to two, and a statement must not wait for a long one, like a report.
const minConnections = 5

func checkMaxConnections(n int) []error {
	if n < minConnections {
		return []error{fmt.Errorf("DATABASE_MAX_CONNECTIONS must be %d or more", minConnections)}
	}
	return nil
}

func (c *API) check() []error {
	errs := append(c.Shared.check(), checkMaxConnections(c.MaxConnections)...)
	errs = append(errs, checkAddr("API_ADDR", c.Addr)...)
	errs = append(errs, checkAddr("API_METRICS_ADDR", c.MetricsAddr)...)
	if c.Signup != "closed" && c.Signup != "open" {
		errs = append(errs, errors.New("SIGNUP must be closed or open"))
	}
	if c.KeyRate < 0 {
		errs = append(errs, errors.New("API_KEY_RATE must be 0 or more requests per minute"))
	}
	if c.DailyCap < 0 || c.DailyCap > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("DAILY_CAP must be from 0 to %d messages per day", math.MaxInt32))
	}
	if c.MediaQuota <= 0 {
		errs = append(errs, errors.New("MEDIA_QUOTA must be a number of bytes above 0"))
	}
	errs = append(errs, c.checkMail()...)
	if (c.AdminEmail == "") != (c.AdminPassword == "") {
		errs = append(errs, errors.New("ADMIN_EMAIL and ADMIN_PASSWORD must be set together"))
	}
	errs = append(errs, c.OIDC.check(c.PublicURL)...)
	for i, country := range c.Countries {
		c.Countries[i] = strings.ToUpper(unquoted(country))
		if !phonenumbers.GetSupportedRegions()[c.Countries[i]] {
			errs = append(errs, fmt.Errorf("MMS_COUNTRIES must be two-letter country codes (ISO 3166) separated by commas, like US,CA; entry %d is not", i+1))
		}
	}
	return append(errs, c.checkSecretKey()...)
}

func (c *Worker) check() []error {
	errs := append(c.Shared.check(), checkMaxConnections(c.MaxConnections)...)
	errs = append(errs, checkAddr("WORKER_METRICS_ADDR", c.MetricsAddr)...)
	if c.Concurrency < 1 || c.Concurrency > 100 {
		// Plivo allows 100 simultaneous requests per account (Plivo docs, MMS FAQ).
		errs = append(errs, errors.New("WORKER_CONCURRENCY must be from 1 to 100"))
	}
	if c.SendTimeout < time.Second || c.SendTimeout > 5*time.Minute {
		errs = append(errs, errors.New("SEND_TIMEOUT must be from 1s to 5m"))
	}
	if c.MaxAttempts < 1 || c.MaxAttempts > 100 {
		errs = append(errs, errors.New("MAX_ATTEMPTS must be from 1 to 100"))
	}
	if c.SenderRate != nil && *c.SenderRate < 0 {
		errs = append(errs, errors.New("SENDER_RATE must be 0 or more messages per minute"))
	}
	if c.DoubtWait < 0 || c.DoubtWait > time.Hour {
		errs = append(errs, errors.New("DOUBT_WAIT must be from 0s to 1h"))
	}
	if c.ReportWait < time.Second || c.ReportWait > time.Hour {
		errs = append(errs, errors.New("REPORT_WAIT must be from 1s to 1h"))
	}
	if c.DoubtPolicy != "retry" && c.DoubtPolicy != "hold" {
		errs = append(errs, errors.New("DOUBT_POLICY must be retry or hold"))
	}
	return append(errs, c.checkSilence()...)
}

// checkSilence checks DOUBT_SILENCE. The limits are those of package mms, which this
// package cannot import.
func (c *Worker) checkSilence() []error {
	switch {
	case c.DoubtSilence == 0:
		return nil
	case c.DoubtSilence < 90*time.Second || c.DoubtSilence > 10*time.Minute:
		return []error{errors.New("DOUBT_SILENCE must be 0s, or from 90s to 10m: Plivo repeats a failed callback only after 60 s")}
	case c.DoubtPolicy == "hold":
		return []error{errors.New("DOUBT_SILENCE must be 0s with DOUBT_POLICY=hold: it sends messages again that the policy leaves to a person")}
	case c.CallbackURL == "":
		return []error{errors.New("DOUBT_SILENCE must be 0s without PUBLIC_URL or CALLBACK_URL: Plivo can send no reports, so its silence says nothing")}
	}
	return nil
}

func checkAddr(name, addr string) []error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return []error{fmt.Errorf("%s must be an address like :8080 or 127.0.0.1:8080", name)}
	}
	return nil
}

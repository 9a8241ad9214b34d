package config

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"
)

func (c *Shared) check() []error {
	faults := checkURL("DATABASE_URL", string(c.DatabaseURL), "postgres", "postgresql")
	faults = append(faults, checkURL("REDIS_URL", string(c.RedisURL), "redis", "rediss", "redis-socket", "redis-sentinel")...)
	if c.LogFormat != "json" && c.LogFormat != "text" {
		faults = append(faults, fmt.Errorf("LOG_FORMAT must be json or text"))
	}
	if c.PublicURL != "" {
		faults = append(faults, checkOrigin("PUBLIC_URL", c.PublicURL, true)...)
		c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	}
	return append(faults, c.Plivo.check()...)
}

// e164 is the shape of a phone number; whether it exists is for mms to say.
var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

func (p *Plivo) check() []error {
	var faults []error
	if p.AuthID == "" {
		faults = append(faults, fmt.Errorf("PLIVO_AUTH_ID is missing"))
	}
	if p.AuthToken == "" {
		faults = append(faults, fmt.Errorf("PLIVO_AUTH_TOKEN is missing"))
	}
	if len(p.Senders) == 0 {
		faults = append(faults, fmt.Errorf("PLIVO_SENDER_NUMBER is missing: the number(s) to send from, in E.164 form, comma separated"))
	}
	for i, sender := range p.Senders {
		p.Senders[i] = strings.TrimSpace(sender)
		if !e164.MatchString(p.Senders[i]) {
			faults = append(faults, fmt.Errorf("PLIVO_SENDER_NUMBER: entry %d is not in E.164 form, like +14155550123", i+1))
		}
	}
	p.BaseURL = strings.TrimSuffix(p.BaseURL, "/")
	return append(faults, checkOrigin("PLIVO_BASE_URL", p.BaseURL, false)...)
}

// checkOrigin wants scheme://host[:port], and a path only where it may have
// one (plivo-go drops a path of its base URL).
func checkOrigin(name, value string, pathAllowed bool) []error {
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return []error{fmt.Errorf("%s must be a URL like https://example.com", name)}
	}
	if !pathAllowed && strings.Trim(u.Path, "/") != "" {
		return []error{fmt.Errorf("%s must not have a path", name)}
	}
	return nil
}

func (c *API) check() []error {
	faults := c.Shared.check()
	faults = append(faults, checkAddr("API_ADDR", c.Addr)...)
	faults = append(faults, checkAddr("API_METRICS_ADDR", c.MetricsAddr)...)
	if c.Signup != "closed" && c.Signup != "open" {
		faults = append(faults, fmt.Errorf("SIGNUP must be closed or open"))
	}
	if c.KeyRate < 0 {
		faults = append(faults, fmt.Errorf("API_KEY_RATE must be 0 or more requests a minute"))
	}
	if c.DailyCap < 0 || c.DailyCap > math.MaxInt32 {
		faults = append(faults, fmt.Errorf("DAILY_CAP must be 0 or more messages a day"))
	}
	if (c.AdminEmail == "") != (c.AdminPassword == "") {
		faults = append(faults, fmt.Errorf("ADMIN_EMAIL and ADMIN_PASSWORD must be set together"))
	}
	for i, country := range c.Countries {
		c.Countries[i] = strings.ToUpper(strings.TrimSpace(country))
		if len(c.Countries[i]) != 2 {
			faults = append(faults, fmt.Errorf("MMS_COUNTRIES must be two-letter country codes, comma separated, like US,CA"))
		}
	}
	return faults
}

func (c *Worker) check() []error {
	faults := c.Shared.check()
	faults = append(faults, checkAddr("WORKER_METRICS_ADDR", c.MetricsAddr)...)
	if c.Concurrency < 1 || c.Concurrency > 100 {
		// Plivo allows 100 simultaneous requests per account.
		faults = append(faults, fmt.Errorf("WORKER_CONCURRENCY must be from 1 to 100"))
	}
	if c.SendTimeout < time.Second || c.SendTimeout > 5*time.Minute {
		faults = append(faults, fmt.Errorf("SEND_TIMEOUT must be from 1s to 5m"))
	}
	if c.MaxAttempts < 1 || c.MaxAttempts > 100 {
		faults = append(faults, fmt.Errorf("MAX_ATTEMPTS must be from 1 to 100"))
	}
	if c.SenderRate != nil && *c.SenderRate < 0 {
		faults = append(faults, fmt.Errorf("SENDER_RATE must be 0 or more messages a minute"))
	}
	if c.DoubtWait < 0 || c.DoubtWait > time.Hour {
		faults = append(faults, fmt.Errorf("DOUBT_WAIT must be from 0s to 1h"))
	}
	if c.ReportWait < time.Second || c.ReportWait > time.Hour {
		faults = append(faults, fmt.Errorf("REPORT_WAIT must be from 1s to 1h"))
	}
	if c.DoubtPolicy != "resend" && c.DoubtPolicy != "hold" {
		faults = append(faults, fmt.Errorf("DOUBT_POLICY must be resend or hold"))
	}
	return faults
}

func checkAddr(name, addr string) []error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return []error{fmt.Errorf("%s must be an address like :8080 or 127.0.0.1:8080", name)}
	}
	return nil
}

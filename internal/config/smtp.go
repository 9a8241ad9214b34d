package config

import (
	"errors"
	"net/mail"
	"net/url"
	"strings"

	"github.com/postcard-mms/postcard/internal/pasted"
)

// checkMail checks SMTP_URL and SMTP_FROM. SMTP_FROM defaults to the user in SMTP_URL, if
// that is an email address. No error repeats the URL, which contains a password.
func (c *API) checkMail() []error {
	c.SMTPURL, c.SMTPFrom = cleanSecret(c.SMTPURL), pasted.Clean(c.SMTPFrom)
	if c.SMTPURL == "" {
		return nil
	}
	var errs []error
	u, err := url.Parse(string(c.SMTPURL))
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" && (u.Scheme != "smtp" || u.RawQuery != "tls=none") {
		return []error{errors.New("SMTP_URL must be a URL like smtp://USER:PASSWORD@mail.example.com:587 (with STARTTLS; without it, add ?tls=none) or smtps://USER:PASSWORD@mail.example.com:465")}
	}
	if c.SMTPFrom == "" && strings.Contains(u.User.Username(), "@") {
		c.SMTPFrom = u.User.Username()
	}
	if _, err := mail.ParseAddress(c.SMTPFrom); err != nil {
		errs = append(errs, errors.New("SMTP_FROM must be an email address, like postcard@example.com or Postcard <postcard@example.com>"))
	}
	if c.PublicURL == "" {
		errs = append(errs, errors.New("PUBLIC_URL is missing: links in mails begin with it. Set it, or remove SMTP_URL"))
	}
	return errs
}

// ReadPublicURL reads and checks PUBLIC_URL alone, which must be set.
func ReadPublicURL(vars map[string]string) (string, error) {
	value := vars["PUBLIC_URL"]
	if strings.TrimSpace(value) == "" {
		return "", join(nil, []error{errors.New("PUBLIC_URL is missing: links begin with it")})
	}
	err := join(nil, normalizeURL("PUBLIC_URL", &value))
	return value, err
}

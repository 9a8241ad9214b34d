package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/postcard-mms/postcard/internal/pasted"
)

// OIDC is the configuration of single sign-on. It is off unless Issuer is set.
type OIDC struct {
	Issuer       string   `env:"OIDC_ISSUER"` // exactly as the provider spells it
	ClientID     string   `env:"OIDC_CLIENT_ID"`
	ClientSecret Secret   `env:"OIDC_CLIENT_SECRET"`
	Name         string   `env:"OIDC_NAME"`            // of the provider, for people
	Domains      []string `env:"OIDC_ALLOWED_DOMAINS"` // whose people may create users, in lower case; empty: all, if sign-up is open
	AdminGroup   string   `env:"OIDC_ADMIN_GROUP"`     // whose members are admins; empty: roles are not changed

	PasswordLogin bool `env:"PASSWORD_LOGIN" envDefault:"true"`
}

// On reports whether single sign-on is configured.
func (o OIDC) On() bool { return o.Issuer != "" }

// maxOIDCName is the longest OIDC_NAME, in bytes: it stands on a button.
const maxOIDCName = 60

// domain matches the part of an email after the @.
var domain = regexp.MustCompile(`^[a-z0-9\x{80}-\x{10FFFF}]([a-z0-9.\x{80}-\x{10FFFF}-]*[a-z0-9\x{80}-\x{10FFFF}])?$`)

// check cleans the settings and checks that they are set together.
func (o *OIDC) check(publicURL string) []error {
	o.Issuer, o.ClientID, o.ClientSecret = pasted.Clean(o.Issuer), pasted.Clean(o.ClientID), cleanSecret(o.ClientSecret)
	o.Name, o.AdminGroup = pasted.Clean(o.Name), pasted.Clean(o.AdminGroup)
	var errs []error
	if !o.PasswordLogin && !o.On() {
		errs = append(errs, errors.New("PASSWORD_LOGIN is false, so nobody could log in: set OIDC_ISSUER and the other settings of single sign-on, or remove it"))
	}
	needed := []struct {
		name string
		set  bool
	}{
		{"OIDC_ISSUER", o.On()}, {"OIDC_CLIENT_ID", o.ClientID != ""}, {"OIDC_CLIENT_SECRET", o.ClientSecret != ""}, {"OIDC_NAME", o.Name != ""},
		{"PUBLIC_URL", publicURL != ""},
	}
	if !o.On() && o.ClientID == "" && o.ClientSecret == "" && o.Name == "" && len(o.Domains) == 0 && o.AdminGroup == "" {
		return errs
	}
	for _, n := range needed {
		if !n.set {
			errs = append(errs, fmt.Errorf("%s is missing: single sign-on needs OIDC_ISSUER, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, OIDC_NAME and PUBLIC_URL", n.name))
		}
	}
	if len(o.Name) > maxOIDCName {
		errs = append(errs, fmt.Errorf("OIDC_NAME must have at most %d bytes", maxOIDCName))
	}
	for i, d := range o.Domains {
		o.Domains[i] = strings.TrimPrefix(strings.ToLower(unquoted(d)), "@")
		if !domain.MatchString(o.Domains[i]) {
			errs = append(errs, fmt.Errorf("OIDC_ALLOWED_DOMAINS must be domains separated by commas, like example.com,example.org; entry %d is not", i+1))
		}
	}
	if o.On() {
		errs = append(errs, checkIssuer(o.Issuer, publicURL)...)
	}
	return errs
}

// checkIssuer checks the issuer without changing it: the provider compares it byte by byte.
// Over http, anybody on the way could log in as anybody.
func checkIssuer(issuer, publicURL string) []error {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || strings.ContainsAny(issuer, "?#") {
		return []error{errors.New("OIDC_ISSUER must be a URL like https://id.example.com, without user, query or fragment")}
	}
	if u.Scheme == "http" && strings.HasPrefix(publicURL, "https://") {
		return []error{errors.New("OIDC_ISSUER must begin with https://, as PUBLIC_URL does")}
	}
	if strings.HasSuffix(u.Path, "/.well-known/openid-configuration") {
		return []error{errors.New("OIDC_ISSUER must not contain /.well-known/openid-configuration: set what is before it")}
	}
	return nil
}

// ReadPasswordLogin reads PASSWORD_LOGIN alone.
func ReadPasswordLogin(vars map[string]string) (bool, error) {
	var c struct {
		On bool `env:"PASSWORD_LOGIN" envDefault:"true"`
	}
	typeErrs, err := parse(&c, vars)
	if err != nil {
		return false, err
	}
	return c.On, join(typeErrs, nil)
}

package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/config"
)

// ssoEnv returns a complete environment with single sign-on.
func ssoEnv(overrides ...string) map[string]string {
	return completeEnv(append([]string{
		"PUBLIC_URL", "https://mms.example.com", "OIDC_ISSUER", "https://id.example.com/realms/x/", "OIDC_CLIENT_ID", "postcard",
		"OIDC_CLIENT_SECRET", "oidc-hush", "OIDC_NAME", "Example ID",
	}, overrides...)...)
}

func TestReadOIDC(t *testing.T) {
	t.Parallel()
	c, err := config.ReadAPI(ssoEnv("OIDC_NAME", " Example ID\u200b", "OIDC_ALLOWED_DOMAINS", "Example.com, @example.org,müller.example", "OIDC_ADMIN_GROUP", "admins", "PASSWORD_LOGIN", "false"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.OIDC{
		Issuer:   "https://id.example.com/realms/x/", // the slash stays
		ClientID: "postcard", ClientSecret: "oidc-hush", Name: "Example ID", Domains: []string{"example.com", "example.org", "müller.example"}, AdminGroup: "admins",
	}
	if diff := cmp.Diff(want, c.OIDC); diff != "" || c.OIDC.ClientSecret != want.ClientSecret || !c.OIDC.On() {
		t.Errorf("OIDC (-want +got):\n%s", diff)
	}
}

func TestOIDCErrors(t *testing.T) {
	t.Parallel()
	const together = ": single sign-on needs OIDC_ISSUER, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, OIDC_NAME and PUBLIC_URL"
	cases := map[string]struct {
		vars map[string]string
		want []string // empty: none
	}{
		"complete":                   {ssoEnv(), nil},
		"off":                        {completeEnv(), nil},
		"only the issuer":            {completeEnv("OIDC_ISSUER", "https://id.example.com"), []string{"OIDC_CLIENT_ID is missing" + together, "OIDC_CLIENT_SECRET is missing" + together, "OIDC_NAME is missing" + together, "PUBLIC_URL is missing" + together}},
		"only the secret":            {ssoEnv("OIDC_ISSUER", "", "OIDC_CLIENT_ID", "", "OIDC_NAME", ""), []string{"OIDC_CLIENT_ID is missing" + together, "OIDC_ISSUER is missing" + together, "OIDC_NAME is missing" + together}},
		"only the admin group":       {completeEnv("OIDC_ADMIN_GROUP", "x", "PUBLIC_URL", "https://mms.example.com"), []string{"OIDC_CLIENT_ID is missing" + together, "OIDC_CLIENT_SECRET is missing" + together, "OIDC_ISSUER is missing" + together, "OIDC_NAME is missing" + together}},
		"issuer without scheme":      {ssoEnv("OIDC_ISSUER", "id.example.com"), []string{"OIDC_ISSUER must be a URL like https://id.example.com, without user, query or fragment"}},
		"issuer with a password":     {ssoEnv("OIDC_ISSUER", "https://a:oidc-hush@id.example.com"), []string{"OIDC_ISSUER must be a URL like https://id.example.com, without user, query or fragment"}},
		"issuer over http":           {ssoEnv("OIDC_ISSUER", "http://id.example.com"), []string{"OIDC_ISSUER must begin with https://, as PUBLIC_URL does"}},
		"everything over http":       {ssoEnv("OIDC_ISSUER", "http://localhost:8090", "PUBLIC_URL", "http://localhost:8080"), nil},
		"the discovery document":     {ssoEnv("OIDC_ISSUER", "https://id.example.com/.well-known/openid-configuration"), []string{"OIDC_ISSUER must not contain /.well-known/openid-configuration: set what is before it"}},
		"an email instead of domain": {ssoEnv("OIDC_ALLOWED_DOMAINS", "example.com,ada@example.com"), []string{"OIDC_ALLOWED_DOMAINS must be domains separated by commas, like example.com,example.org; entry 2 is not"}},
		"long name":                  {ssoEnv("OIDC_NAME", strings.Repeat("x", 61)), []string{"OIDC_NAME must have at most 60 bytes"}},
		"no way to log in":           {completeEnv("PASSWORD_LOGIN", "false"), []string{"PASSWORD_LOGIN is false, so nobody could log in: set OIDC_ISSUER and the other settings of single sign-on, or remove it"}},
		"PASSWORD_LOGIN of no type":  {ssoEnv("PASSWORD_LOGIN", "off"), []string{"PASSWORD_LOGIN must be true or false"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.ReadAPI(c.vars)
			var got []string
			if err != nil {
				for _, line := range strings.Split(err.Error(), "\n")[1:] {
					got = append(got, strings.TrimSpace(line))
				}
				if strings.Contains(err.Error(), "hush") {
					t.Errorf("the error contains a secret: %v", err)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadPasswordLogin(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"": true, "true": true, "false": false} {
		if got, err := config.ReadPasswordLogin(map[string]string{"PASSWORD_LOGIN": value}); err != nil || got != want {
			t.Errorf("%q: got %t, %v, want %t", value, got, err, want)
		}
	}
	if _, err := config.ReadPasswordLogin(map[string]string{"PASSWORD_LOGIN": "off"}); err == nil {
		t.Error("off: got no error")
	}
}

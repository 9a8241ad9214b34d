package config_test

import (
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/config"
)

const aKey, anotherKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

func TestSecretKey(t *testing.T) {
	t.Parallel()
	const simulator = "http://127.0.0.1:9999"
	for name, tt := range map[string]struct {
		vars []string
		want string // "": no error
	}{
		"without https":                    {[]string{"PUBLIC_URL", "http://localhost:8080"}, ""},
		"without a public URL":             {nil, ""},
		"https and the simulator":          {[]string{"PUBLIC_URL", "https://a.example", "PLIVO_BASE_URL", simulator}, ""},
		"https and Plivo":                  {[]string{"PUBLIC_URL", "https://a.example"}, "SECRET_KEY is missing: an installation with an https PUBLIC_URL"},
		"https and Plivo, with a key":      {[]string{"PUBLIC_URL", "https://a.example", "SECRET_KEY", aKey}, ""},
		"two keys":                         {[]string{"SECRET_KEY", " " + aKey + "\n", "SECRET_KEY_PREVIOUS", anotherKey}, ""},
		"required":                         {[]string{"REQUIRE_2FA", "admins"}, "SECRET_KEY is missing: REQUIRE_2FA=admins needs it"},
		"required, with a key":             {[]string{"REQUIRE_2FA", "all", "SECRET_KEY", aKey}, ""},
		"required of nobody known":         {[]string{"REQUIRE_2FA", "some"}, "REQUIRE_2FA must be off, admins or all"},
		"only the previous key":            {[]string{"SECRET_KEY_PREVIOUS", aKey}, "SECRET_KEY is missing: SECRET_KEY_PREVIOUS"},
		"not a key":                        {[]string{"SECRET_KEY", "hush"}, "SECRET_KEY must be 32 random bytes in base64"},
		"not a key, previous":              {[]string{"SECRET_KEY", aKey, "SECRET_KEY_PREVIOUS", "hush"}, "SECRET_KEY_PREVIOUS must be 32 random bytes in base64"},
		"half a key, https and real Plivo": {[]string{"PUBLIC_URL", "https://a.example", "SECRET_KEY", aKey[:20]}, "SECRET_KEY must be 32 random bytes in base64"},
	} {
		vars := completeEnv(tt.vars...)
		if !contains(tt.vars, "SECRET_KEY") {
			delete(vars, "SECRET_KEY")
		}
		c, err := config.ReadAPI(vars)
		switch {
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "1 error(s)")):
			t.Errorf("%s: got error %v, want %q alone", name, err, tt.want)
		case tt.want == "" && err != nil:
			t.Errorf("%s: got error %v, want none", name, err)
		case tt.want == "":
			ring, err := c.Keyring()
			if err != nil || (ring != nil) != contains(tt.vars, "SECRET_KEY") {
				t.Errorf("%s: Keyring() = %v, %v, want one exactly if there is a key", name, ring, err)
			}
		}
	}
}

func contains(pairs []string, name string) bool {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == name {
			return true
		}
	}
	return false
}

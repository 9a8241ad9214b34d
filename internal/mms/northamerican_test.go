package mms

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// validateTo returns the violation of the recipient, as "rule message".
func validateTo(to string, rules Rules) string {
	params := validParams
	params.To = to
	_, err := rules.Validate(params, uuid.UUID{15: 1}, uuid.UUID{15: 2}, noon)
	var violations invalid.Fields
	if errors.As(err, &violations) {
		return violations[0].Rule + " " + violations[0].Message
	}
	return ""
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	with := func(countries ...string) Rules {
		return Rules{Countries: countries, Senders: testRules.Senders}
	}
	home, real := with("US", "CA"), with("US", "CA")
	real.RefuseFictional = true
	tests := map[string]struct {
		to    string
		rules Rules
		want  []string // in the violation; none for a valid number
	}{
		"US":               {"+14155550123", home, nil},
		"Canada":           {"+14165550123", home, nil},
		"toll-free":        {"+18005551234", home, nil},
		"new area code":    {"+16245550142", home, nil},
		"new, only Canada": {"+16245550142", with("CA"), nil},
		"new, elsewhere":   {"+16245550142", with("PR"), []string{"country ", "(PR)"}},

		"Puerto Rico":              {"+17875550123", home, []string{"country ", "Puerto Rico (PR)", "MMS_COUNTRIES"}},
		"Puerto Rico, 939":         {"+19395550123", home, []string{"country ", "Puerto Rico (PR)"}},
		"Virgin Islands":           {"+13405550123", home, []string{"country ", "U.S. Virgin Islands (VI)", "MMS_COUNTRIES"}},
		"Guam":                     {"+16715550123", home, []string{"country ", "Guam (GU)", "MMS_COUNTRIES"}},
		"American Samoa":           {"+16845550123", home, []string{"country ", "American Samoa (AS)", "MMS_COUNTRIES"}},
		"Northern Mariana Islands": {"+16705550123", home, []string{"country ", "Northern Mariana Islands (MP)", "MMS_COUNTRIES"}},
		"Puerto Rico allowed":      {"+17875550123", with("US", "PR"), nil},
		"Virgin Islands allowed":   {"+13405550123", with("US", "VI"), nil},
		"Guam allowed":             {"+16715550123", with("US", "GU"), nil},
		"American Samoa allowed":   {"+16845550123", with("US", "AS"), nil},
		"Mariana Islands allowed":  {"+16705550123", with("US", "MP"), nil},
		"Jamaica":                  {"+18765550123", home, []string{"country ", "(US, CA)", "Jamaica (JM)"}},
		"Dominican Republic":       {"+18095550123", home, []string{"country ", "Dominican Republic (DO)"}},
		"United Kingdom":           {"+442079460958", home, []string{"country ", "United Kingdom (GB)"}},
		"no country":               {"+80012345678", home, []string{"country ", "(US, CA)"}},

		"premium rate":      {"+19002345678", home, []string{"unreachable ", "900"}},
		"long-distance":     {"+17002345678", home, []string{"unreachable ", "700"}},
		"government":        {"+17102345678", home, []string{"unreachable ", "710"}},
		"personal":          {"+15002345678", home, []string{"unreachable ", "500"}},
		"fictional, real":   {"+14155550123", real, []string{"fictional ", "555-0100"}},
		"555, real":         {"+14155551212", real, nil},
		"fictional, forced": {"+14155550199", home, nil},
	}
	for _, area := range personalAreas {
		tests["personal "+area] = struct {
			to    string
			rules Rules
			want  []string
		}{fmt.Sprintf("+1%s2345678", area), home, []string{"unreachable ", area}}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := validateTo(tt.to, tt.rules)
			if (got == "") != (tt.want == nil) {
				t.Errorf("%s: got violation %q, want %q", tt.to, got, tt.want)
			}
			for _, part := range tt.want {
				if !strings.Contains(got, part) {
					t.Errorf("%s: got violation %q, want %q in it", tt.to, got, part)
				}
			}
		})
	}
}

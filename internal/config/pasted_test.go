package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/config"
)

func TestPastedValues(t *testing.T) {
	t.Parallel()
	for _, senders := range []string{
		"+14155550100,+14155550101", " +14155550100 ,\t+14155550101\r\n", "\u202a+14155550100\u202c,\u202a+14155550101\u202c", "\ufeff+14155550100,\u00a0+14155550101",
		"+1415\u200b5550100,+14155550101\u2060", "“+14155550100”, “+14155550101”", "'+14155550100','+14155550101'", `"+14155550100","+14155550101"`,
	} {
		c, err := config.ReadAPI(completeEnv("PLIVO_SENDER_NUMBER", senders, "MMS_COUNTRIES", "us, \u200b“CA”,\u00a0pr",
			"PLIVO_AUTH_ID", "\u200bMAXXXXXXXXXXXXXXXXXX ", "PLIVO_AUTH_TOKEN", "token-hush\u00a0\n", "PLIVO_BASE_URL", "https://api.plivo.com/\u200b"))
		if err != nil {
			t.Errorf("%q: %v", senders, err)
			continue
		}
		want := config.Plivo{AuthID: "MAXXXXXXXXXXXXXXXXXX", AuthToken: "token-hush", Senders: []string{"+14155550100", "+14155550101"}, BaseURL: config.PlivoAPI}
		if diff := cmp.Diff(want, c.Plivo); diff != "" || c.Plivo.AuthToken != want.AuthToken {
			t.Errorf("%q (-want +got):\n%s", senders, diff)
		}
		if diff := cmp.Diff([]string{"US", "CA", "PR"}, c.Countries); diff != "" {
			t.Errorf("countries (-want +got):\n%s", diff)
		}
	}
	client, err := config.ReadClient(map[string]string{"POSTCARD_URL": " https://postcard.example.com\u200b", "POSTCARD_API_KEY": "\ufeffpc_key\n"})
	if err != nil || client.URL != "https://postcard.example.com" || client.Key != "pc_key" {
		t.Errorf("client: got %q and %q, %v", client.URL, string(client.Key), err)
	}
}

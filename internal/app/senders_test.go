package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/mms"
)

func TestSendersOf(t *testing.T) {
	t.Parallel()
	const simulator = "http://localhost:8090"
	for name, tt := range map[string]struct {
		sender, plivo string
		want          mms.PhoneNumber
		inError       string
		inLog         string
	}{
		"known":                 {"+14155551234", config.PlivoAPI, "+14155551234", "", ""},
		"new area code":         {"+16245551234", config.PlivoAPI, "+16245551234", "", "entry=1 number=…34"},
		"no exchanges known":    {"+18615551234", config.PlivoAPI, "+18615551234", "", "entry=1 number=…34"},
		"impossible":            {"+11155551234", config.PlivoAPI, "", "PLIVO_SENDER_NUMBER: entry 1 is not a valid phone number: no area code begins with 1", ""},
		"fictional":             {"+14155550100", config.PlivoAPI, "", "PLIVO_SENDER_NUMBER: entry 1 is a number for films and examples", ""},
		"fictional, simulator":  {"+14155550100", simulator, "+14155550100", "", ""},
		"new one and simulator": {"+16245550100", simulator, "+16245550100", "", "entry=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			got, err := sendersOf(config.Plivo{Senders: []string{tt.sender}, BaseURL: tt.plivo}, slog.New(slog.NewTextHandler(&log, nil)))
			if (err == nil) != (tt.inError == "") || err != nil && !strings.Contains(err.Error(), tt.inError) {
				t.Errorf("got error %v, want %q", err, tt.inError)
			}
			if tt.want != "" && (len(got) != 1 || got[0] != tt.want) {
				t.Errorf("got %v, want %s", got, tt.want)
			}
			if (log.Len() > 0) != (tt.inLog != "") || !strings.Contains(log.String(), tt.inLog) {
				t.Errorf("got log %q, want %q", log.String(), tt.inLog)
			}
		})
	}
}

package mailer_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/mailer"
	"github.com/postcard-mms/postcard/internal/smtptest"
)

func startServer(t *testing.T, config *tls.Config) *smtptest.Server {
	t.Helper()
	server, err := smtptest.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server
}

func TestSendMail(t *testing.T) {
	t.Parallel()
	// The certificate of httptest is for 127.0.0.1.
	https := httptest.NewTLSServer(nil)
	defer https.Close()
	roots := x509.NewCertPool()
	roots.AddCert(https.Certificate())
	encrypted := &tls.Config{Certificates: https.TLS.Certificates, MinVersion: tls.VersionTLS12}
	cases := map[string]struct {
		server *tls.Config
		url    string // with ADDR
		want   smtptest.Mail
		err    string
	}{
		"STARTTLS and a log-in":   {encrypted, "smtp://postcard:se%40cret@ADDR", smtptest.Mail{TLS: true, Login: "postcard:se@cret"}, ""},
		"no encryption":           {nil, "smtp://ADDR?tls=none", smtptest.Mail{}, ""},
		"the server lacks TLS":    {nil, "smtp://ADDR", smtptest.Mail{}, "STARTTLS"},
		"TLS from the start, not": {nil, "smtps://ADDR", smtptest.Mail{}, "sending a mail"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t, c.server)
			m, err := mailer.New(mailer.Options{
				URL: strings.Replace(c.url, "ADDR", server.Addr(), 1), From: "Postcard <postcard@example.com>", TLS: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12},
			})
			if err != nil {
				t.Fatal(err)
			}
			err = m.SendMail(t.Context(), "ada@example.com", "Grüße", "Line one\n.\nLine \"two\" = ü\n")
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || len(server.Mails()) > 0 {
					t.Errorf("got %v and %v, want an error about %s", err, server.Mails(), c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.want.To, c.want.From, c.want.Subject = "ada@example.com", `"Postcard" <postcard@example.com>`, "=?UTF-8?q?Gr=C3=BC=C3=9Fe?="
			c.want.Text = "Line one\r\n.\r\nLine \"two\" = ü\r\n"
			if diff := cmp.Diff([]smtptest.Mail{c.want}, server.Mails()); diff != "" {
				t.Errorf("mails (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorsContainNoAddress(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	server.Refuse("ada@example.com")
	m, err := mailer.New(mailer.Options{URL: "smtp://" + server.Addr() + "?tls=none", From: "postcard@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"ada@example.com", "ada@example.com\r\nBcc: eve@example.com", "ada@"} {
		if err := m.SendMail(t.Context(), to, "x", "x"); err == nil || strings.Contains(err.Error(), "ada") {
			t.Errorf("%q: got %v, want an error without the address", to, err)
		}
	}
	if mails := server.Mails(); len(mails) > 0 {
		t.Errorf("got %v, want no mail", mails)
	}
	if _, err := mailer.New(mailer.Options{URL: "smtp://u:hush@[::1", From: "x@example.com"}); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("malformed URL: got %v, want an error without the password", err)
	}
}

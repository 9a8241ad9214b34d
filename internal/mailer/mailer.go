// Package mailer sends mail through an SMTP server. It must not decide who gets which mail,
// and never logs addresses or texts.
package mailer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"
)

// dialTimeout bounds connecting to the server and each command. The context of a mail bounds
// the whole.
const dialTimeout = 10 * time.Second

// Options say which server sends mail, and from whom.
type Options struct {
	// URL is smtp://USER:PASSWORD@HOST:PORT, which needs STARTTLS unless the query is
	// tls=none, or smtps://..., which begins with TLS. Default ports: 587 and 465.
	URL  string
	From string      // the sender, such as Postcard <postcard@example.com>
	TLS  *tls.Config // nil: the server's certificate is checked with the machine's roots
}

// Mailer sends mail.
type Mailer struct {
	client *mail.Client
	from   string
}

// New checks the options. It does not connect. Its errors contain no password.
func New(o Options) (*Mailer, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, errors.New("parsing the URL of the mail server: it is malformed") // err contains the password
	}
	options := []mail.Option{mail.WithTimeout(dialTimeout)}
	switch {
	case u.Scheme == "smtps":
		options = append(options, mail.WithSSL(), mail.WithPort(mail.DefaultPortSSL))
	case u.Query().Get("tls") == "none":
		options = append(options, mail.WithTLSPolicy(mail.NoTLS), mail.WithPort(mail.DefaultPortTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory), mail.WithPort(mail.DefaultPortTLS))
	}
	if port, err := strconv.Atoi(u.Port()); err == nil {
		options = append(options, mail.WithPort(port))
	}
	if password, ok := u.User.Password(); ok {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(u.User.Username()), mail.WithPassword(password))
	}
	if o.TLS != nil {
		options = append(options, mail.WithTLSConfig(o.TLS))
	}
	client, err := mail.NewClient(u.Hostname(), options...)
	if err != nil {
		return nil, fmt.Errorf("configuring the mail server: %w", err)
	}
	if err := mail.NewMsg().From(o.From); err != nil {
		return nil, errors.New("the sender of mails is not an email address")
	}
	return &Mailer{client: client, from: o.From}, nil
}

// SendMail sends a mail of plain text. Its errors contain no addresses.
func (m *Mailer) SendMail(ctx context.Context, to, subject, text string) error {
	message := mail.NewMsg()
	if message.From(m.from) != nil || message.To(to) != nil { // their errors contain the address
		return errors.New("sending a mail: an address is malformed")
	}
	message.Subject(subject)
	message.SetBodyString(mail.TypeTextPlain, text)
	message.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no replies by machines
	err := m.client.DialAndSendWithContext(ctx, message)
	var refused *mail.SendError
	if errors.As(err, &refused) { // its text repeats the recipient
		return fmt.Errorf("sending a mail: the mail server refused it: %s (code %d)", refused.Reason, refused.ErrorCode())
	}
	if err != nil {
		return fmt.Errorf("sending a mail: %w", err)
	}
	return nil
}

// Package smtptest is a mail server for tests. It speaks enough of SMTP (RFC 5321) to
// receive mails, keeps them, and delivers none.
package smtptest

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"slices"
	"strings"
	"sync"
)

// Mail is a received mail.
type Mail struct {
	To      string // of the envelope
	From    string // of the header
	Subject string
	Text    string
	TLS     bool   // arrived encrypted
	Login   string // user and password of the client, separated by a colon; empty if it did not log in
}

// Server is a running mail server. Close stops it.
type Server struct {
	listener net.Listener
	tls      *tls.Config // offers STARTTLS; nil: no encryption
	mu       sync.Mutex
	mails    []Mail
	refuse   string // the address that it refuses
}

// Start starts a server on a free port of this machine. With a TLS configuration it offers
// STARTTLS and log-ins.
func Start(config *tls.Config) (*Server, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting a mail server: %w", err)
	}
	s := &Server{listener: listener, tls: config}
	go s.accept()
	return s, nil
}

// Addr returns the host and port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close stops the server.
func (s *Server) Close() error { return s.listener.Close() }

// Refuse makes the server refuse mails to the address.
func (s *Server) Refuse(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = address
}

// Mails returns the received mails, the first one first.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		go func() {
			c := &session{server: s, conn: conn, reader: bufio.NewReader(conn)}
			defer func() { _ = c.conn.Close() }()
			c.serve()
		}()
	}
}

// session is a connection of a client.
type session struct {
	server *Server
	conn   net.Conn
	reader *bufio.Reader
	mail   Mail
}

func (c *session) reply(lines ...string) {
	for _, line := range lines {
		_, _ = io.WriteString(c.conn, line+"\r\n") // the client may have disconnected
	}
}

func (c *session) serve() {
	c.reply("220 test ESMTP")
	for {
		line, err := c.reader.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO", "HELO":
			c.greet()
		case "STARTTLS":
			c.reply("220 go ahead")
			encrypted := tls.Server(c.conn, c.server.tls)
			c.conn, c.reader, c.mail.TLS = encrypted, bufio.NewReader(encrypted), true
		case "AUTH":
			_, response, _ := strings.Cut(rest, " ")
			decoded, _ := base64.StdEncoding.DecodeString(response)
			c.mail.Login = strings.ReplaceAll(strings.Trim(string(decoded), "\x00"), "\x00", ":")
			c.reply("235 welcome")
		case "RCPT":
			c.recipient(rest)
		case "DATA":
			if !c.receive() {
				return
			}
		case "QUIT":
			c.reply("221 bye")
			return
		default: // MAIL, NOOP, RSET
			c.reply("250 ok")
		}
	}
}

func (c *session) greet() {
	switch {
	case c.server.tls == nil:
		c.reply("250 test")
	case c.mail.TLS:
		c.reply("250-test", "250 AUTH PLAIN")
	default:
		c.reply("250-test", "250 STARTTLS")
	}
}

func (c *session) recipient(rest string) {
	_, address, _ := strings.Cut(rest, "<")
	c.mail.To, _, _ = strings.Cut(address, ">")
	c.server.mu.Lock()
	refused := c.server.refuse == c.mail.To
	c.server.mu.Unlock()
	if refused {
		c.reply("550 no such mailbox: " + c.mail.To)
		return
	}
	c.reply("250 ok")
}

// receive reads a mail up to the line with a dot.
func (c *session) receive() bool {
	c.reply("354 go ahead")
	var data strings.Builder
	for {
		line, err := c.reader.ReadString('\n')
		if err != nil {
			return false
		}
		if strings.TrimRight(line, "\r\n") == "." {
			break
		}
		data.WriteString(strings.TrimPrefix(line, "."))
	}
	message, err := mail.ReadMessage(strings.NewReader(data.String()))
	if err != nil {
		c.reply("554 malformed")
		return true
	}
	body := message.Body
	if message.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
		body = quotedprintable.NewReader(body)
	}
	text, _ := io.ReadAll(body)
	c.mail.From, c.mail.Subject, c.mail.Text = message.Header.Get("From"), message.Header.Get("Subject"), string(text)
	c.server.mu.Lock()
	c.server.mails = append(c.server.mails, c.mail)
	c.server.mu.Unlock()
	c.reply("250 ok")
	return true
}

package main

import (
	"fmt"
	"io"
)

// greet prints what is running and how to use it.
func (s *stack) greet(w io.Writer) {
	url := s.api.PublicURL
	fmt.Fprintf(w, `
  Postcard is running.

    Web            %[1]s
    Queues         %[1]s/admin/queues
    API            %[1]s/docs
    Metrics        http://%[2]s/metrics
    Postgres       %[3]s
    Redis          %[4]s
    Plivo          %[5]s
`, url, s.api.MetricsAddr, s.postgres.Source, s.redis.Source, s.plivo())
	email, password := s.api.AdminEmail, "(your ADMIN_PASSWORD)"
	if email == demoEmail {
		password = demoPassword
	}
	fmt.Fprintf(w, `
    Log in         %[2]s
    Password       %[3]s

  Send a picture with curl:

    curl -s -c /tmp/postcard-cookies -H 'Content-Type: application/json' \
      -d '{"email":"%[2]s","password":"%[3]s"}' %[1]s/api/login
    curl -s -b /tmp/postcard-cookies -H 'Content-Type: application/json' \
      -d '{"to":"+14155550123","text":"Greetings!","mediaUrl":"https://example.com/picture.jpg"}' %[1]s/api/send-mms

  Check the invariants (see ARCHITECTURE.md):

    %[4]sgo run ./cmd/postcard verify

  Ctrl-C stops everything.

`, url, email, password, s.databaseVariable())
}

// databaseVariable sets DATABASE_URL for a command, unless the environment does: its
// password must not be printed.
func (s *stack) databaseVariable() string {
	if !s.postgres.Private() {
		return ""
	}
	return "DATABASE_URL='" + s.postgres.URL + "' "
}

func (s *stack) plivo() string {
	if s.simulator == nil {
		return "REAL: messages reach phones and cost money (" + s.api.Plivo.BaseURL + ")"
	}
	return "SIMULATED at " + s.simulator.url + ": no message reaches a phone\n" +
		"    Pictures       " + s.simulator.url + "/sim/pictures/photo.jpg, and others for trials (/sim/pictures)"
}

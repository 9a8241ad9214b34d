// Command postcard is the operator's tool:
//
//	postcard migrate                        bring the database's schema up to date
//	postcard user add EMAIL [--admin]       add a user; the password is read from standard input
//	postcard user passwd EMAIL              change a password; read from standard input
//	postcard user cap EMAIL MESSAGES        set how many messages a user may send in a day; 0: DAILY_CAP
//	postcard send --to NUMBER --media URL   send a message over the API, with --text, --at, --wait, --json and more
//	postcard verify                         check the promises against the records; exit 1 when one is broken
//	postcard verify --plivo DURATION        check them also against what Plivo lists from that long ago
//	postcard verify --simulator URL         check them also against a simulator's ledger
//	postcard healthcheck URL                exit 0 when the URL answers 200
//
// It reads DATABASE_URL, and for --plivo the PLIVO variables, from the environment or .env.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

const usage = `Usage:
  postcard migrate                    bring the database's schema up to date
  postcard user add EMAIL [--admin]   add a user; the password is read from standard input
  postcard user passwd EMAIL          change a password; read from standard input
  postcard user cap EMAIL MESSAGES    set how many messages a user may send in a day; 0: DAILY_CAP
  postcard send --to NUMBER --media URL [--text WORDS] [--from NUMBER] [--at TIME]
                [--priority high|normal|bulk] [--metadata NAME=VALUE] [--key IDEMPOTENCY-KEY]
                [--dry-run] [--wait [--for DURATION]] [--json]
                                      send a picture message over the API; --wait follows it to
                                      its end, for at most 10m unless said otherwise, and exits 1
                                      unless it was delivered, or the carrier has it
  postcard verify                     check the promises against the records; exit 1 when one is broken
  postcard verify --plivo DURATION    check them also against what Plivo lists from that long
                                      ago, e.g. 24h; 400 messages take a minute, as Plivo allows
  postcard verify --simulator URL     check them also against a simulator's ledger
  postcard healthcheck URL            exit 0 when the URL answers 200

DATABASE_URL, and for send POSTCARD_URL and POSTCARD_API_KEY, are read from the
environment or from the file .env.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	if errors.Is(err, errUsage) {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		// What the client has to say begins with its name, too.
		fmt.Fprintln(os.Stderr, "postcard:", strings.TrimPrefix(err.Error(), "postcard: "))
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	switch {
	case len(args) == 1 && (args[0] == "help" || args[0] == "--help" || args[0] == "-h"):
		_, err := io.WriteString(out, usage)
		return err
	case len(args) == 1 && args[0] == "migrate":
		return migrate(ctx, out)
	case len(args) >= 3 && args[0] == "user" && args[1] == "add":
		return addUser(ctx, args[2:], in, out)
	case len(args) == 3 && args[0] == "user" && args[1] == "passwd":
		return changePassword(ctx, args[2], in, out)
	case len(args) == 4 && args[0] == "user" && args[1] == "cap":
		return setDailyCap(ctx, args[2], args[3], out)
	case len(args) > 1 && args[0] == "send":
		err := send(ctx, args[1:], out)
		if errors.Is(err, flag.ErrHelp) {
			_, err = io.WriteString(out, usage)
		}
		return err
	case len(args) == 1 && args[0] == "verify":
		return verify(ctx, out, nil)
	case len(args) == 3 && args[0] == "verify" && args[1] == "--simulator":
		return verify(ctx, out, againstLedger(args[2]))
	case len(args) == 3 && args[0] == "verify" && args[1] == "--plivo":
		return verify(ctx, out, againstPlivo(args[2]))
	case len(args) == 2 && args[0] == "healthcheck":
		return healthcheck(ctx, args[1])
	default:
		return errUsage
	}
}

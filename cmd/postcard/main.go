// Command postcard is the operator's command line:
//
//	postcard migrate                        migrate the database schema
//	postcard user add EMAIL [--admin]       add a user; reads the password from standard input
//	postcard user passwd EMAIL              change a user's password; reads it from standard input
//	postcard user reset EMAIL               print a link with which a user sets a new password
//	postcard user reset-2fa EMAIL           remove a user's second factors, and end the user's sessions
//	postcard workspace ...                  list, create and change workspaces and their members
//	postcard send --to NUMBER --media FILE  send a message through the API; see the usage for its flags
//	postcard verify                         check the invariants; exit 1 when one is violated
//	postcard verify --plivo DURATION        also compare with Plivo's list of messages for the last DURATION
//	postcard verify --simulator URL         also compare with a simulator's ledger
//	postcard healthcheck URL                exit 0 when the URL answers 200
//	postcard --version                      print the version and the commit
//
// It reads DATABASE_URL (or DATABASE_LISTEN_URL, if that is set) from the environment or
// the file .env, for user reset also PUBLIC_URL, for --plivo also the PLIVO variables, and for send POSTCARD_URL and
// POSTCARD_API_KEY instead.
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
	"time"

	"github.com/postcard-mms/postcard/internal/version"
)

const usage = `Usage:
  postcard migrate                    migrate the database schema
  postcard user add EMAIL [--admin]   add a user; reads the password from standard input
  postcard user passwd EMAIL          change a user's password; reads it from standard input
  postcard user reset EMAIL           print a link with which the user sets a new password; it works
                                      once, for 30 minutes
  postcard user reset-2fa EMAIL       remove a user's second factors, for example after a lost
                                      phone, and end the user's sessions
  postcard workspace list             list the workspaces with their ids
  postcard workspace create NAME EMAIL
                                      create a workspace that the user with EMAIL may manage
  postcard workspace cap WORKSPACE MESSAGES
                                      set a workspace's messages per day; 0: DAILY_CAP applies
  postcard workspace members WORKSPACE
                                      list the members of a workspace
  postcard workspace add WORKSPACE EMAIL [send] [manage]
                                      make a user a member, or change what a member may do
  postcard workspace remove WORKSPACE EMAIL
                                      remove a member
  postcard send --to NUMBER --media URL|FILE [--text TEXT] [--from NUMBER] [--at TIME]
                [--priority high|normal|bulk] [--metadata NAME=VALUE] [--key IDEMPOTENCY-KEY]
                [--dry-run] [--wait [--for DURATION]] [--json]
                                      send a picture message through the API. --at takes a time
                                      like 2026-12-24T18:00:00Z. --media can be repeated. --wait follows the message to its
                                      final status for up to DURATION (default 10m), and exits 1
                                      unless it was delivered or handed to the carrier.
  postcard verify                     check the invariants; exit 1 when one is violated
  postcard verify --plivo DURATION    also compare with the messages that Plivo lists for the last
                                      DURATION, e.g. 24h; Plivo allows 400 messages per minute
  postcard verify --simulator URL     also compare with a simulator's ledger
  postcard healthcheck URL            exit 0 when the URL answers 200
  postcard --version                  print the version

Settings are read from the environment or the file .env: DATABASE_URL (or
DATABASE_LISTEN_URL, if that is set), for user reset also PUBLIC_URL, for --plivo also PLIVO_AUTH_ID, PLIVO_AUTH_TOKEN
and PLIVO_SENDER_NUMBER, and for send POSTCARD_URL and POSTCARD_API_KEY.
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
		// Errors of package client start with the same prefix.
		fmt.Fprintln(os.Stderr, "postcard:", strings.TrimPrefix(err.Error(), "postcard: "))
		os.Exit(1)
	}
}

// errUsage reports arguments that match no command; main prints the usage.
var errUsage = errors.New("unknown command or wrong arguments")

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	switch {
	case len(args) == 1 && (args[0] == "help" || args[0] == "--help" || args[0] == "-h"):
		_, err := io.WriteString(out, usage)
		return err
	case len(args) == 1 && (args[0] == "version" || args[0] == "--version"):
		_, err := fmt.Fprintln(out, "postcard", version.String())
		return err
	case len(args) == 1 && args[0] == "migrate":
		return migrate(ctx, out)
	case len(args) >= 3 && args[0] == "user" && args[1] == "add":
		return addUser(ctx, args[2:], in, out)
	case len(args) == 3 && args[0] == "user" && args[1] == "passwd":
		return changePassword(ctx, args[2], in, out)
	case len(args) == 3 && args[0] == "user" && args[1] == "reset":
		return resetPassword(ctx, args[2], out)
	case len(args) == 3 && args[0] == "user" && args[1] == "reset-2fa":
		return resetFactors(ctx, args[2], out)
	case len(args) >= 2 && args[0] == "workspace":
		return workspaceCommand(ctx, args[1:], out)
	case len(args) > 1 && args[0] == "send":
		err := send(ctx, args[1:], out)
		if errors.Is(err, flag.ErrHelp) {
			_, err = io.WriteString(out, usage)
		}
		return err
	case len(args) == 1 && args[0] == "verify":
		return verify(ctx, out, nil)
	case len(args) == 3 && args[0] == "verify" && args[1] == "--simulator":
		if err := checkURL("--simulator", args[2], "http://localhost:9090"); err != nil {
			return err
		}
		return verify(ctx, out, compareWithLedger(args[2]))
	case len(args) == 3 && args[0] == "verify" && args[1] == "--plivo":
		age, err := time.ParseDuration(args[2])
		if err != nil || age <= 0 {
			return fmt.Errorf("--plivo needs a duration like 90m or 24h, not %q", args[2])
		}
		return verify(ctx, out, compareWithPlivo(age))
	case len(args) == 2 && args[0] == "healthcheck":
		return healthcheck(ctx, args[1])
	default:
		return errUsage
	}
}

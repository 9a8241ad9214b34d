package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/postcard-mms/postcard/client"
	"github.com/postcard-mms/postcard/internal/config"
)

// sendOptions is what somebody asks for with the command send.
type sendOptions struct {
	message  client.NewMessage
	dryRun   bool
	wait     bool
	patience time.Duration // of wait
	json     bool
}

func parseSendOptions(args []string) (sendOptions, error) {
	o := sendOptions{message: client.NewMessage{Metadata: map[string]string{}}}
	flags := flag.NewFlagSet("send", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the usage says it
	flags.StringVar(&o.message.To, "to", "", "")
	flags.StringVar(&o.message.Text, "text", "", "")
	flags.StringVar(&o.message.From, "from", "", "")
	flags.StringVar(&o.message.Priority, "priority", "", "")
	flags.StringVar(&o.message.IdempotencyKey, "key", "", "")
	flags.BoolVar(&o.dryRun, "dry-run", false, "")
	flags.BoolVar(&o.wait, "wait", false, "")
	flags.DurationVar(&o.patience, "for", 10*time.Minute, "")
	flags.BoolVar(&o.json, "json", false, "")
	flags.Func("media", "", func(url string) error {
		o.message.MediaURLs = append(o.message.MediaURLs, url)
		return nil
	})
	flags.Func("at", "", func(value string) error {
		at, err := time.Parse(time.RFC3339, value)
		o.message.SendAt = &at
		return err
	})
	flags.Func("metadata", "", func(entry string) error {
		name, value, ok := strings.Cut(entry, "=")
		if !ok {
			return errors.New("must be NAME=VALUE")
		}
		o.message.Metadata[name] = value
		return nil
	})
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return o, err
	case err != nil:
		return o, fmt.Errorf("reading what to send: %w", err)
	case flags.NArg() > 0:
		return o, fmt.Errorf("reading what to send: %q is too much; words with spaces need quotes", flags.Arg(0))
	case o.message.To == "":
		return o, errors.New("reading what to send: --to is missing")
	case len(o.message.MediaURLs) == 0:
		return o, errors.New("reading what to send: --media is missing")
	case o.patience <= 0:
		return o, errors.New("reading what to send: --for must be longer than 0s")
	}
	return o, nil
}

func send(ctx context.Context, args []string, out io.Writer) error {
	o, err := parseSendOptions(args)
	if err != nil {
		return err
	}
	vars, err := config.Environment()
	if err != nil {
		return err
	}
	c, err := config.ReadClient(vars)
	if err != nil {
		return err
	}
	return o.carryOut(ctx, client.New(c.URL, string(c.Key)), out)
}

func (o sendOptions) carryOut(ctx context.Context, api *client.Client, out io.Writer) error {
	if o.dryRun {
		forecast, err := api.Forecast(ctx, o.message)
		if err != nil {
			return err
		}
		words := fmt.Sprintf("It would be sent from %s to %s about %s, and cost about $%s. Nothing was sent.",
			forecast.From, forecast.To, forecast.EstimatedSendAt.Format(time.RFC3339), forecast.EstimatedCost)
		if forecast.Paused != "" {
			words += " All sending is paused, so that it would be later: " + forecast.Paused
		}
		return o.show(out, forecast, words)
	}
	message, err := api.Send(ctx, o.message)
	if err != nil {
		return err
	}
	shown, version := where(message), message.Version
	if err := o.show(out, message, shown); err != nil || !o.wait {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.patience)
	defer cancel()
	message, err = api.Watch(ctx, message.ID, func(m client.Message) {
		words := where(m)
		if m.Version > version && (o.json || words != shown) {
			_ = o.show(out, m, words) // an output that is gone shows itself at the next line of the shell
		}
		shown, version = words, m.Version
	})
	switch {
	case err == nil && (message.Status == "delivered" || message.Status == "sent"):
		return nil
	case err == nil:
		return fmt.Errorf("the message ended as “%s”", message.StatusTitle)
	case !errors.Is(ctx.Err(), context.DeadlineExceeded) || message.ID == "":
		return err
	case message.Status == "sent": // often the last word
		return nil
	default:
		return fmt.Errorf("after %s the message stands at “%s”", o.patience, message.StatusTitle)
	}
}

// where says where a message stands, for people.
func where(m client.Message) string {
	words := fmt.Sprintf("%s  %s  %s", m.ID, m.StatusTitle, m.Explanation)
	if m.QueuePosition != nil {
		words += " " + m.QueuePosition.Explanation
	}
	return words
}

// show writes a line: for programs JSON, for people words.
func (o sendOptions) show(out io.Writer, value any, words string) error {
	if o.json {
		return json.NewEncoder(out).Encode(value)
	}
	_, err := fmt.Fprintln(out, words)
	return err
}

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/postcard-mms/postcard/client"
	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/mms"
)

// sendOptions are the flags of the command send.
type sendOptions struct {
	message client.MessageParams
	files   []client.File // to be uploaded for the message
	dryRun  bool
	wait    bool
	timeout time.Duration // of wait
	json    bool
}

func parseSendOptions(args []string) (sendOptions, error) {
	o := sendOptions{message: client.MessageParams{Metadata: map[string]string{}}, timeout: 10 * time.Minute}
	flags := flag.NewFlagSet("send", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the usage text describes the flags
	flags.StringVar(&o.message.To, "to", "", "")
	flags.StringVar(&o.message.Text, "text", "", "")
	flags.StringVar(&o.message.From, "from", "", "")
	flags.StringVar(&o.message.Priority, "priority", "", "")
	flags.StringVar(&o.message.IdempotencyKey, "key", "", "")
	for name, on := range map[string]*bool{"dry-run": &o.dryRun, "wait": &o.wait, "json": &o.json} {
		flags.BoolFunc(name, "", func(value string) (err error) {
			if *on, err = strconv.ParseBool(value); err != nil || value == "0" || value == "1" {
				return fmt.Errorf("--%s takes no value: remove %q", name, value)
			}
			return nil
		})
	}
	flags.Func("for", "", func(value string) (err error) {
		if o.timeout, err = time.ParseDuration(value); err != nil {
			return fmt.Errorf("--for must be a duration like 90s or 10m, not %q", value)
		}
		return nil
	})
	flags.Func("media", "", func(value string) error {
		if strings.Contains(value, "://") {
			o.message.MediaURLs = append(o.message.MediaURLs, value)
			return nil
		}
		data, err := os.ReadFile(value)
		if err != nil {
			return fmt.Errorf("--media must be a URL like https://example.com/picture.jpg, or the name of a file: %w", err)
		}
		o.files = append(o.files, client.File{Name: filepath.Base(value), Data: data})
		return nil
	})
	flags.Func("at", "", func(value string) error {
		at, err := mms.ParseTime(value)
		if err != nil {
			return fmt.Errorf("--at %w, not %q", err, value)
		}
		o.message.SendAt = &at
		return nil
	})
	flags.Func("metadata", "", func(entry string) error {
		name, value, ok := strings.Cut(entry, "=")
		if !ok {
			return fmt.Errorf("--metadata must be NAME=VALUE, like order=1017, not %q", entry)
		}
		o.message.Metadata[name] = value
		return nil
	})
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return o, err
	case err != nil:
		return o, explainFlagError(err)
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q: quote texts that contain spaces", flags.Arg(0))
	case o.message.To == "":
		return o, errors.New("--to is missing: the number to send to, like +14155550123")
	case len(o.message.MediaURLs) == 0 && len(o.files) == 0:
		return o, errors.New("--media is missing: the URL of the picture, or the name of its file")
	case o.timeout <= 0:
		return o, errors.New("--for must be longer than 0s")
	}
	o.message.IdempotencyKey = cmp.Or(o.message.IdempotencyKey, rand.Text())
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
	return o.explain(c.URL, o.run(ctx, client.New(c.URL, string(c.Key)), out))
}

func (o sendOptions) run(ctx context.Context, api *client.Client, out io.Writer) error {
	if len(o.files) > 0 {
		uploads, err := api.Upload(ctx, o.files...)
		if err != nil {
			return err
		}
		for _, u := range uploads {
			o.message.MediaIDs = append(o.message.MediaIDs, u.ID)
		}
	}
	if o.dryRun {
		forecast, err := api.Forecast(ctx, o.message)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("Would be sent from %s to %s at about %s and cost about $%s. Nothing was sent.",
			forecast.From, forecast.To, forecast.EstimatedSendAt.Format(time.RFC3339), forecast.EstimatedCost)
		if forecast.PauseExplanation != "" {
			line += " It will be later while sending is paused: " + forecast.PauseExplanation
		}
		line = strings.Join(append([]string{line}, forecast.Warnings...), " ")
		return o.print(out, forecast, line)
	}
	message, err := api.Send(ctx, o.message)
	if err != nil {
		return err
	}
	last, version := statusLine(message), message.Version
	if err := o.print(out, message, last); err != nil || !o.wait {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	message, err = api.Watch(ctx, message.ID, func(m client.Message) {
		line := statusLine(m)
		if m.Version > version && (o.json || line != last) {
			_ = o.print(out, m, line) // the exit code still reports the result if the output was closed
		}
		last, version = line, m.Version
	})
	switch {
	case err == nil && (message.Status == "delivered" || message.Status == "sent"):
		return nil
	case err == nil:
		return fmt.Errorf("the message was not delivered: its final status is “%s”", message.StatusTitle)
	case !errors.Is(ctx.Err(), context.DeadlineExceeded) || message.ID == "":
		return err
	case message.Status == "sent": // in the US and Canada often the last report
		return nil
	default:
		return fmt.Errorf("the message is not final after %s: its status is “%s”", o.timeout, message.StatusTitle)
	}
}

// explain words an error for people. If it leaves open whether the message was created, it
// says how to repeat the command.
func (o sendOptions) explain(server string, err error) error {
	var apiError *client.Error
	var network *url.Error
	unknown := errors.As(err, &network) || errors.As(err, &apiError) && apiError.Outcome == client.OutcomeUnknown
	err = explainRequestError("the api at "+server, "check POSTCARD_URL, and that the api is running", err)
	if o.dryRun || !unknown {
		return err
	}
	return fmt.Errorf("%w. Repeat the command with --key %s: the message is not sent twice", err, o.message.IdempotencyKey)
}

// statusLine describes a message's status in one line for people.
func statusLine(m client.Message) string {
	line := fmt.Sprintf("%s  %s  %s", m.ID, m.StatusTitle, m.Explanation)
	if m.QueuePosition != nil {
		line += " " + m.QueuePosition.Explanation
	}
	for _, warning := range m.Warnings {
		line += " " + warning
	}
	return line
}

// print writes value as a line of JSON with --json, else line.
func (o sendOptions) print(out io.Writer, value any, line string) error {
	if o.json {
		return json.NewEncoder(out).Encode(value)
	}
	_, err := fmt.Fprintln(out, line)
	return err
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// explainFlagError explains an error of package flag in plain words.
func explainFlagError(err error) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		return fmt.Errorf("there is no flag --%s: postcard --help lists the flags", strings.TrimPrefix(name, "-"))
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return fmt.Errorf("--%s needs a value: postcard --help describes it", name)
	}
	if syntax, ok := strings.CutPrefix(text, "bad flag syntax: "); ok {
		return fmt.Errorf("%q is not a flag: write --name value, as postcard --help shows", syntax)
	}
	// Package flag puts "invalid value "x" for flag -at: " or "invalid boolean value ...: "
	// before the error of a flag's function, which names the flag itself.
	if _, own, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(text, "invalid ") {
		return errors.New(own)
	}
	return err
}

// checkURL returns an error unless raw is the address of an HTTP server.
func checkURL(what, raw, example string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return fmt.Errorf("%s must be a URL like %s, not %q", what, example, raw)
	}
	return nil
}

// explainRequestError says in plain words why server gave no usable response, and what to
// check. It returns errors with which the server responded unchanged.
func explainRequestError(server, check string, err error) error {
	var syntax *json.SyntaxError
	var unsuitable *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &unsuitable) {
		return fmt.Errorf("%s sent an unexpected response: %s", server, check)
	}
	var request *url.Error
	if !errors.As(err, &request) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%s cannot be reached: %s. %s", server, networkCause(request), upperFirst(check))
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// networkCause says in plain words why a request failed.
func networkCause(err *url.Error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there"
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("there is no host %q", dns.Name)
	case errors.As(err, &dns):
		return fmt.Sprintf("the host %q could not be looked up", dns.Name)
	case errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		return "it did not answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "it closed the connection without an answer"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it speaks http://, not https://"
	}
	return err.Err.Error()
}

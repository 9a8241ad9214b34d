package plivosim

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Documented limits of a message request.
const (
	maxDestinations = 1000
	maxMedia        = 10
	maxText         = 1600 // characters
	minExpiry       = 5    // seconds
	maxExpiry       = 10799
	defaultExpiry   = 10800
)

// poolNumber is the sender of a powerpack when the account has no numbers configured.
const poolNumber = "18005550199"

// sendBody has the parameters of a message request that the simulator supports; others are
// ignored.
type sendBody struct {
	Src           string   `json:"src"`
	PowerpackUUID string   `json:"powerpack_uuid"`
	Dst           string   `json:"dst"`
	Text          string   `json:"text"`
	Type          string   `json:"type"`
	MediaURLs     []string `json:"media_urls"`
	MediaIDs      []string `json:"media_ids"`
	URL           string   `json:"url"`
	Method        string   `json:"method"`
	Log           string   `json:"log"`
	MessageExpiry int      `json:"message_expiry"`
	CallbackURL   string   `json:"callback_url"`
}

// sendRequest is a validated message request.
type sendRequest struct {
	from        string
	to          []string // unique and valid, in the given order
	invalid     []string // destinations left out
	text        string
	kind        string // sms or mms
	mediaURLs   []string
	mediaIDs    []string
	media       []Medium // what the URLs and ids are, as far as is known
	callbackURL string
	method      string // POST or GET
	masked      bool   // the last three digits of To are hidden from callbacks and reads
	powerpack   string
	expiry      time.Duration
	spawned     bool // callback_url was set: the answer has no UUID
}

// validate returns the request, or the error text of a response with status 400. The
// rules are documented, the texts are ours.
func (s *Simulator) validate(b sendBody) (sendRequest, string) {
	o := sendRequest{
		text: b.Text, kind: orElse(b.Type, "sms"), mediaURLs: b.MediaURLs, mediaIDs: b.MediaIDs,
		callbackURL: b.URL, method: orElse(b.Method, http.MethodPost),
		masked: b.Log == "false" || b.Log == "content_only", powerpack: b.PowerpackUUID,
		expiry:  time.Duration(orElse(b.MessageExpiry, defaultExpiry)) * time.Second,
		spawned: b.CallbackURL != "",
	}
	for _, check := range []func() string{
		func() string { return checkOptions(b, o) },
		func() string { return checkContent(b, o) },
		func() string { return s.findSource(b, &o) },
		func() string { return findDestinations(b, &o) },
	} {
		if problem := check(); problem != "" {
			return sendRequest{}, problem
		}
	}
	return o, ""
}

func orElse[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

func checkOptions(b sendBody, o sendRequest) string {
	switch {
	case o.kind != "sms" && o.kind != "mms":
		return "type must be sms or mms"
	case o.method != http.MethodPost && o.method != http.MethodGet:
		return "method must be POST or GET"
	case b.URL != "" && !isWebURL(b.URL):
		return "url is not a valid URL"
	case !slices.Contains([]string{"", "true", "false", "content_only", "number_only"}, b.Log):
		return "log must be true, false, content_only or number_only"
	case b.MessageExpiry != 0 && (b.MessageExpiry < minExpiry || b.MessageExpiry > maxExpiry):
		return fmt.Sprintf("message_expiry must be between %d and %d", minExpiry, maxExpiry)
	}
	return ""
}

func checkContent(b sendBody, o sendRequest) string {
	switch {
	case o.kind == "sms" && len(b.MediaURLs)+len(b.MediaIDs) > 0:
		return "media needs type mms" // Plivo's behaviour is not known; we refuse it
	case len(b.MediaURLs)+len(b.MediaIDs) > maxMedia:
		return fmt.Sprintf("a message can have at most %d attachments", maxMedia)
	case b.Text == "" && len(b.MediaURLs)+len(b.MediaIDs) == 0:
		return "text or media is required"
	case utf8.RuneCountInString(b.Text) > maxText:
		return fmt.Sprintf("text is longer than %d characters", maxText)
	case slices.ContainsFunc(b.MediaURLs, func(u string) bool { return !isWebURL(u) }):
		return "media_urls holds an invalid URL"
	}
	return ""
}

func isWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

func (s *Simulator) findSource(b sendBody, o *sendRequest) string {
	o.from = cleanSource(b.Src)
	switch {
	case (b.Src == "") == (b.PowerpackUUID == ""):
		return "exactly one of src and powerpack_uuid is required"
	case b.PowerpackUUID != "":
		o.from = poolNumber
		if len(s.cfg.Numbers) > 0 {
			o.from = digitsOf(s.cfg.Numbers[0])
		}
	case len(s.numbers) > 0 && !s.numbers[o.from], !isNorthAmerican(o.from):
		return "src is not an MMS-enabled number of this account"
	}
	return ""
}

func findDestinations(b sendBody, o *sendRequest) string {
	if strings.TrimSpace(b.Dst) == "" {
		return "dst is required"
	}
	seen := make(map[string]bool)
	var barred string
	for part := range strings.SplitSeq(b.Dst, "<") {
		n := cleanDestination(part)
		switch {
		case seen[n]:
		case !isPhone(n):
			o.invalid = append(o.invalid, n)
		case n == o.from:
			return "src and dst must not be the same"
		case !isNorthAmerican(n):
			barred = "MMS is not supported for destination country"
			o.invalid = append(o.invalid, n)
		default:
			o.to = append(o.to, n)
		}
		seen[n] = true
	}
	switch {
	case len(o.to) > maxDestinations:
		return fmt.Sprintf("dst holds more than %d numbers", maxDestinations)
	case len(o.to) == 0 && barred != "":
		return barred
	case len(o.to) == 0:
		return fmt.Sprintf("'%s' is not a valid phone number.", o.invalid[0])
	}
	return ""
}

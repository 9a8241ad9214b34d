package plivosim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Text is a message that a phone sends to a number of the account.
type Text struct {
	From      string   `json:"from"` // the phone, in any format
	To        string   `json:"to"`   // the account's number
	Text      string   `json:"text"`
	MediaURLs []string `json:"mediaUrls"`
	URL       string   `json:"url"` // where the account receives messages: its message URL
}

// pair is a sender and a recipient, as digits.
type pair struct{ from, to string }

// Receive simulates a message from a phone: it calls the account's message URL once,
// signed with V3, and returns the HTTP status. STOP and START work as at Plivo for long
// codes (Plivo docs, DND service): after STOP, messages from that number to that phone
// fail with code 200.
func (s *Simulator) Receive(ctx context.Context, t Text) (int, error) {
	s.current().applyKeyword(t)
	fields := url.Values{
		"MessageUUID": {uuid.NewString()}, "From": {digitsOf(t.From)}, "To": {digitsOf(t.To)}, "Text": {t.Text}, "Type": {"sms"},
		"Units": {"1"}, "TotalRate": {"0"}, "TotalAmount": {"0"},
	}
	for i, media := range t.MediaURLs {
		fields.Set("Media"+strconv.Itoa(i), media)
		fields.Set("Type", "mms")
	}
	ctx, cancel := context.WithTimeout(ctx, callbackTimeout)
	defer cancel()
	req, err := newCall(ctx, http.MethodPost, t.URL, fields)
	if err != nil {
		return 0, fmt.Errorf("creating the request to the message URL: %w", err)
	}
	s.signCall(req.Header, signV3, http.MethodPost, t.URL, fields)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, errors.New("calling the message URL: " + plainError(err))
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

// applyKeyword opts the phone out or in.
func (e *epoch) applyKeyword(t Text) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := pair{digitsOf(t.To), digitsOf(t.From)}
	switch strings.ToUpper(strings.TrimSpace(t.Text)) {
	case "STOP", "STOP ALL", "END", "QUIT", "CANCEL", "UNSUBSCRIBE", "UNSUB":
		e.optedOut[p] = true
	case "START", "YES", "RESUME", "UNSTOP", "GO":
		delete(e.optedOut, p)
	}
}

func (s *Simulator) postInbound(w http.ResponseWriter, r *http.Request) {
	var t Text
	if err := decodeOne(http.MaxBytesReader(w, r.Body, maxControlBody), &t); err != nil {
		writeControl(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	status, err := s.Receive(r.Context(), t)
	if err != nil {
		writeControl(w, http.StatusBadGateway, map[string]string{"error": err.Error()})
		return
	}
	writeControl(w, http.StatusOK, map[string]int{"answered": status})
}

// decodeOne reads exactly one JSON object without unknown fields.
func decodeOne(body io.Reader, dest any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(dest); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("the body must be a single JSON object")
	}
	return nil
}

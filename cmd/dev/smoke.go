package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"time"

	"github.com/postcard-mms/postcard/internal/devstack"
)

// smokeTimeout bounds the way of the one message, which takes seconds.
const smokeTimeout = time.Minute

// runSmoke shows that everything works together: it brings all up, sends one
// message over the API and follows it to its final status. It leaves servers that the
// environment names alone: its worker would hand their messages to a simulator.
func runSmoke(ctx context.Context) error {
	state, err := devstack.TempStateDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	s, err := start(ctx, options{vars: map[string]string{}, stateDir: state, throwaway: true})
	if err != nil {
		return err
	}
	fmt.Printf("up: %s; %s\n", s.postgres.Source, s.redis.Source)
	ctx, cancel := context.WithTimeout(ctx, smokeTimeout)
	defer cancel()
	err = errors.Join(s.sendOne(ctx), s.stop())
	if err == nil {
		fmt.Println("smoke test passed")
	}
	return err
}

type message struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Final  bool   `json:"final"`
}

func (s *stack) sendOne(ctx context.Context) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return fmt.Errorf("making a cookie jar: %w", err)
	}
	c := &client{base: s.api.PublicURL, http: &http.Client{Jar: jar, Timeout: 10 * time.Second}}
	login := map[string]string{"email": s.api.AdminEmail, "password": string(s.api.AdminPassword)}
	if err := c.call(ctx, http.MethodPost, "/api/login", login, nil); err != nil {
		return err
	}
	var sent message
	mms := map[string]string{"to": "+14155550123", "text": "Smoke", "mediaUrl": "https://example.com/smoke.jpg"}
	if err := c.call(ctx, http.MethodPost, "/api/send-mms", mms, &sent); err != nil {
		return err
	}
	last := ""
	for {
		if err := c.call(ctx, http.MethodGet, "/api/messages/"+sent.ID, nil, &sent); err != nil {
			return err
		}
		if sent.Status != last {
			fmt.Println("message is", sent.Status)
			last = sent.Status
		}
		if sent.Final {
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the message is still %s: %w", sent.Status, ctx.Err())
		}
	}
	if messages := s.simulator.handler.Ledger(); sent.Status != "delivered" || len(messages) != 1 {
		return fmt.Errorf("the message ended as %s and the simulator has %d messages; want delivered and 1", sent.Status, len(messages))
	}
	return nil
}

// client calls the API with a session.
type client struct {
	base string
	http *http.Client
}

func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return fmt.Errorf("writing the body of %s: %w", path, err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, &body)
	if err != nil {
		return fmt.Errorf("asking for %s: %w", path, err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("asking for %s: %w", path, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode/100 != 2 {
		return errors.Join(fmt.Errorf("%s answered %s: %s", path, response.Status, answer), err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", path, err)
	}
	return nil
}

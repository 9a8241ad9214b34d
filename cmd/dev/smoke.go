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

// smokeTimeout limits the delivery of one message, which takes seconds.
const smokeTimeout = time.Minute

// runSmoke starts everything, sends one message over the API and waits for its
// final status. It ignores the environment: with the servers of DATABASE_URL and
// REDIS_URL, its worker would send their messages to the simulator.
func runSmoke(ctx context.Context) error {
	state, err := devstack.TempStateDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	s, err := start(ctx, options{vars: map[string]string{}, stateDir: state, throwaway: true})
	if err == nil {
		fmt.Printf("started: %s; %s\n", s.postgres.Source, s.redis.Source)
		err = s.sendOne(ctx)
	}
	if err = errors.Join(err, s.stop()); err == nil {
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
	ctx, cancel := context.WithTimeout(ctx, smokeTimeout)
	defer cancel()
	jar, err := cookiejar.New(nil)
	if err != nil {
		return fmt.Errorf("creating a cookie jar: %w", err)
	}
	c := &client{base: s.api.PublicURL, http: &http.Client{Jar: jar, Timeout: 10 * time.Second}}
	login := map[string]string{"email": s.api.AdminEmail, "password": string(s.api.AdminPassword)}
	if err := c.call(ctx, http.MethodPost, "/api/login", login, nil); err != nil {
		return err
	}
	var m message
	mms := map[string]string{"to": "+14155550123", "text": "Smoke", "mediaUrl": "https://example.com/smoke.jpg"}
	if err := c.call(ctx, http.MethodPost, "/api/send-mms", mms, &m); err != nil {
		return err
	}
	last := ""
	for {
		if err := c.call(ctx, http.MethodGet, "/api/messages/"+m.ID, nil, &m); err != nil {
			return err
		}
		if m.Status != last {
			fmt.Println("message is", m.Status)
			last = m.Status
		}
		if m.Final {
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the message is still %s: %w", m.Status, ctx.Err())
		}
	}
	if messages := s.simulator.handler.Ledger(); m.Status != "delivered" || len(messages) != 1 {
		return fmt.Errorf("got a message that is %s and %d messages in the simulator, want delivered and 1", m.Status, len(messages))
	}
	return nil
}

// client calls the API with a session cookie.
type client struct {
	base string
	http *http.Client
}

func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return fmt.Errorf("encoding the request to %s: %w", path, err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, &body)
	if err != nil {
		return fmt.Errorf("requesting %s: %w", path, err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("requesting %s: %w", path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode/100 != 2 {
		return errors.Join(fmt.Errorf("%s answered %s: %s", path, response.Status, text), err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("decoding the response of %s: %w", path, err)
	}
	return nil
}

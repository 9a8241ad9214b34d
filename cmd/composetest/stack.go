package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	project       = "postcard-compose-test"
	image         = "postcard:compose-test"
	cutoffImage   = "postcard-cutoff:compose-test"
	adminEmail    = "compose-test@example.com"
	adminPassword = "only-for-the-compose-test"
)

// stack is docker-compose.yml as a project of its own.
type stack struct {
	engine *engine
	dir    string // temporary files
	apiURL string
	simURL string
}

func newStack(ctx context.Context) (*stack, error) {
	e, err := findEngine(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", project+"-")
	if err != nil {
		return nil, fmt.Errorf("creating a folder: %w", err)
	}
	apiAddr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	simAddr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	s := &stack{engine: e, dir: dir, apiURL: "http://" + apiAddr, simURL: "http://" + simAddr}
	// Doubts and missing reports are looked into sooner than by default, which saves minutes.
	settings := fmt.Sprintf("API_PORT=%s\nADMIN_EMAIL=%s\nADMIN_PASSWORD=%s\nSENDER_RATE=0\nDOUBT_WAIT=1m\nREPORT_WAIT=15s\n", apiAddr, adminEmail, adminPassword)
	override := fmt.Sprintf("services:\n  api: {image: %q}\n  worker: {image: %q}\n  plivosim: {image: %q, ports: [\"%s:8085\"]}\n", image, image, image, simAddr)
	for name, content := range map[string]string{"settings.env": settings, "override.yml": override} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return nil, fmt.Errorf("writing the settings: %w", err)
		}
	}
	e.compose = append(e.compose, "--project-name", project, "--env-file", filepath.Join(dir, "settings.env"),
		"--file", "docker-compose.yml", "--file", filepath.Join(dir, "override.yml"))
	return s, nil
}

// freeAddr returns an address on which nothing listens.
func freeAddr(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// start builds the images and starts the project. It first removes what a run that was
// killed has left.
func (s *stack) start(ctx context.Context) error {
	fmt.Println("building and starting; the first time takes minutes")
	if err := s.down(ctx); err != nil {
		return err
	}
	if err := s.buildCutoff(ctx); err != nil {
		return err
	}
	// All services of Postcard use the same image, so one of them is built.
	if err := s.engine.composeShown(ctx, "build", "api"); err != nil {
		return fmt.Errorf("building the image: %w", err)
	}
	if err := s.engine.composeShown(ctx, "up", "--no-build", "--detach", "--wait", "--wait-timeout", "180"); err != nil {
		return fmt.Errorf("starting docker-compose.yml: %w", err)
	}
	_, err := poll(ctx, time.Minute, 500*time.Millisecond, "api and workers are ready", func() (bool, error) { return s.ready(ctx) })
	return err
}

// remove removes the project, its volumes and the temporary files, also after an
// interrupt.
func (s *stack) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return errors.Join(s.down(ctx), os.RemoveAll(s.dir))
}

func (s *stack) down(ctx context.Context) error {
	_, err := s.engine.runCompose(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "5")
	if err != nil {
		return fmt.Errorf("removing the project %s: %w", project, err)
	}
	return nil
}

// keepLogs writes all logs to a file that stays.
func (s *stack) keepLogs() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	logs, err := s.engine.runCompose(ctx, "logs", "--no-color", "--timestamps")
	file := s.dir + ".log"
	if err = errors.Join(err, os.WriteFile(file, []byte(logs), 0o600)); err != nil {
		fmt.Fprintln(os.Stderr, "composetest: the logs could not be kept:", err)
		return
	}
	fmt.Println("the logs of all containers are in", file)
}

// createKey logs in as the admin and returns a new API key.
func (s *stack) createKey(ctx context.Context) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", fmt.Errorf("creating a cookie jar: %w", err)
	}
	browser := &http.Client{Jar: jar, Timeout: requestTimeout}
	if _, err := post(ctx, browser, s.apiURL+"/api/login", map[string]any{"email": adminEmail, "password": adminPassword}); err != nil {
		return "", err
	}
	answer, err := post(ctx, browser, s.apiURL+"/api/keys", map[string]any{"name": "compose-test", "scopes": []string{"send", "read"}})
	if err != nil {
		return "", err
	}
	var key struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal(answer, &key); err != nil || key.Secret == "" {
		return "", errors.Join(errors.New("/api/keys answered no secret"), err)
	}
	return key.Secret, nil
}

// post posts JSON and returns the body of a 2xx answer.
func post(ctx context.Context, c *http.Client, url string, body any) ([]byte, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encoding a request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(encoded))
	if err != nil {
		return nil, fmt.Errorf("requesting %s: %w", url, err)
	}
	request.Header.Set("Content-Type", "application/json")
	return do(c, request)
}

// get returns the body of a 2xx answer.
func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("requesting %s: %w", url, err)
	}
	return do(http.DefaultClient, request)
}

func do(c *http.Client, request *http.Request) ([]byte, error) {
	response, err := c.Do(request)
	if err != nil {
		return nil, fmt.Errorf("requesting %s: %w", request.URL.Path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode/100 != 2 {
		return nil, errors.Join(fmt.Errorf("%s answered %s: %s", request.URL.Path, response.Status, body), err)
	}
	return body, nil
}

// ready reports whether the api and every worker are ready.
func (s *stack) ready(ctx context.Context) (bool, error) {
	readyCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := get(readyCtx, s.apiURL+"/readyz"); err != nil {
		return false, ctx.Err()
	}
	workers, err := s.containers(ctx, "worker")
	if err != nil {
		return false, err
	}
	for _, worker := range workers {
		if _, err := s.engine.docker(ctx, "exec", worker, "/usr/local/bin/postcard", "healthcheck", "http://127.0.0.1:9465/readyz"); err != nil {
			return false, ctx.Err()
		}
	}
	return true, nil
}

// containers returns the ids of a service's containers.
func (s *stack) containers(ctx context.Context, service string) ([]string, error) {
	out, err := s.engine.runCompose(ctx, "ps", "--all", "--quiet", service)
	if err != nil {
		return nil, err
	}
	return strings.Fields(out), nil
}

// query runs a statement in Postgres' container and returns a line for each row, with
// its columns separated by |.
func (s *stack) query(ctx context.Context, sql string) ([]string, error) {
	out, err := s.engine.runCompose(ctx, "exec", "-T", "postgres", "psql", "-U", "postcard", "-d", "postcard", "-qAtX", "-c", sql)
	if err != nil {
		return nil, fmt.Errorf("querying Postgres: %w", err)
	}
	if out = strings.TrimSpace(out); out == "" {
		return nil, nil
	}
	return strings.Split(out, "\n"), nil
}

package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/lib/pq"
)

// minimalWorker is the argument that makes this program run as the minimal worker: what
// one would write with asynq in a day. It has no rate limits, no events, no leases, and
// sends a message again when an answer was lost.
const minimalWorker = "minimal-worker"

const minimalTask = "mms"

// minimalSender handles the tasks of the minimal worker.
type minimalSender struct {
	client          *http.Client
	url             string
	claim, complete *sql.Stmt
}

const (
	claimMinimal = `
UPDATE minimal_messages SET status = 'sending', attempts = attempts + 1, updated_at = now()
WHERE id = $1 AND status <> 'submitted' RETURNING sender, recipient, text, media`

	completeMinimal = `UPDATE minimal_messages SET status = 'submitted', plivo_uuid = $2, updated_at = now() WHERE id = $1`
)

// runMinimalWorker runs the minimal worker until it is killed. It takes the settings of
// our worker from the environment.
func runMinimalWorker(ctx context.Context) error {
	concurrency, err := strconv.Atoi(os.Getenv("WORKER_CONCURRENCY"))
	if err != nil {
		return fmt.Errorf("parsing WORKER_CONCURRENCY: %w", err)
	}
	sender, err := newMinimalSender(ctx, concurrency)
	if err != nil {
		return err
	}
	redis, err := asynq.ParseRedisURI(os.Getenv("REDIS_URL"))
	if err != nil {
		return fmt.Errorf("parsing REDIS_URL: %w", err)
	}
	server := asynq.NewServer(redis, asynq.Config{Concurrency: concurrency})
	if err := server.Start(sender); err != nil {
		return fmt.Errorf("starting asynq: %w", err)
	}
	ready := func(http.ResponseWriter, *http.Request) {}
	return http.ListenAndServe(os.Getenv("WORKER_METRICS_ADDR"), http.HandlerFunc(ready))
}

func newMinimalSender(ctx context.Context, concurrency int) (*minimalSender, error) {
	db, err := sql.Open("postgres", os.Getenv("DATABASE_URL"))
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	db.SetMaxOpenConns(concurrency)
	db.SetMaxIdleConns(concurrency)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = concurrency
	s := &minimalSender{
		client: &http.Client{Transport: transport, Timeout: 10 * time.Second},
		url:    os.Getenv("PLIVO_BASE_URL") + "/v1/Account/" + os.Getenv("PLIVO_AUTH_ID") + "/Message/",
	}
	if s.claim, err = db.PrepareContext(ctx, claimMinimal); err != nil {
		return nil, fmt.Errorf("preparing a statement: %w", err)
	}
	if s.complete, err = db.PrepareContext(ctx, completeMinimal); err != nil {
		return nil, fmt.Errorf("preparing a statement: %w", err)
	}
	return s, nil
}

// minimalRequest is a request to send a message.
type minimalRequest struct {
	Src       string   `json:"src"`
	Dst       string   `json:"dst"`
	Text      string   `json:"text"`
	Type      string   `json:"type"`
	MediaURLs []string `json:"media_urls"`
}

// ProcessTask implements asynq.Handler: it sends one message. Asynq repeats it after an
// error.
func (s *minimalSender) ProcessTask(ctx context.Context, task *asynq.Task) error {
	id, err := uuid.ParseBytes(task.Payload())
	if err != nil {
		return fmt.Errorf("parsing the id: %w", err)
	}
	request := minimalRequest{Type: "mms"}
	err = s.claim.QueryRowContext(ctx, id).Scan(&request.Src, &request.Dst, &request.Text, pq.Array(&request.MediaURLs))
	if errors.Is(err, sql.ErrNoRows) {
		return nil // already sent
	}
	if err != nil {
		return fmt.Errorf("claiming the message: %w", err)
	}
	plivoUUID, err := s.post(ctx, request)
	if err != nil {
		return fmt.Errorf("sending the message: %w", err)
	}
	if _, err := s.complete.ExecContext(ctx, id, plivoUUID); err != nil {
		return fmt.Errorf("recording the message: %w", err)
	}
	return nil
}

// post sends a message to Plivo and returns its UUID.
func (s *minimalSender) post(ctx context.Context, message minimalRequest) (string, error) {
	body, err := json.Marshal(message)
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.SetBasicAuth(os.Getenv("PLIVO_AUTH_ID"), os.Getenv("PLIVO_AUTH_TOKEN"))
	request.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct {
		MessageUUID []string `json:"message_uuid"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	if response.StatusCode/100 != 2 || len(answer.MessageUUID) == 0 {
		return "", fmt.Errorf("plivo answered %s", response.Status)
	}
	return answer.MessageUUID[0], nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postcard-mms/postcard/client"
)

const (
	// requestTimeout exceeds the 15 seconds within which the api answers.
	requestTimeout = 20 * time.Second
	// inFlight limits the messages that are not yet answered 202.
	inFlight = 200
)

// load sends messages at a steady rate, each with a text of its own. Every request is
// repeated, with the same idempotency key, until it is answered 202.
type load struct {
	client *client.Client
	stop   func() // sends no more messages, and waits for those in flight

	mu        sync.Mutex
	sent      int
	accepted  map[string]string // the text of each message that was answered 202, and its id
	statusURL string            // of the last one
	answers   map[string]int    // how often each kind of answer came
	examples  map[string]string // the last error of each kind
}

func newLoad(apiURL, key string, rate int) *load {
	c := client.New(apiURL, key)
	c.HTTP, c.MaxAttempts = &http.Client{Timeout: requestTimeout}, 1
	l := &load{client: c, accepted: map[string]string{}, answers: map[string]int{}, examples: map[string]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx, rate)
	}()
	l.stop = func() { cancel(); <-done }
	return l
}

func (l *load) run(ctx context.Context, rate int) {
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	slots := make(chan struct{}, inFlight)
	var group sync.WaitGroup
	defer group.Wait()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		group.Go(func() {
			l.send(context.WithoutCancel(ctx))
			<-slots
		})
	}
}

// send sends one message. It gives up after two minutes, which check reports.
func (l *load) send(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	params := l.next()
	for {
		m, err := l.client.Send(ctx, params)
		l.record(params.Text, m, err)
		if err == nil {
			return
		}
		delay := time.Second
		var answer *client.Error
		if errors.As(err, &answer) {
			delay = max(delay, answer.RetryAfter)
		}
		if sleep(ctx, delay) != nil {
			return
		}
	}
}

// next returns a message to a number that the simulator has no scenario for.
func (l *load) next() client.MessageParams {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	text := fmt.Sprintf("compose test %d", l.sent)
	return client.MessageParams{
		To: fmt.Sprintf("+1416%03d%04d", 212+l.sent/10_000, l.sent%10_000), Text: text,
		MediaURLs: []string{"https://example.com/a.jpg"}, IdempotencyKey: strings.ReplaceAll(text, " ", "-"),
	}
}

func (l *load) record(text string, m client.Message, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind := kindOf(err)
	l.answers[kind]++
	if err == nil {
		l.accepted[text], l.statusURL = m.ID, m.StatusURL
	} else {
		l.examples[kind] = fmt.Sprintf("%s: %v", time.Now().UTC().Format(time.TimeOnly), err)
	}
}

const (
	created  = "202"
	noAnswer = "none"
)

// kindOf describes an answer.
func kindOf(err error) string {
	var answer *client.Error
	switch {
	case err == nil:
		return created
	case !errors.As(err, &answer):
		return noAnswer
	case answer.RetryAfter == 0:
		return fmt.Sprint(answer.Status, " without Retry-After")
	}
	return fmt.Sprint(answer.Status)
}

// expectedAnswers are the answers that a client may get while a service is cut off. No
// answer comes while the api itself is.
var expectedAnswers = []string{created, noAnswer, "503", "429", "409"}

// counts returns how often each kind of answer has come so far.
func (l *load) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.answers)
}

// since returns the counts less those of before.
func (l *load) since(before map[string]int) map[string]int {
	counts := l.counts()
	for kind, n := range before {
		counts[kind] -= n
	}
	maps.DeleteFunc(counts, func(_ string, n int) bool { return n == 0 })
	return counts
}

// awaitAnswers waits for n messages to be answered 202.
func (l *load) awaitAnswers(ctx context.Context, n int) error {
	_, err := poll(ctx, time.Minute, 100*time.Millisecond, "the first messages are answered 202", func() (bool, error) {
		return l.counts()[created] >= n, nil
	})
	return err
}

// describeCounts lists the counts, such as "202: 10, 503: 3".
func describeCounts(counts map[string]int) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s: %d", kind, counts[kind]))
	}
	return strings.Join(parts, ", ")
}

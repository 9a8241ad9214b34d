package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// latencies are the durations of requests.
type latencies []time.Duration

// at returns the q-quantile in milliseconds.
func (l latencies) at(q float64) float64 {
	if len(l) == 0 {
		return 0
	}
	slices.Sort(l)
	return float64(l[min(len(l)-1, int(q*float64(len(l))))].Microseconds()) / 1000
}

// caller makes one request of a load test. n differs in every call of the same test.
// Each goroutine has its own caller.
type caller func(n int64) error

// load runs concurrency callers as fast as they can for length, after a warm-up, and
// returns the calls per second and their latencies.
func load(ctx context.Context, concurrency int, length time.Duration, newCaller func() (caller, error)) (perSecond float64, took latencies, err error) {
	var n atomic.Int64
	var mu sync.Mutex
	var errs []error
	warmUp := min(time.Second, length/4)
	start := time.Now().Add(warmUp)
	end := start.Add(length)
	var group sync.WaitGroup
	for range concurrency {
		call, err := newCaller()
		if err != nil {
			return 0, nil, err
		}
		group.Go(func() {
			var own latencies
			for ctx.Err() == nil {
				sent := time.Now()
				if sent.After(end) {
					break
				}
				if err := call(n.Add(1)); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					return
				}
				if sent.After(start) {
					own = append(own, time.Since(sent))
				}
			}
			mu.Lock()
			took = append(took, own...)
			mu.Unlock()
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, nil, err
	}
	if len(took) == 0 {
		return 0, nil, errors.New("no call started after the warm-up") // its latencies would read as 0
	}
	return float64(len(took)) / length.Seconds(), took, nil
}

// poster returns callers that repeat a request over one connection each: POST, or GET
// when body returns "". It does as little work as possible, to leave the CPU to the
// server. Any status other than want is an error.
func poster(address, path, header string, body func(n int64) string, want int) func() (caller, error) {
	return func() (caller, error) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
		if err != nil {
			return nil, fmt.Errorf("connecting: %w", err)
		}
		in := bufio.NewReader(conn)
		return func(n int64) error {
			text := body(n)
			method := "POST"
			if text == "" {
				method = "GET"
			}
			if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", method, path, header, len(text), text); err != nil {
				return fmt.Errorf("writing a request: %w", err)
			}
			return readResponse(in, want)
		}, nil
	}
}

// statusError is a response with an unexpected status.
type statusError struct{ line, body string }

func (e statusError) Error() string { return fmt.Sprintf("got response %s: %s", e.line, e.body) }

// readResponse reads a response up to its end.
func readResponse(in *bufio.Reader, want int) error {
	reader := textproto.NewReader(in)
	line, err := reader.ReadLine()
	if err != nil {
		return fmt.Errorf("reading a response: %w", err)
	}
	length, chunked := int64(0), false
	for {
		field, err := reader.ReadLineBytes()
		if err != nil {
			return fmt.Errorf("reading a response: %w", err)
		}
		if len(field) == 0 {
			break
		}
		chunked = chunked || string(field) == "Transfer-Encoding: chunked"
		if rest, ok := strings.CutPrefix(string(field), "Content-Length: "); ok {
			if length, err = strconv.ParseInt(rest, 10, 64); err != nil {
				return fmt.Errorf("reading a response: %w", err)
			}
		}
	}
	if strings.HasPrefix(line, fmt.Sprintf("HTTP/1.1 %d", want)) {
		return readBody(in, length, chunked, io.Discard)
	}
	var text strings.Builder
	if err := readBody(in, length, chunked, &text); err != nil {
		return err
	}
	return statusError{line: line, body: text.String()}
}

// readBody reads the body of a response, so that the next response can be read.
func readBody(in *bufio.Reader, length int64, chunked bool, into io.Writer) (err error) {
	if !chunked {
		_, err = io.CopyN(into, in, length)
	} else if _, err = io.Copy(into, httputil.NewChunkedReader(in)); err == nil {
		_, err = in.Discard(len("\r\n"))
	}
	if err != nil {
		return fmt.Errorf("reading a response: %w", err)
	}
	return nil
}

// pause waits for length or until ctx ends.
func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-time.After(length):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

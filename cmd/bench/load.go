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

// latencies are how long requests took.
type latencies []time.Duration

// at is the latency that a share q of the requests did not exceed, in
// milliseconds.
func (l latencies) at(q float64) float64 {
	if len(l) == 0 {
		return 0
	}
	slices.Sort(l)
	return float64(l[min(len(l)-1, int(q*float64(len(l))))].Microseconds()) / 1000
}

// caller does one thing of a load, once per call. Each of those who work side by
// side has one of its own.
type caller func(n int64) error

// load has concurrency callers work as fast as they can, for a while after a
// warming up, and returns how many calls a second and how long they took.
func load(ctx context.Context, concurrency int, length time.Duration, newCaller func() (caller, error)) (perSecond float64, took latencies, err error) {
	var n atomic.Int64
	var mu sync.Mutex
	var errs []error
	warm := min(time.Second, length/4)
	start := time.Now().Add(warm)
	end := start.Add(length)
	var group sync.WaitGroup
	for range concurrency {
		call, err := newCaller()
		if err != nil {
			return 0, nil, err
		}
		group.Go(func() {
			var mine latencies
			for ctx.Err() == nil {
				begun := time.Now()
				if begun.After(end) {
					break
				}
				if err := call(n.Add(1)); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					return
				}
				if begun.After(start) {
					mine = append(mine, time.Since(begun))
				}
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, nil, err
	}
	if len(took) == 0 {
		return 0, nil, errors.New("no call was begun after the warming up") // it would look like no time at all
	}
	return float64(len(took)) / length.Seconds(), took, nil
}

// poster makes the same kind of request again and again over one connection, with
// as little work of its own as possible: what is measured is the other side.
func poster(address, path string, header string, body func(n int64) string, want int) func() (caller, error) {
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
			return readAnswer(in, want)
		}, nil
	}
}

// unwelcome is an answer with another status than is wanted.
type unwelcome struct{ line, body string }

func (u unwelcome) Error() string { return fmt.Sprintf("answered %s: %s", u.line, u.body) }

// readAnswer reads over an answer.
func readAnswer(in *bufio.Reader, want int) error {
	reader := textproto.NewReader(in)
	line, err := reader.ReadLine()
	if err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	length, chunked := int64(0), false
	for {
		field, err := reader.ReadLineBytes()
		if err != nil {
			return fmt.Errorf("reading an answer: %w", err)
		}
		if len(field) == 0 {
			break
		}
		chunked = chunked || string(field) == "Transfer-Encoding: chunked"
		if rest, ok := strings.CutPrefix(string(field), "Content-Length: "); ok {
			if length, err = strconv.ParseInt(rest, 10, 64); err != nil {
				return fmt.Errorf("reading an answer: %w", err)
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
	return unwelcome{line: line, body: text.String()}
}

// readBody reads over the body of an answer, so that the next answer is what comes.
func readBody(in *bufio.Reader, length int64, chunked bool, into io.Writer) (err error) {
	if !chunked {
		_, err = io.CopyN(into, in, length)
	} else if _, err = io.Copy(into, httputil.NewChunkedReader(in)); err == nil {
		_, err = in.Discard(len("\r\n"))
	}
	if err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	return nil
}

// pause waits for a while, unless ctx ends before.
func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-time.After(length):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

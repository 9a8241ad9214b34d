package plivosim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// MediaFetching says when the simulator fetches what is behind media URLs. Plivo fetches
// it, but does not document when.
type MediaFetching string

// The values of MediaFetching.
const (
	FetchOff       MediaFetching = "off"        // media URLs are not fetched and always work
	FetchAtAccept  MediaFetching = "at-accept"  // before the response: unusable media are refused with 400
	FetchAtDequeue MediaFetching = "at-dequeue" // when the message leaves the queue: it fails with code 120, 130 or 140
)

// Valid reports whether f is one of the values.
func (f MediaFetching) Valid() bool {
	return f == FetchOff || f == FetchAtAccept || f == FetchAtDequeue
}

const (
	fetchTimeout         = 15 * time.Second // our choice; not scaled
	maxConcurrentFetches = 32
	maxRedirects         = 3 // if redirects are followed; our choice
)

// newMediaClient returns a client that follows redirects only if follow is set, and that
// accepts no compression.
func newMediaClient(follow bool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: maxConcurrentFetches, IdleConnTimeout: 30 * time.Second, DisableCompression: true},
		Timeout:   fetchTimeout,
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			switch {
			case !follow:
				return http.ErrUseLastResponse
			case len(via) > maxRedirects:
				return errors.New("too many redirects")
			}
			return nil
		},
	}
}

// fetchAll fetches the media URLs of a request, and returns all its media. It returns the
// first error, also about their sizes together; the media are then those before it.
func (s *Simulator) fetchAll(ctx context.Context, e *epoch, o sendRequest) ([]Medium, *mediaError) {
	var fetched []Medium
	for _, rawURL := range o.mediaURLs {
		file, data, problem := s.fetch(ctx, rawURL)
		if problem != nil {
			return append(fetched, o.media...), problem
		}
		e.keepFetched(file, data)
		fetched = append(fetched, Medium{URL: rawURL, File: file})
	}
	media := append(fetched, o.media...)
	return media, checkTotal(o.text, media)
}

// fetch requires what Plivo documents: Content-Type and Content-Length, a supported type
// that the content has, and at most 2 MB.
func (s *Simulator) fetch(ctx context.Context, rawURL string) (File, []byte, *mediaError) {
	select {
	case s.fetchSlots <- struct{}{}:
		defer func() { <-s.fetchSlots }()
	case <-ctx.Done():
		return File{}, nil, unusable("the simulator stops")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return File{}, nil, unusable("the media URL is invalid")
	}
	resp, err := s.mediaClient.Do(req)
	if err != nil {
		return File{}, nil, unusable("the media URL cannot be fetched: %s", plainError(err))
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode != http.StatusOK:
		return File{}, nil, unusable("the media URL answers with status %d", resp.StatusCode)
	case resp.Header.Get("Content-Type") == "":
		return File{}, nil, unusable("the media URL sends no Content-Type")
	case resp.ContentLength < 0:
		return File{}, nil, unusable("the media URL sends no Content-Length")
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxMediaBytes+1))
	if err != nil {
		return File{}, nil, unusable("the media URL cannot be read: %s", plainError(err))
	}
	mediaType, problem := checkFile(resp.Header.Get("Content-Type"), data)
	if problem != nil {
		return File{}, nil, problem
	}
	return newFile(mediaType, data), data, nil
}

func unusable(format string, args ...any) *mediaError {
	return &mediaError{codeUnusable, fmt.Sprintf(format, args...)}
}

func (e *epoch) keepFetched(f File, data []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keep(f, data, 0, 1)
}

// fetchAtDequeue records what the message's media URLs are, or why the message fails.
func (s *Simulator) fetchAtDequeue(m *message) {
	media, problem := s.fetchAll(m.epoch.ctx, m.epoch, m.request)
	m.epoch.mu.Lock()
	defer m.epoch.mu.Unlock()
	m.entry.Media = media
	if problem != nil {
		m.entry.MediaError, m.mediaCode = problem.text, problem.code
	}
}

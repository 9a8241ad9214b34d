package plivosim_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// mediaHost is a server whose paths answer as their names say.
func mediaHost(t *testing.T) string {
	t.Helper()
	picture := jpegOf(t, 40, 30)
	serve := func(w http.ResponseWriter, mediaType string, data []byte) {
		w.Header()["Content-Type"] = []string{mediaType}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/picture", func(w http.ResponseWriter, _ *http.Request) { serve(w, "image/jpeg", picture) })
	mux.HandleFunc("/large/{size}", func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(r.PathValue("size"))
		serve(w, "image/png", paddedPNG(t, size))
	})
	mux.HandleFunc("/text", func(w http.ResponseWriter, _ *http.Request) { serve(w, "image/jpeg", []byte("hello")) })
	mux.HandleFunc("/html", func(w http.ResponseWriter, _ *http.Request) { serve(w, "text/html", []byte("<html>")) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/picture", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/untyped", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		w.Header().Set("Content-Length", strconv.Itoa(len(picture)))
		_, _ = w.Write(picture)
	})
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/jpeg")
		w.(http.Flusher).Flush()
		_, _ = w.Write(picture)
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/jpeg")
		w.Header().Set("Content-Length", strconv.Itoa(len(picture)))
		_, _ = w.Write(picture[:10])
	})
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("/encoded", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			w.WriteHeader(http.StatusNotAcceptable)
			return
		}
		serve(w, "image/jpeg", picture)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// TestFetchedMedia has the same media in both modes: they are refused at accept, or fail
// with their code at dequeue.
func TestFetchedMedia(t *testing.T) {
	t.Parallel()
	host := mediaHost(t)
	tests := []struct {
		name  string
		paths []string
		code  string // empty: delivered
		text  string
	}{
		{"picture", []string{"/picture", "/picture"}, "", ""},
		{"no Accept-Encoding", []string{"/encoded"}, "", ""},
		{"largest", []string{"/large/2000000"}, "", ""},
		{"too large", []string{"/picture", "/large/2000001"}, "120", "the file is larger than 2000000 bytes"},
		{"too large together", []string{"/large/2000000", "/large/2000000", "/large/1000000"}, "120", "the text and the attachments are larger than 5000000 bytes in total"},
		{"unsupported", []string{"/html"}, "130", `the type "text/html" is not supported`},
		{"another type", []string{"/text"}, "130", "the type is image/jpeg, but the content is text/plain; charset=utf-8"},
		{"missing", []string{"/missing"}, "140", "the media URL answers with status 404"},
		{"broken", []string{"/broken"}, "140", "the media URL answers with status 500"},
		{"redirect", []string{"/moved"}, "140", "the media URL answers with status 302"},
		{"no type", []string{"/untyped"}, "140", "the media URL sends no Content-Type"},
		{"no length", []string{"/chunked"}, "140", "the media URL sends no Content-Length"},
		{"cut", []string{"/cut"}, "140", "the media URL cannot be read: unexpected EOF"},
	}
	for _, mode := range []plivosim.MediaFetching{plivosim.FetchAtAccept, plivosim.FetchAtDequeue} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/%s", mode, tt.name), func(t *testing.T) {
				t.Parallel()
				b := start(t, func(c *plivosim.Config) { c.FetchMedia = mode })
				var urls []string
				for _, path := range tt.paths {
					urls = append(urls, host+path)
				}
				got := b.send(params(plain, map[string]any{"media_urls": urls}))
				if tt.code != "" && mode == plivosim.FetchAtAccept {
					if text := got.errorText(t); got.status != http.StatusBadRequest || text != tt.text || len(b.sim.Ledger()) != 0 {
						t.Errorf("got %d %q and %d messages, want 400 %q and none", got.status, text, len(b.sim.Ledger()), tt.text)
					}
					return
				}
				final := plivosim.StateDelivered
				if tt.code != "" {
					final = plivosim.StateFailed
				}
				if got.status != http.StatusAccepted {
					t.Fatalf("got unexpected response %+v", got)
				}
				eventually(t, string(final), func() bool { return b.sim.Ledger()[0].State == final })
				if e := b.sim.Ledger()[0]; e.ErrorCode != tt.code || e.MediaError != tt.text {
					t.Errorf("got code %q and error %q, want %q and %q", e.ErrorCode, e.MediaError, tt.code, tt.text)
				}
			})
		}
	}
}

func TestFetchIsOffByDefault(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.send(params(plain, map[string]any{"media_urls": []string{mediaHost(t) + "/missing"}}))
	eventually(t, "delivered", func() bool { return b.sim.Ledger()[0].State == plivosim.StateDelivered })
	if n := len(b.sim.Contents()); n != 0 {
		t.Errorf("got %d contents, want none", n)
	}
}

func TestFetchFollowsRedirectsWhenTold(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) { c.FetchMedia, c.FollowRedirects = plivosim.FetchAtAccept, true })
	host := mediaHost(t)
	var got []int
	for _, path := range []string{"/moved", "/loop"} {
		got = append(got, b.send(params(plain, map[string]any{"media_urls": []string{host + path}})).status)
	}
	if diff := cmp.Diff([]int{202, 400}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

// TestLedgerHasFetchedMedia has URLs and an upload in one message.
func TestLedgerHasFetchedMedia(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) { c.FetchMedia = plivosim.FetchAtDequeue })
	id, host, picture := b.uploadOne(300), mediaHost(t), jpegOf(t, 40, 30)
	for range 2 {
		b.send(params(plain, map[string]any{"media_urls": []string{host + "/picture"}, "media_ids": []string{id}}))
	}
	eventually(t, "both delivered", func() bool {
		all := b.sim.Ledger()
		return all[0].State == plivosim.StateDelivered && all[1].State == plivosim.StateDelivered
	})
	file := plivosim.File{SHA256: sumOf(picture), Type: "image/jpeg", Bytes: len(picture), Width: 40, Height: 30}
	uploaded := b.sim.Uploads()[0].File
	want := []plivosim.Medium{{URL: host + "/picture", File: file}, {MediaID: id, File: uploaded}}
	for _, e := range b.sim.Ledger() {
		if diff := cmp.Diff(want, e.Media); diff != "" {
			t.Errorf("mismatch (-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff([]plivosim.Content{{File: uploaded, Uploads: 1}, {File: file, Fetches: 2}}, b.sim.Contents()); diff != "" {
		t.Errorf("contents mismatch (-want +got):\n%s", diff)
	}
	if got, data, ok := b.sim.Data(file.SHA256); !ok || got != file || string(data) != string(picture) {
		t.Errorf("got %+v and %d bytes, want the picture", got, len(data))
	}
}

func TestSmallMediaOnlyFailsAboveItsLimit(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.setFault(plivosim.Fault{Scenario: plivosim.SmallMediaOnly})
	for _, sizes := range [][]int{{300_000}, {300_001}, {150_000, 150_000}, {150_000, 150_001}} {
		var ids []string
		for _, size := range sizes {
			ids = append(ids, b.uploadOne(size))
		}
		b.send(params(plain, map[string]any{"media_urls": nil, "media_ids": ids}))
	}
	var got []string
	eventually(t, "the end of all", func() bool {
		got = nil
		for _, e := range b.sim.Ledger() {
			if e.State == plivosim.StateQueued || e.State == plivosim.StateSent {
				return false
			}
			got = append(got, string(e.State)+e.ErrorCode)
		}
		return true
	})
	if diff := cmp.Diff([]string{"delivered", "failed120", "delivered", "failed120"}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

package plivo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/mms"
)

// uploaded is the one file of an upload.
type uploaded struct {
	Path, User, Token, Field, Name, Type, Data string
	Parts                                      int
}

func readUpload(t *testing.T, r *http.Request) uploaded {
	t.Helper()
	u := uploaded{Path: r.Method + " " + r.URL.Path}
	u.User, u.Token, _ = r.BasicAuth()
	reader, err := r.MultipartReader()
	if err != nil {
		t.Error(err)
		return u
	}
	for part, err := reader.NextPart(); err == nil; part, err = reader.NextPart() {
		data, _ := io.ReadAll(part)
		u.Parts++
		u.Field, u.Name, u.Type, u.Data = part.FormName(), part.FileName(), part.Header.Get("Content-Type"), string(data)
	}
	if r.ContentLength < int64(len(u.Data)) {
		t.Errorf("got Content-Length %d for a file of %d bytes", r.ContentLength, len(u.Data))
	}
	return u
}

func TestUploadMediaSendsOneFile(t *testing.T) {
	t.Parallel()
	var got uploaded
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = readUpload(t, r)
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"api_id":"a","objects":[{"content_type":"image/jpeg","file_name":"1.jpg","media_id":"m-1","size":3,"status":"success","status_code":201,"error_code":null,"error_message":null}]}`)
	}))
	t.Cleanup(server.Close)
	data := strings.Repeat("\xff\x00\r\n--", 100_000)
	id, err := newClient(t, server.URL, authToken).UploadMedia(t.Context(), `a"b.jpg`, "image/jpeg", []byte(data))
	if err != nil || id != "m-1" {
		t.Fatalf("UploadMedia() = %q, %v", id, err)
	}
	want := uploaded{Path: "POST /v1/Account/" + authID + "/Media/", User: authID, Token: authToken, Field: "file", Name: `a"b.jpg`, Type: "image/jpeg", Data: data, Parts: 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("upload (-want +got):\n%s", diff)
	}
}

func TestUploadMediaJudgesAnswers(t *testing.T) {
	t.Parallel()
	const failedFile = `{"api_id":"a","objects":[{"file_name":"1.jpg","status":"failure","status_code":%s,"error_message":"%s"}]}`
	for name, tt := range map[string]struct {
		status    int
		body      string
		id        string
		permanent bool
		text      string // part of the error
	}{
		"stored":                    {202, `{"objects":[{"media_id":"m-1","status_code":201}]}`, "m-1", false, ""},
		"stored, status as text":    {200, `{"objects":[{"media_id":"m-1","status_code":"201","status":"success"}]}`, "m-1", false, ""},
		"stored, without a status":  {201, `{"objects":[{"media_id":"m-1"}]}`, "m-1", false, ""},
		"file too large":            {202, fmt.Sprintf(failedFile, "400", "file size exceeds 2 MB"), "", true, "file size exceeds 2 MB"},
		"file of a wrong type":      {202, fmt.Sprintf(failedFile, `"415"`, "unsupported"), "", true, "unsupported"},
		"file failed, no status":    {202, fmt.Sprintf(failedFile, "null", "not stored"), "", true, "not stored"},
		"file failed, without text": {202, `{"objects":[{"status_code":400,"status":"failure"}]}`, "", true, "failure"},
		"file failed at Plivo":      {202, fmt.Sprintf(failedFile, "500", "try later"), "", false, "status 500: try later"},
		"file rate limited":         {202, fmt.Sprintf(failedFile, "429", "slow down"), "", false, "status 429"},
		"no media id":               {202, `{"objects":[{"status_code":201}]}`, "", false, "without a media id"},
		"media id with a space":     {202, `{"objects":[{"media_id":"a b","status_code":201}]}`, "", false, "without a media id"},
		"no file":                   {202, `{"objects":[]}`, "", false, "without one file"},
		"two files":                 {202, `{"objects":[{"media_id":"a"},{"media_id":"b"}]}`, "", false, "without one file"},
		"empty body":                {202, ``, "", false, "without one file"},
		"cut JSON":                  {202, `{"objects":[{"media_id":"m`, "", false, "without one file"},
		"too long":                  {202, strings.Repeat(" ", 65<<10), "", false, "longer than 64 KiB"},
		"bad request":               {400, `{"api_id":"a","error":"file is missing"}`, "", true, "file is missing"},
		"bad request, empty":        {400, ``, "", true, "status 400"},
		"entity too large":          {413, `<html>`, "", true, "<html>"},
		"no credit":                 {400, `{"error":"InsufficientCredit"}`, "", false, "status 400"},
		"wrong token":               {401, `{"error":"no"}`, "", false, "status 401"},
		"forbidden":                 {403, ``, "", false, "status 403"},
		"wrong account":             {404, ``, "", false, "status 404"},
		"rate limited":              {429, ``, "", false, "status 429"},
		"redirect":                  {307, ``, "", false, "status 307"},
		"server error":              {500, `{"error":"oops"}`, "", false, "status 500: oops"},
		"unavailable":               {503, `temporary failure`, "", false, "status 503: temporary failure"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			t.Cleanup(server.Close)
			id, err := newClient(t, server.URL, authToken).UploadMedia(t.Context(), "1.jpg", "image/jpeg", []byte("x"))
			var rejected mms.PlivoMediaError
			if id != tt.id || (err == nil) != (tt.text == "") || errors.As(err, &rejected) != tt.permanent {
				t.Fatalf("UploadMedia() = %q, %v; want %q, permanent %v", id, err, tt.id, tt.permanent)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), authID)) {
				t.Errorf("got error %q, want %q in it and not the account", err, tt.text)
			}
		})
	}
}

func TestUploadMediaWithoutAnswer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
	}))
	t.Cleanup(server.Close)
	_, err := newClient(t, server.URL, authToken).UploadMedia(ctx, "1.jpg", "image/jpeg", []byte("x"))
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), authID) {
		t.Errorf("got error %v, want %v without the account", err, context.Canceled)
	}
}

func TestSendNamesUploads(t *testing.T) {
	t.Parallel()
	var body bytes.Buffer
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(&body, r.Body)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"media_id m-2 not found"}`)
	}))
	t.Cleanup(server.Close)
	s := submission()
	s.MediaURLs, s.MediaIDs = nil, []string{"m-1", "m-2"}
	verdict := mms.Judge(newClient(t, server.URL, authToken).Send(t.Context(), s))
	if verdict.Outcome != mms.TransientFailure || verdict.Reason != mms.ReasonPlivoMediaUnknown {
		t.Errorf("got verdict %+v, want a transient failure because of the media ids", verdict)
	}
	if got := body.String(); !strings.Contains(got, `"media_ids":["m-1","m-2"]`) || strings.Contains(got, "media_urls") {
		t.Errorf("got body %s", got)
	}
}

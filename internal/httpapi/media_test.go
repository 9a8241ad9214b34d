package httpapi_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeUploads keeps uploads in memory, and counts contents against the quota.
type fakeUploads struct {
	media.Store
	mu       sync.Mutex
	uploads  map[uuid.UUID]mms.Upload
	contents map[mms.ContentHash]mms.Content
}

func (f *fakeUploads) SaveUploads(_ context.Context, uploads []mms.Upload, contents []mms.Content, quota int64) ([]mms.Upload, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if quota < 1000 {
		return nil, mms.QuotaError{Quota: quota, Used: quota, Requested: 1}
	}
	for _, c := range contents {
		f.contents[c.Hash] = c
	}
	for i := range uploads {
		uploads[i].ExpiresAt = noon.Add(mms.UploadLifetime)
		f.uploads[uploads[i].ID] = uploads[i]
	}
	return uploads, nil
}

func (f *fakeUploads) Upload(_ context.Context, owner, id uuid.UUID) (mms.Upload, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if u, ok := f.uploads[id]; ok && u.Owner == owner {
		return u, nil
	}
	return mms.Upload{}, mms.ErrNoUpload
}

func (f *fakeUploads) DeleteUpload(ctx context.Context, owner, id uuid.UUID) error {
	_, err := f.Upload(ctx, owner, id)
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.uploads, id)
	}
	return err
}

func (f *fakeUploads) Content(_ context.Context, hash mms.ContentHash) (mms.Content, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.contents[hash], nil
}

// newMediaSystem returns a system that takes uploads.
func newMediaSystem(t testing.TB, quota int64) (*system, *fakeUploads) {
	t.Helper()
	store := &fakeUploads{uploads: map[uuid.UUID]mms.Upload{}, contents: map[mms.ContentHash]mms.Content{}}
	service := media.New(media.Options{Store: store, Budget: 500_000, Memory: 400 << 20, Quota: quota})
	return newSystem(t, func(o *httpapi.Options) { o.Media, o.Intake.(*intake.Intake).Uploads = service, service }), store
}

func pngFile(t testing.TB, width, height int) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// form returns the type and the text of a form with parts of alternating names and contents.
func form(t testing.TB, parts ...string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(parts); i += 2 {
		create := w.CreateFormField
		if parts[i] == "file" {
			create = func(name string) (io.Writer, error) {
				return w.CreateFormFile(name, fmt.Sprintf("picture %d.png", i/2+1))
			}
		}
		part, err := create(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		_, _ = part.Write([]byte(parts[i+1])) // a buffer takes everything
	}
	_ = w.Close() // likewise
	return w.FormDataContentType(), b.String()
}

// upload stores one picture and returns it.
func (c *client) upload(width, height int) httpapi.Upload {
	c.t.Helper()
	contentType, body := form(c.t, "file", pngFile(c.t, width, height))
	got := c.doAs(contentType, "POST", "/api/media", body)
	if got.status != http.StatusCreated {
		c.t.Fatalf("%d %s", got.status, got.body)
	}
	return decode[[]httpapi.Upload](c.t, got)[0]
}

// TestUploadMedia uploads files, right and wrong ones. It stores all of them or none.
func TestUploadMedia(t *testing.T) {
	t.Parallel()
	picture := pngFile(t, 30, 20)
	files := func(n int) (list []string) {
		for range n {
			list = append(list, "file", picture)
		}
		return list
	}
	for name, tt := range map[string]struct {
		parts []string
		want  string // status, and the first violation or the number of uploads
	}{
		"one":                    {files(1), "201 1"},
		"ten":                    {files(10), "201 10"},
		"eleven":                 {files(11), "400 file max_items"},
		"none":                   {nil, "400 file required"},
		"other name":             {[]string{"picture", picture}, "400 picture unknown"},
		"bad among good ones":    {append(files(2), "file", "%PDF-1.7", "file", picture), "400 file[2] picture_type"},
		"empty":                  {[]string{"file", ""}, "400 file[0] picture_empty"},
		"truncated":              {[]string{"file", picture[:len(picture)/2]}, "400 file[0] picture_damaged"},
		"first frame":            {append([]string{"firstFrame", "true"}, files(1)...), "201 1"},
		"first frame, no answer": {append([]string{"firstFrame", "perhaps"}, files(1)...), "400 firstFrame type"},
		"too large":              {[]string{"file", strings.Repeat("x", 25_000_001)}, "400 file[0] picture_bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, store := newMediaSystem(t, 1e9)
			contentType, body := form(t, tt.parts...)
			got := s.ada().doAs(contentType, "POST", "/api/media", body)
			summary := fmt.Sprint(got.status)
			if got.status == http.StatusCreated {
				summary += fmt.Sprintf(" %d", len(decode[[]httpapi.Upload](t, got)))
			} else if p := decode[httpapi.Problem](t, got); len(p.Errors) > 0 {
				summary += " " + p.Errors[0].Field + " " + p.Errors[0].Rule
			}
			if summary != tt.want {
				t.Errorf("got %s, want %s: %s", summary, tt.want, got.body)
			}
			if got.status != http.StatusCreated && len(store.uploads)+len(store.contents) > 0 {
				t.Errorf("got %d uploads and %d contents, want none", len(store.uploads), len(store.contents))
			}
		})
	}
}

// TestUploadOtherBodies posts what is not a form, and more than the quota allows.
func TestUploadOtherBodies(t *testing.T) {
	t.Parallel()
	s, _ := newMediaSystem(t, 1e9)
	full, _ := newMediaSystem(t, 10)
	contentType, body := form(t, "file", pngFile(t, 3, 2))
	for name, tt := range map[string]struct {
		client            *client
		contentType, body string
		want              int
	}{
		"JSON":              {s.ada(), "application/json", `{}`, http.StatusUnsupportedMediaType},
		"without boundary":  {s.ada(), "multipart/form-data", body, http.StatusUnsupportedMediaType},
		"truncated form":    {s.ada(), contentType, body[:len(body)-20], http.StatusBadRequest},
		"quota exceeded":    {full.ada(), contentType, body, http.StatusConflict},
		"without a session": {s.anonymous(), contentType, body, http.StatusUnauthorized},
	} {
		if got := tt.client.doAs(tt.contentType, "POST", "/api/media", tt.body); got.status != tt.want {
			t.Errorf("%s: got %d, want %d: %s", name, got.status, tt.want, got.body)
		}
	}
}

// TestUploadIsItsOwners reads, sends and deletes an upload, as its owner and as another user.
func TestUploadIsItsOwners(t *testing.T) {
	t.Parallel()
	s, _ := newMediaSystem(t, 1e9)
	ada, bob := s.ada(), s.login(bobEmail)
	u := ada.upload(30, 20)
	if u.Type != "image/png" || u.Width != 30 || u.Height != 20 || u.Sent.Width != 30 || !u.ExpiresAt.Equal(noon.Add(7*24*time.Hour)) {
		t.Errorf("got %+v", u)
	}
	path := "/api/media/" + u.ID.String()
	send := `{"to":"+14155550123","mediaIds":["` + u.ID.String() + `"]`
	for _, tt := range []struct {
		name         string
		client       *client
		method, path string
		body         string
		want         int
	}{
		{"get", ada, "GET", path, "", http.StatusOK},
		{"get, of another", bob, "GET", path, "", http.StatusNotFound},
		{"content, of another", bob, "GET", path + "/content", "", http.StatusNotFound},
		{"no id", ada, "GET", "/api/media/x", "", http.StatusNotFound},
		{"send, of another", bob, "POST", "/api/send-mms", send + `}`, http.StatusBadRequest},
		{"send", ada, "POST", "/api/send-mms", send + `,"fit":"never"}`, http.StatusAccepted},
		{"send, unknown fit", ada, "POST", "/api/send-mms", send + `,"fit":"sometimes"}`, http.StatusBadRequest},
		{"batch", ada, "POST", "/api/batches", `{"mediaIds":["` + u.ID.String() + `"],"rows":[{"to":"+14155550123"}]}`, http.StatusAccepted},
		{"batch, of another", bob, "POST", "/api/batches", `{"mediaIds":["` + u.ID.String() + `"],"rows":[{"to":"+14155550123"}]}`, http.StatusBadRequest},
		{"delete, of another", bob, "DELETE", path, "", http.StatusNotFound},
		{"delete", ada, "DELETE", path, "", http.StatusNoContent},
		{"deleted", ada, "GET", path, "", http.StatusNotFound},
		{"send, deleted", ada, "POST", "/api/send-mms", send + `}`, http.StatusBadRequest},
	} {
		if got := tt.client.do(tt.method, tt.path, tt.body); got.status != tt.want {
			t.Errorf("%s: got %d, want %d: %s", tt.name, got.status, tt.want, got.body)
		}
		if tt.name == "get" {
			got := ada.do("GET", path+"/content", "")
			if got.status != http.StatusOK || got.header.Get("Content-Type") != "image/png" || got.header.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(got.header.Get("Cache-Control"), "private") {
				t.Errorf("content: got %d, %v", got.status, got.header)
			}
			if again := ada.do("GET", path+"/content", "", "If-None-Match", got.header.Get("ETag")); again.status != http.StatusNotModified {
				t.Errorf("content again: got %d, want 304", again.status)
			}
		}
	}
}

// FuzzUploadMedia posts arbitrary forms. The response must never be a 5xx.
func FuzzUploadMedia(f *testing.F) {
	const prefix = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n"
	for _, seed := range []string{"", "--b--", prefix, prefix + "x\r\n--b--\r\n", prefix + pngFile(f, 3, 2) + "\r\n--b--\r\n", "--b\r\n\r\n\r\n--b--", "--b\r\nContent-Disposition: form-data; name=firstFrame\r\n\r\ntrue\r\n" + prefix} {
		f.Add([]byte(seed))
	}
	s, _ := newMediaSystem(f, 1e9)
	ada := s.ada()
	f.Fuzz(func(t *testing.T, body []byte) {
		c := &client{system: &system{t: t, handler: s.handler}, cookie: ada.cookie}
		if got := c.doAs("multipart/form-data; boundary=b", "POST", "/api/media", string(body)); got.status >= 500 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	})
}

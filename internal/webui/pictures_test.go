package webui_test

import (
	"bytes"
	"context"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/picture"
	"github.com/postcard-mms/postcard/internal/webui"
)

// fakeUploads takes every file as a picture.
type fakeUploads struct {
	fitted int           // files that were checked
	wait   chan struct{} // if set, Fit waits until it is closed
	err    error         // of reading an upload
	films  bool          // files are animations that are too large
}

func (f *fakeUploads) Fit(_ context.Context, _ uuid.UUID, field string, file media.File) (media.Fitted, error) {
	f.fitted++
	if f.films && !file.FirstFrame {
		return media.Fitted{}, invalid.Fields{{Name: field, Rule: string(picture.RuleAnimated), Message: "is too large"}}
	}
	if f.wait != nil {
		<-f.wait
	}
	return media.Fitted{}, nil
}

func (f *fakeUploads) Save(ctx context.Context, fitted []media.Fitted) ([]mms.Upload, error) {
	uploads := make([]mms.Upload, len(fitted))
	for i := range uploads {
		uploads[i].ID = uuid.Must(uuid.NewV7())
	}
	return uploads, ctx.Err()
}

func (f *fakeUploads) Upload(ctx context.Context, _, id uuid.UUID) (mms.Upload, error) {
	if err := ctx.Err(); err != nil {
		return mms.Upload{}, err
	}
	info := mms.PictureInfo{Type: "image/jpeg", Bytes: 260_000, Width: 40, Height: 30}
	return mms.Upload{ID: id, Uploaded: info, SentInfo: info}, f.err
}

func (f *fakeUploads) Picture(context.Context, uuid.UUID, uuid.UUID) (mms.Content, error) {
	return mms.Content{}, mms.ErrNoUpload
}

// pictureForm is a form with one file.
func pictureForm(t *testing.T, target string, fields ...string) *http.Request {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i < len(fields); i += 2 {
		if err := form.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	part, err := form.CreateFormFile(formFileOf(target), "photo.jpg")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = part.Write([]byte("pixels"))
	form.Close()
	r := httptest.NewRequest("POST", target, &body)
	r.Header.Set("Content-Type", form.FormDataContentType())
	return r
}

func formFileOf(target string) string {
	if target == "/batches/new" {
		return "picture"
	}
	return "file"
}

// TestAnimations checks that each form offers the first frame of an animation that is too
// large, and takes it.
func TestAnimations(t *testing.T) {
	t.Parallel()
	_, b := newBackend(t, false, func(o *webui.Options) { o.Uploads = &fakeUploads{films: true} })
	b.login(userEmail)
	const input = `name="firstFrame" value="on"`
	for _, form := range []struct {
		path, refused, taken string
		status               int // without the offer
	}{
		{"/messages/new", input + ">", input + " checked>", http.StatusUnprocessableEntity},
		{"/batches/new", input + ">", input + " checked>", http.StatusUnprocessableEntity},
		{"/uploads", `"uploads":null,"errors":["The picture is too large."],"askFirstFrame":true`, `"src":"/uploads/`, http.StatusOK},
	} {
		b.want(form.path, b.request(pictureForm(t, form.path, "to", "1")), form.status, form.refused)
		got := b.request(pictureForm(t, form.path, "to", "1", "firstFrame", "on"))
		b.want(form.path+" with its first frame", got, form.status, form.taken)
		if form.path != "/uploads" {
			b.want(form.path+" with its first frame", got, form.status, `<img src="/uploads/`)
		}
	}
}

// TestSlowPictures checks that pictures may take longer than the deadline of a request.
func TestSlowPictures(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]func() (*http.Request, int, string){
		"by the script": func() (*http.Request, int, string) {
			return pictureForm(t, "/uploads"), http.StatusOK, `"src":"/uploads/`
		},
		"by the form, with an error": func() (*http.Request, int, string) {
			return pictureForm(t, "/messages/new", "to", "1", "text", "Hi"), http.StatusUnprocessableEntity, `<img src="/uploads/`
		},
	} {
		uploads := &fakeUploads{wait: make(chan struct{})}
		_, b := newBackend(t, false, func(o *webui.Options) { o.Uploads = uploads })
		b.login(userEmail)
		pages := b.handler
		b.handler = httpkit.Deadline(time.Millisecond)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			go func() { <-r.Context().Done(); close(uploads.wait) }()
			pages.ServeHTTP(w, r)
		}))
		r, status, text := request()
		b.want(name, b.request(r), status, text)
	}
}

// TestPicturesThatCannotBeRead checks that a form keeps its uploads while the database is
// down: without them, the message would be sent without its pictures.
func TestPicturesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	uploads := &fakeUploads{err: fmt.Errorf("reading: %w", mms.ErrUnavailable)}
	f, b := newBackend(t, false, func(o *webui.Options) { o.Uploads = uploads })
	b.login(userEmail)
	id := uuid.Must(uuid.NewV7()).String()
	kept := `name="mediaId" value="` + id + `" checked> Send the uploaded picture`
	f.err = fmt.Errorf("%w: %w", mms.ErrNotStored, mms.ErrUnavailable)
	b.want("message", b.post("/messages/new", "to", "4155550123", "mediaId", id), http.StatusServiceUnavailable, kept)
	b.want("batch", b.upload("to\n+14155550123\n", "mediaId", id), http.StatusServiceUnavailable, kept)
	f.err, uploads.err = nil, mms.ErrNoUpload
	if got := b.post("/messages/new", "to", "1", "mediaId", id); strings.Contains(got.body, id) {
		t.Error("the form keeps an upload that does not exist")
	}
}

// TestPicturesOfVisitors checks that a form whose session has ended keeps its uploads, and
// that nobody works on the files of a visitor.
func TestPicturesOfVisitors(t *testing.T) {
	t.Parallel()
	uploads := &fakeUploads{}
	f, b := newBackend(t, false, func(o *webui.Options) { o.Uploads = uploads })
	id := uuid.Must(uuid.NewV7()).String()
	got := b.request(pictureForm(t, "/messages/new", "to", "4155550123", "text", "Keep me", "mediaId", id))
	b.want("form", got, http.StatusForbidden, "Your session has ended", "Keep me", "Picture must be chosen again (photo.jpg)", `name="mediaId" value="`+id+`" checked`)
	if uploads.fitted > 0 || len(f.messages) > 0 {
		t.Errorf("got %d files checked and %d messages, want none", uploads.fitted, len(f.messages))
	}
}

// TestFormWithPicturesTwice submits forms with files twice, as a double click does. Each time
// the files become uploads with other ids, and the second request must be known as the same.
func TestFormWithPicturesTwice(t *testing.T) {
	t.Parallel()
	f, b := newBackend(t, false, func(o *webui.Options) { o.Uploads = &fakeUploads{} })
	b.login(userEmail)
	batch := func() response { return b.upload("to\n+14155550123\n", "mediaId", uuid.NewString()) }
	message := func(more ...string) response {
		return b.request(pictureForm(t, "/messages/new", append([]string{"to", "4155550123"}, more...)...))
	}
	for _, got := range []response{message(), message(), message("mediaId", uuid.NewString()), batch(), batch()} {
		if got.status != http.StatusSeeOther {
			t.Fatalf("got %d %s, want 303", got.status, got.body)
		}
	}
	for i, same := range []bool{true, false, false, true} {
		if got := f.fingerprints[i] == f.fingerprints[i+1]; got != same {
			t.Errorf("requests %d and %d have the same fingerprint: got %t, want %t", i+1, i+2, got, same)
		}
	}
}

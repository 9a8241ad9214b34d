package httpapi_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth/authtest"
	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/picture"
)

// fakeMedia keeps uploads in memory.
type fakeMedia struct {
	mu       sync.Mutex
	uploads  map[uuid.UUID]mms.Upload
	contents map[mms.ContentHash]mms.Content
}

func (f *fakeMedia) SaveUploads(_ context.Context, uploads []mms.Upload, contents []mms.Content, quota int64) ([]mms.Upload, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var requested int64
	for _, c := range contents {
		requested += int64(c.Bytes)
	}
	if requested > quota {
		return nil, mms.QuotaError{Quota: quota, Requested: requested}
	}
	for _, c := range contents {
		f.contents[c.Hash] = c
	}
	for i := range uploads {
		uploads[i].CreatedAt, uploads[i].ExpiresAt = noon, noon.Add(mms.UploadLifetime)
		f.uploads[uploads[i].ID] = uploads[i]
	}
	return uploads, nil
}

func (f *fakeMedia) Upload(_ context.Context, workspace, id uuid.UUID) (mms.Upload, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok := f.uploads[id]
	if !ok || u.Workspace != workspace {
		return mms.Upload{}, mms.ErrNoUpload
	}
	return u, nil
}

func (f *fakeMedia) DeleteUpload(ctx context.Context, workspace, id uuid.UUID) error {
	_, err := f.Upload(ctx, workspace, id)
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.uploads, id)
	}
	return err
}

func (f *fakeMedia) SaveContent(_ context.Context, c mms.Content) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.contents[c.Hash] = c
	return nil
}

func (f *fakeMedia) Content(_ context.Context, hash mms.ContentHash) (mms.Content, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.contents[hash], nil
}

func (f *fakeMedia) Fitted(context.Context, mms.ContentHash, int) (mms.Content, bool, error) {
	return mms.Content{}, false, nil
}

func (f *fakeMedia) SaveFitted(ctx context.Context, _ mms.ContentHash, _ int, fitted mms.Content) error {
	return f.SaveContent(ctx, fitted)
}

const mediaBudget, uploadQuota = 60_000, 200_000

func newUploadSystem(t testing.TB) (*system, *fakeMedia) {
	t.Helper()
	store := &fakeMedia{uploads: map[uuid.UUID]mms.Upload{}, contents: map[mms.ContentHash]mms.Content{}}
	service := media.New(media.Options{Store: store, Budget: mediaBudget, Memory: 400 << 20, Quota: uploadQuota})
	return newSystem(t, func(o *httpapi.Options) {
		o.Media = service
		o.Intake.(*intake.Intake).Uploads = service
	}), store
}

// part is one part of a form; one with a file name is a file.
type part struct{ name, file, content string }

func formOf(parts ...part) (contentType, body string) {
	var out bytes.Buffer
	form := multipart.NewWriter(&out)
	for _, p := range parts {
		header := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name=%q`, p.name)}}
		if p.file != "" {
			header = textproto.MIMEHeader{"Content-Disposition": {multipart.FileContentDisposition(p.name, p.file)}, "Content-Type": {"application/octet-stream"}}
		}
		w, _ := form.CreatePart(header)
		_, _ = io.WriteString(w, p.content)
	}
	form.Close()
	return form.FormDataContentType(), out.String()
}

func (c *client) uploadParts(parts ...part) response {
	c.t.Helper()
	contentType, body := formOf(parts...)
	return c.doAs(contentType, "POST", "/api/media", body)
}

// dot is a small picture; the number makes it another one.
func dot(n int) string {
	img := image.NewGray(image.Rect(0, 0, 20, 10))
	img.Pix[0] = byte(n)
	var out bytes.Buffer
	_ = png.Encode(&out, img)
	return out.String()
}

// animation is one that does not fit.
func animation() string {
	film := gif.GIF{}
	random := uint32(1)
	for range 4 {
		frame := image.NewPaletted(image.Rect(0, 0, 200, 200), color.Palette{color.Black, color.White, color.Gray{Y: 50}, color.Gray{Y: 90}, color.Gray{Y: 150}, color.Gray{Y: 180}, color.Gray{Y: 200}, color.Gray{Y: 220}})
		for i := range frame.Pix {
			random = random*1664525 + 1013904223
			frame.Pix[i] = byte(random >> 29)
		}
		film.Image, film.Delay = append(film.Image, frame), append(film.Delay, 5)
	}
	var out bytes.Buffer
	_ = gif.EncodeAll(&out, &film)
	return out.String()
}

func files(contents ...string) []part {
	parts := make([]part, len(contents))
	for i, content := range contents {
		parts[i] = part{"file", fmt.Sprintf("picture-%d.png", i), content}
	}
	return parts
}

func TestUploads(t *testing.T) {
	t.Parallel()
	s, _ := newUploadSystem(t)
	ada, bob := s.ada(), s.login(bobEmail)
	got := ada.uploadParts(files(dot(1), dot(2))...)
	uploads := decode[[]httpapi.Upload](t, got)
	if got.status != http.StatusCreated || len(uploads) != 2 || uploads[0].ID == uploads[1].ID {
		t.Fatalf("got %d %s, want 201 and two uploads", got.status, got.body)
	}
	if u := uploads[0]; u.Type != "image/png" || u.Width != 20 || u.Height != 10 || u.Bytes != len(dot(1)) || u.Sent.Width != 20 || !strings.Contains(got.body, `"changed":[]`) || !u.ExpiresAt.Equal(noon.Add(mms.UploadLifetime)) {
		t.Errorf("got %+v in %s, want the description of the picture", u, got.body)
	}
	path := "/api/media/" + uploads[0].ID.String()
	if got := ada.do("GET", path, ""); got.status != http.StatusOK || decode[httpapi.Upload](t, got).ID != uploads[0].ID {
		t.Errorf("metadata: got %d %s", got.status, got.body)
	}
	content := ada.do("GET", path+"/content", "")
	for name, want := range map[string]string{
		"Content-Type": "image/png", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, no-cache",
	} {
		if got := content.header.Get(name); got != want {
			t.Errorf("the picture has %s %q, want %q", name, got, want)
		}
	}
	if _, err := png.Decode(strings.NewReader(content.body)); err != nil {
		t.Errorf("got no picture: %v", err)
	}
	if got := ada.do("GET", path+"/content", "", "If-None-Match", content.header.Get("ETag")); got.status != http.StatusNotModified || got.body != "" {
		t.Errorf("known already: got %d %q, want 304 without a body", got.status, got.body)
	}
	if got := ada.do("GET", path+"/content", "", "Range", "bytes=1-3"); got.status != http.StatusPartialContent || got.body != "PNG" {
		t.Errorf("a range: got %d %q, want 206 PNG", got.status, got.body)
	}
	for _, id := range []string{uploads[0].ID.String(), uuid.NewString(), "1"} { // another's, none, malformed
		for _, request := range []string{"GET " + id, "GET " + id + "/content", "DELETE " + id} {
			method, rest, _ := strings.Cut(request, " ")
			if got := bob.do(method, "/api/media/"+rest, ""); got.status != http.StatusNotFound {
				t.Errorf("Bob's %s: got %d %s, want 404", request, got.status, got.body)
			}
		}
	}
	if got := ada.do("DELETE", path, ""); got.status != http.StatusNoContent {
		t.Errorf("deleting: got %d %s, want 204", got.status, got.body)
	}
	if got := ada.do("GET", path, ""); got.status != http.StatusNotFound {
		t.Errorf("deleted: got %d %s, want 404", got.status, got.body)
	}
	if logs := s.logs.String(); strings.Contains(logs, "picture-0") {
		t.Errorf("got the name of a file in the log: %s", logs)
	}
}

func TestRefusedUploads(t *testing.T) {
	t.Parallel()
	s, store := newUploadSystem(t)
	ada := s.ada()
	multipartOf := func(parts ...part) [2]string {
		contentType, body := formOf(parts...)
		return [2]string{contentType, body}
	}
	_, valid := formOf(files(dot(1))...)
	eleven := make([]string, 11)
	for i := range eleven {
		eleven[i] = dot(i)
	}
	var photos []string // of about 40,000 bytes each
	for n := range 6 {
		img := image.NewGray(image.Rect(0, 0, 200, 200))
		random := uint32(n)
		for i := range img.Pix {
			random = random*1664525 + 1013904223
			img.Pix[i] = byte(random >> 24)
		}
		var out bytes.Buffer
		_ = png.Encode(&out, img)
		photos = append(photos, out.String())
	}
	for name, tt := range map[string]struct {
		request [2]string // Content-Type and body
		status  int
		texts   []string
	}{
		"JSON":                 {[2]string{"application/json", `{}`}, http.StatusUnsupportedMediaType, []string{"multipart/form-data"}},
		"no type":              {[2]string{"", valid}, http.StatusUnsupportedMediaType, nil},
		"no boundary":          {[2]string{"multipart/form-data", valid}, http.StatusUnsupportedMediaType, nil},
		"another boundary":     {[2]string{"multipart/form-data; boundary=x", valid}, http.StatusBadRequest, nil},
		"cut off":              {[2]string{multipartOf(files(dot(1))...)[0], valid[:len(valid)/2]}, http.StatusBadRequest, nil},
		"no part":              {multipartOf(), http.StatusBadRequest, nil},
		"only a flag":          {multipartOf(part{"firstFrame", "", "true"}), http.StatusBadRequest, []string{`"field":"file"`, `"rule":"required"`}},
		"another name":         {multipartOf(part{"picture", "a.png", dot(1)}), http.StatusBadRequest, []string{`"field":"picture"`, "name the pictures file"}},
		"no boolean":           {multipartOf(append([]part{{"firstFrame", "", "perhaps"}}, files(dot(1))...)...), http.StatusBadRequest, []string{`"field":"firstFrame"`}},
		"eleven":               {multipartOf(files(eleven...)...), http.StatusBadRequest, []string{`"rule":"max_items"`, "at most 10"}},
		"truncated":            {multipartOf(files(dot(1)[:30])...), http.StatusBadRequest, []string{`"rule":"picture_damaged"`}},
		"empty":                {multipartOf(files("")...), http.StatusBadRequest, []string{"file[0]", "picture-0.png"}},
		"too large":            {multipartOf(part{"file", "huge.png", strings.Repeat("x", picture.MaxBytes+1)}), http.StatusBadRequest, []string{"huge.png", "25 MB"}},
		"one bad of three":     {multipartOf(files(dot(1), "<svg></svg>", dot(3))...), http.StatusBadRequest, []string{"1 field is invalid", "file[1]", "picture-1.png", "SVG"}},
		"two bad of three":     {multipartOf(files("%PDF-1.7", dot(2), "GIF89a")...), http.StatusBadRequest, []string{"2 fields", "file[0]", "file[2]"}},
		"a long animation":     {multipartOf(files(animation())...), http.StatusBadRequest, []string{"first frame"}},
		"more than the quota":  {multipartOf(files(photos...)...), http.StatusConflict, []string{"quota", "Delete uploads"}},
		"a query parameter":    {multipartOf(files(dot(1))...), http.StatusBadRequest, []string{"nonsense"}},
		"an unknown encoding":  {multipartOf(files(dot(1))...), http.StatusUnsupportedMediaType, []string{"br"}},
		"a gzip that is none":  {multipartOf(files(dot(1))...), http.StatusBadRequest, []string{"gzip"}},
		"a name with controls": {multipartOf(part{"file", "a\x01b.svg", "<svg></svg>"}), http.StatusBadRequest, nil},
	} {
		path, headers := "/api/media", []string{}
		switch name {
		case "a query parameter":
			path += "?nonsense=1"
		case "an unknown encoding":
			headers = []string{"Content-Encoding", "br"}
		case "a gzip that is none":
			headers = []string{"Content-Encoding", "gzip"}
		}
		got := ada.doAs(tt.request[0], "POST", path, tt.request[1], headers...)
		if got.status != tt.status {
			t.Errorf("%s: got %d %.300s, want %d", name, got.status, got.body, tt.status)
		}
		for _, text := range tt.texts {
			if !strings.Contains(got.body, text) {
				t.Errorf("%s: got %.500s, want %q in it", name, got.body, text)
			}
		}
	}
	if got := ada.uploadParts(append([]part{{"firstFrame", "", "true"}}, files(animation())...)...); got.status != http.StatusCreated || !strings.Contains(got.body, "first_frame") {
		t.Errorf("the first frame of an animation: got %d %.300s, want 201", got.status, got.body)
	}
	if len(store.uploads) != 1 {
		t.Errorf("got %d uploads, want only that of the first frame", len(store.uploads))
	}
}

// TestUploadsNeedTheScope: keys that may only read neither upload nor see uploads.
func TestUploadsNeedTheScope(t *testing.T) {
	t.Parallel()
	s, _ := newUploadSystem(t)
	contentType, body := formOf(files(dot(1))...)
	for scopes, want := range map[identity.Permission]int{identity.Send: http.StatusCreated, identity.Read: http.StatusForbidden} {
		r := httptest.NewRequest("POST", "/api/media", strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		principal := authtest.InOwnWorkspace(s.users.users[0]).Principal(uuid.Nil)
		principal.Key = &identity.Key{ID: uuid.New(), Scopes: []identity.Permission{scopes}}
		principal.Permissions = principal.Key.Scopes
		got := s.anonymous().send(r.WithContext(identity.WithPrincipal(r.Context(), principal)))
		if got.status != want {
			t.Errorf("a key with the scope %s: got %d %s, want %d", scopes, got.status, got.body, want)
		}
	}
	if got := s.anonymous().uploadParts(files(dot(1))...); got.status != http.StatusUnauthorized {
		t.Errorf("nobody: got %d, want 401", got.status)
	}
}

// TestMediaIDs sends uploads with messages and batches.
func TestMediaIDs(t *testing.T) {
	t.Parallel()
	var created []mms.Message
	s, _ := newUploadSystem(t)
	s.messages.onCreate = func(r mms.CreateRequest) { created = append(created, r.Message) }
	ada := s.ada()
	id := decode[[]httpapi.Upload](t, ada.uploadParts(files(dot(1))...))[0].ID
	bobs := decode[[]httpapi.Upload](t, s.login(bobEmail).uploadParts(files(dot(2))...))[0].ID
	send := func(fields string) response {
		return ada.do("POST", "/api/send-mms", `{"to":"+14155550123",`+fields+`}`)
	}
	for fields, texts := range map[string][]string{
		fmt.Sprintf(`"mediaIds":[%q]`, bobs):               {`mediaIds[0]`, `"rule":"unknown"`},
		fmt.Sprintf(`"mediaIds":[%q,%q]`, id, uuid.New()):  {`mediaIds[1]`, `"rule":"unknown"`},
		`"mediaIds":["1"]`:                                 {`mediaIds[0]`},
		`"mediaIds":[]`:                                    {`mediaUrl`},
		`"mediaIds":"1"`:                                   {`mediaIds`, `"rule":"type"`},
		fmt.Sprintf(`"mediaIds":[%q],"fit":"perhaps"`, id): {`"field":"fit"`},
		`"mediaIds":[` + strings.Repeat(`"`+id.String()+`",`, 10) + `"` + id.String() + `"]`: {`max_items`},
	} {
		got := send(fields)
		for _, text := range texts {
			if got.status != http.StatusBadRequest || !strings.Contains(got.body, text) {
				t.Errorf("%s: got %d %s, want 400 and %q", fields, got.status, got.body, text)
			}
		}
	}
	got := send(fmt.Sprintf(`"mediaUrl":"https://example.com/a.jpg","mediaIds":[%q]`, id))
	if got.status != http.StatusAccepted || len(created) != 1 || len(created[0].MediaURLs) != 1 ||
		!slices.ContainsFunc(created[0].Uploads, func(u mms.MessageUpload) bool { return u.ID == id && u.Content != (mms.ContentHash{}) }) {
		t.Errorf("got %d %s and %+v, want a message with a link and an upload", got.status, got.body, created)
	}
	if !strings.Contains(ada.do("GET", got.header.Get("Location"), "").body, id.String()) {
		t.Error("the message does not show its upload")
	}
	if got := send(fmt.Sprintf(`"mediaIds":[%q],"fit":"never"`, id)); got.status != http.StatusAccepted {
		t.Errorf("as it was uploaded: got %d %s, want 202", got.status, got.body)
	}
	got = ada.do("POST", "/api/batches", fmt.Sprintf(`{"mediaIds":[%q],"rows":[{"to":"+14155550123"},{"to":"+14155550124"}]}`, id))
	if got.status != http.StatusAccepted {
		t.Errorf("a batch: got %d %s, want 202", got.status, got.body)
	}
	if got := ada.do("POST", "/api/batches", fmt.Sprintf(`{"mediaIds":[%q],"rows":[{"to":"+14155550123"}]}`, bobs)); got.status != http.StatusBadRequest {
		t.Errorf("a batch with another's upload: got %d %s, want 400", got.status, got.body)
	}
	if got := ada.doAs("text/csv", "POST", "/api/batches?mediaIds="+id.String(), "to\n+14155550123\n"); got.status != http.StatusAccepted {
		t.Errorf("a batch as CSV: got %d %s, want 202", got.status, got.body)
	}
	if got := ada.do("DELETE", "/api/media/"+id.String(), ""); got.status != http.StatusNoContent {
		t.Fatalf("deleting: got %d %s, want 204", got.status, got.body)
	}
	if got := send(fmt.Sprintf(`"mediaIds":[%q]`, id)); got.status != http.StatusBadRequest {
		t.Errorf("a deleted upload: got %d %s, want 400", got.status, got.body)
	}
}

// TestSlowUpload is not parallel, because it measures memory: a client that does not finish
// must not occupy any with its file.
func TestSlowUpload(t *testing.T) {
	s, _ := newUploadSystem(t)
	ada := s.ada()
	contentType, body := formOf(files("")...)
	head, _, _ := strings.Cut(body, "\r\n\r\n")
	r := httptest.NewRequest("POST", "/api/media", io.MultiReader(strings.NewReader(head+"\r\n\r\n"), io.LimitReader(zeros{}, 20<<20)))
	r.Header.Set("Content-Type", contentType)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := ada.send(r)
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 5<<20 || got.status != http.StatusBadRequest {
		t.Errorf("got %d and %d bytes allocated, want 400 and the file on disk", got.status, taken)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// FuzzUploadMedia posts arbitrary forms. The response must never be a 5xx.
func FuzzUploadMedia(f *testing.F) {
	const prefix = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n"
	for _, seed := range []string{"", "--b--", prefix, prefix + "x\r\n--b--\r\n", prefix + dot(1) + "\r\n--b--\r\n", "--b\r\n\r\n\r\n--b--", "--b\r\nContent-Disposition: form-data; name=firstFrame\r\n\r\ntrue\r\n" + prefix} {
		f.Add([]byte(seed))
	}
	s, _ := newUploadSystem(f)
	ada := s.ada()
	f.Fuzz(func(t *testing.T, body []byte) {
		c := &client{system: &system{t: t, handler: s.handler}, cookie: ada.cookie}
		if got := c.doAs("multipart/form-data; boundary=b", "POST", "/api/media", string(body)); got.status >= 500 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	})
}

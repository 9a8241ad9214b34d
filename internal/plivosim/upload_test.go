package plivosim_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// part is a file of an upload.
type part struct {
	field, name, mediaType string
	data                   []byte
}

func file(name, mediaType string, data []byte) part { return part{"file", name, mediaType, data} }

func (b *bench) upload(parts ...part) response {
	b.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, p := range parts {
		header := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name=%q; filename=%q`, p.field, p.name)}}
		if p.name == "" {
			header.Set("Content-Disposition", fmt.Sprintf(`form-data; name=%q`, p.field))
		}
		if p.mediaType != "" {
			header.Set("Content-Type", p.mediaType)
		}
		w, err := form.CreatePart(header)
		if err != nil {
			b.t.Fatal(err)
		}
		if _, err := w.Write(p.data); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := form.Close(); err != nil {
		b.t.Fatal(err)
	}
	return b.post("/v1/Account/"+authID+"/Media/", form.FormDataContentType(), body.String())
}

func (b *bench) post(path, contentType, body string) response {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.server.URL+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.SetBasicAuth(authID, authToken)
	req.Header.Set("Content-Type", contentType)
	return b.roundTrip(req)
}

// mediaObject is a file in a response of the Media API.
type mediaObject struct {
	ContentType  string `json:"content_type"`
	FileName     string `json:"file_name"`
	MediaID      string `json:"media_id"`
	Size         int    `json:"size"`
	UploadTime   string `json:"upload_time"`
	MediaURL     string `json:"media_url"`
	Status       string `json:"status"`
	StatusCode   int    `json:"status_code"`
	ErrorCode    int    `json:"error_code"`
	ErrorMessage string `json:"error_message"`
}

func (r response) objects(t *testing.T) []mediaObject {
	t.Helper()
	return decode[struct{ Objects []mediaObject }](t, r.body).Objects
}

// uploadOne uploads a picture of the given size and returns its id.
func (b *bench) uploadOne(size int) string {
	b.t.Helper()
	objects := b.upload(file("a.png", "image/png", paddedPNG(b.t, size))).objects(b.t)
	if len(objects) != 1 || objects[0].MediaID == "" {
		b.t.Fatalf("got objects %+v, want one with an id", objects)
	}
	return objects[0].MediaID
}

func jpegOf(t *testing.T, width, height int) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := jpeg.Encode(&out, image.NewGray(image.Rect(0, 0, width, height)), nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// paddedPNG returns a PNG of 3 by 2 pixels, followed by zeros up to the size.
func paddedPNG(t *testing.T, size int) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, 3, 2))); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), make([]byte, max(size-out.Len(), 0))...)
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func TestUploadStoresFiles(t *testing.T) {
	t.Parallel()
	clock := newClock()
	b := start(t, func(c *plivosim.Config) { c.Now = clock.now })
	photo, drawing := jpegOf(t, 40, 30), paddedPNG(t, 0)
	got := b.upload(file("photo.jpg", "image/jpg", photo), file("drawing.png", "image/png", drawing), file("again.jpg", "image/jpeg", photo))

	objects, uploads := got.objects(t), b.sim.Uploads()
	if got.status != http.StatusCreated || len(objects) != 3 || len(uploads) != 3 {
		t.Fatalf("got status %d, %d objects and %d uploads, want 201, 3 and 3: %s", got.status, len(objects), len(uploads), got.body)
	}
	jpegFile := plivosim.File{SHA256: sumOf(photo), Type: "image/jpeg", Bytes: len(photo), Width: 40, Height: 30}
	pngFile := plivosim.File{SHA256: sumOf(drawing), Type: "image/png", Bytes: len(drawing), Width: 3, Height: 2}
	names, files := []string{"photo.jpg", "drawing.png", "again.jpg"}, []plivosim.File{jpegFile, pngFile, jpegFile}
	for i, file := range files {
		wantObject := mediaObject{
			ContentType: file.Type, FileName: names[i], MediaID: uploads[i].MediaID, Size: file.Bytes, UploadTime: "2026-01-15T10:20:30.123456Z",
			MediaURL: b.server.URL + "/sim/contents/" + file.SHA256, Status: "success", StatusCode: 201,
		}
		if diff := cmp.Diff(wantObject, objects[i]); diff != "" {
			t.Errorf("object mismatch (-want +got):\n%s", diff)
		}
		wantUpload := plivosim.Upload{
			MediaID: objects[i].MediaID, FileName: names[i], UploadedAt: clock.now(), ExpiresAt: clock.now().Add(6 * time.Hour), File: file,
		}
		if diff := cmp.Diff(wantUpload, uploads[i]); diff != "" {
			t.Errorf("upload mismatch (-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff([]plivosim.Content{{File: jpegFile, Uploads: 2}, {File: pngFile, Uploads: 1}}, b.sim.Contents()); diff != "" {
		t.Errorf("contents mismatch (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(uploads, decode[[]plivosim.Upload](t, b.control("GET", "uploads", "").body)); diff != "" {
		t.Errorf("/sim/uploads mismatch (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(b.sim.Contents(), decode[[]plivosim.Content](t, b.control("GET", "contents", "").body)); diff != "" {
		t.Errorf("/sim/contents mismatch (-want +got):\n%s", diff)
	}
	bytesOf := b.control("GET", "contents/"+jpegFile.SHA256, "")
	if bytesOf.body != string(photo) || bytesOf.header.Get("Content-Type") != "image/jpeg" {
		t.Errorf("got %d bytes of type %q, want the photo", len(bytesOf.body), bytesOf.header.Get("Content-Type"))
	}
	if got := b.control("GET", "contents/"+sumOf(nil), "").status; got != http.StatusNotFound {
		t.Errorf("unknown content: got status %d, want 404", got)
	}
}

// A success can hold failed files.
func TestUploadReportsFailedFiles(t *testing.T) {
	t.Parallel()
	b := start(t)
	valid := jpegOf(t, 1, 1)
	tests := []struct {
		name string
		file part
		code int
		text string
	}{
		{"the largest", file("a.png", "image/png", paddedPNG(t, 2_000_000)), 0, ""},
		{"too large", file("a.png", "image/png", paddedPNG(t, 2_000_001)), 120, "the file is larger than 2000000 bytes"},
		{"empty", file("a.png", "image/png", nil), 140, "the file is empty"},
		{"without a name", file("", "image/jpeg", valid), 140, "the file has no name"},
		{"without a type", file("a.jpg", "", valid), 130, `the type "" is not supported`},
		{"of an unsupported type", file("a.svg", "image/svg+xml", []byte("<svg/>")), 130, `the type "image/svg+xml" is not supported`},
		{"of another type", file("a.png", "image/png", valid), 130, "the type is image/png, but the content is image/jpeg"},
		{"text as a picture", file("a.png", "image/png", []byte("hello")), 130, "the type is image/png, but the content is text/plain; charset=utf-8"},
		{"a picture as text", file("a.txt", "text/plain", valid), 130, "the type is text/plain, but the content is image/jpeg"},
		{"vCard", file("a.vcf", "text/vcard; charset=utf-8", []byte("BEGIN:VCARD\r\nEND:VCARD\r\n")), 0, ""},
	}
	parts := make([]part, len(tests))
	for i, tt := range tests {
		parts[i] = tt.file
	}
	got := b.upload(parts...)
	objects := got.objects(t)
	if got.status != http.StatusCreated || len(objects) != len(tests) {
		t.Fatalf("got %d with %d objects, want 201 with %d", got.status, len(objects), len(tests))
	}
	for i, tt := range tests {
		o := objects[i]
		stored := o.MediaID != "" && o.Status == "success" && o.StatusCode == 201
		refused := o.MediaID == "" && o.Status == "failed" && o.StatusCode == 400
		if stored != (tt.text == "") || refused == stored || o.ErrorCode != tt.code || o.ErrorMessage != tt.text {
			t.Errorf("%s: got %+v, want error %d %q", tt.name, o, tt.code, tt.text)
		}
	}
	if n := len(b.sim.Uploads()); n != 2 {
		t.Errorf("got %d uploads, want 2", n)
	}
}

func TestUploadRefusesRequests(t *testing.T) {
	t.Parallel()
	b := start(t)
	const path = "/v1/Account/" + authID + "/Media/"
	one := file("a.jpg", "image/jpeg", jpegOf(t, 1, 1))
	tests := map[string]struct {
		got  response
		want string
	}{
		"11 files":     {b.upload(slices.Repeat([]part{one}, 11)...), "an upload can have at most 10 files"},
		"no file":      {b.upload(part{field: "picture", name: "a.jpg", mediaType: "image/jpeg", data: one.data}), "file is required"},
		"JSON":         {b.post(path, "application/json", `{}`), "the body must be multipart/form-data"},
		"cut body":     {b.post(path, "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nabc"), "the body must be multipart/form-data"},
		"no boundary":  {b.post(path, "multipart/form-data", "--b--"), "the body must be multipart/form-data"},
		"form of text": {b.post(path, "application/x-www-form-urlencoded", "file=a"), "the body must be multipart/form-data"},
	}
	for name, tt := range tests {
		if text := tt.got.errorText(t); tt.got.status != http.StatusBadRequest || text != tt.want {
			t.Errorf("%s: got %d %q, want 400 %q", name, tt.got.status, text, tt.want)
		}
	}
	if n := len(b.sim.Uploads()); n != 0 {
		t.Errorf("got %d uploads, want none", n)
	}
}

func TestUploadSharesRateLimitAndCredentials(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) { c.RequestRate = 2 })
	one := file("a.jpg", "image/jpeg", jpegOf(t, 1, 1))
	got := []int{b.send(params(plain)).status, b.upload(one).status, b.upload(one).status}
	if diff := cmp.Diff([]int{202, 201, 429}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
	other := b.post("/v1/Account/MAYYYYYYYYYYYYYYYYYY/Media/", "multipart/form-data; boundary=b", "--b--")
	if other.status != http.StatusUnauthorized {
		t.Errorf("another account: got status %d, want 401", other.status)
	}
}

func TestUploadFaults(t *testing.T) {
	t.Parallel()
	tests := map[plivosim.Scenario]struct {
		status int
		stored bool
	}{
		plivosim.UploadFailed:      {201, false},
		plivosim.ServerError:       {500, false},
		plivosim.RateLimited:       {429, false},
		plivosim.DropBeforeAccept:  {0, false},
		plivosim.EmptyNotAccepted:  {202, false},
		plivosim.AcceptThen500:     {500, true},
		plivosim.AcceptThenDrop:    {0, true},
		plivosim.AcceptThenCut:     {201, true},
		plivosim.RefusedForbidden:  {403, false},
		plivosim.TemporaryFailure:  {503, false},
		plivosim.RefusedEmptyBody:  {400, false},
		plivosim.RateLimitedNoHint: {429, false},
	}
	for name, tt := range tests {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			b := start(t)
			b.setFault(plivosim.Fault{Scenario: name, Count: 1, Upload: true})
			if got := b.send(params(plain)).status; got != http.StatusAccepted {
				t.Errorf("a message: got status %d, want 202: the fault is for uploads", got)
			}
			one := file("a.jpg", "image/jpeg", jpegOf(t, 1, 1))
			got := b.upload(one)
			stored := len(b.sim.Uploads()) == 1
			if got.status != tt.status || stored != tt.stored {
				t.Errorf("got status %d, stored %v, want %d and %v", got.status, stored, tt.status, tt.stored)
			}
			if name == plivosim.UploadFailed {
				if o := got.objects(t)[0]; o.StatusCode != 400 || o.MediaID != "" || o.ErrorMessage == "" {
					t.Errorf("got object %+v, want a failed one", o)
				}
			}
			if next := b.upload(one); next.status != http.StatusCreated {
				t.Errorf("the next upload: got status %d, want 201", next.status)
			}
		})
	}
}

func TestUploadsRejectFaultsOfMessages(t *testing.T) {
	t.Parallel()
	b := start(t)
	for fault, want := range map[plivosim.Fault]string{
		{Scenario: plivosim.CallbacksLost, Upload: true}:                  `uploads do not know the scenario "callbacks-lost"`,
		{Scenario: plivosim.ServerError, Upload: true, Recipient: "1415"}: "uploads have no recipient",
		{Scenario: plivosim.UploadFailed}:                                 `unknown scenario "upload-failed"`,
	} {
		if err := b.sim.SetFault(fault); err == nil || err.Error() != want {
			t.Errorf("%+v: got error %v, want %s", fault, err, want)
		}
	}
}

func TestMediaIsReadAndListed(t *testing.T) {
	t.Parallel()
	b := start(t)
	var ids []string
	for size := range 23 {
		ids = append(ids, b.uploadOne(200+size))
	}
	slices.Reverse(ids)
	type page struct {
		Meta struct {
			Limit      int    `json:"limit"`
			TotalCount int    `json:"total_count"`
			Next       string `json:"next"`
		} `json:"meta"`
		Objects []mediaObject `json:"objects"`
	}
	get := func(query string) response {
		return b.do(t.Context(), "GET", "/v1/Account/"+authID+"/Media/"+query, "")
	}
	first, second := decode[page](t, get("").body), decode[page](t, get("?limit=20&offset=20").body)
	var got []string
	for _, o := range append(first.Objects, second.Objects...) {
		got = append(got, o.MediaID)
	}
	if diff := cmp.Diff(ids, got); diff != "" {
		t.Errorf("ids, newest first: mismatch (-want +got):\n%s", diff)
	}
	if first.Meta.Limit != 20 || first.Meta.TotalCount != 23 || first.Meta.Next != "/v1/Account/"+authID+"/Media/?limit=20&offset=20" {
		t.Errorf("got meta %+v", first.Meta)
	}
	if r := get("?limit=21"); r.status != http.StatusBadRequest {
		t.Errorf("limit 21: got status %d, want 400", r.status)
	}
	one := decode[mediaObject](t, get(ids[0]+"/").body)
	if diff := cmp.Diff(first.Objects[0], one); diff != "" {
		t.Errorf("one: mismatch (-want +got):\n%s", diff)
	}
	if r := get("unknown/"); r.status != http.StatusNotFound {
		t.Errorf("unknown id: got status %d, want 404", r.status)
	}
}

func TestSendTakesMediaIDs(t *testing.T) {
	t.Parallel()
	b := start(t)
	id := b.uploadOne(300)
	got := b.send(params(plain, map[string]any{"media_urls": nil, "text": nil, "media_ids": []string{id}}))
	if got.status != http.StatusAccepted {
		t.Fatalf("got unexpected response %+v", got)
	}
	want := []plivosim.Medium{{MediaID: id, File: b.sim.Uploads()[0].File}}
	if diff := cmp.Diff(want, b.sim.Ledger()[0].Media); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
	if u := b.sim.Uploads()[0]; !u.Used {
		t.Errorf("got %+v, want it used", u)
	}
}

func TestSendRejectsMediaIDs(t *testing.T) {
	t.Parallel()
	b := start(t)
	large, largest := b.uploadOne(2_000_000), b.uploadOne(999_995)
	urls := slices.Repeat([]string{"https://media.example.com/a.png"}, 9)
	for name, tt := range map[string]struct {
		change map[string]any
		want   string
	}{
		"unknown":              {map[string]any{"media_ids": []string{large, "x"}}, `media_ids not found: "x"`},
		"11 with URLs":         {map[string]any{"media_ids": []string{large, large}, "media_urls": urls}, "a message can have at most 10 attachments"},
		"5 MB with the text":   {map[string]any{"media_ids": []string{large, large, largest}, "text": "123456"}, "the text and the attachments are larger than 5000000 bytes in total"},
		"5 MB is not too much": {map[string]any{"media_ids": []string{large, large, largest}, "text": "12345"}, ""},
	} {
		got := b.send(params(plain, tt.change))
		if tt.want == "" && got.status == http.StatusAccepted {
			continue
		}
		if text := got.errorText(t); got.status != http.StatusBadRequest || text != tt.want {
			t.Errorf("%s: got %d %q, want 400 %q", name, got.status, text, tt.want)
		}
	}
}

func TestUnusedMediaExpires(t *testing.T) {
	t.Parallel()
	clock := newClock()
	b := start(t, func(c *plivosim.Config) { c.Now = clock.now })
	used, unused := b.uploadOne(200), b.uploadOne(300)
	send := func(id string) int {
		return b.send(params(plain, map[string]any{"media_ids": []string{id}})).status
	}
	got := []int{send(used)}
	clock.advance(6*time.Hour - time.Nanosecond)
	got = append(got, b.do(t.Context(), "GET", "/v1/Account/"+authID+"/Media/"+unused+"/", "").status)
	clock.advance(time.Nanosecond)
	got = append(got, b.do(t.Context(), "GET", "/v1/Account/"+authID+"/Media/"+unused+"/", "").status, send(unused), send(used))
	clock.advance(365 * 24 * time.Hour)
	got = append(got, send(used))
	forgotten := b.uploadOne(400)
	got = append(got, b.control("DELETE", "media", "").status, send(forgotten))
	if diff := cmp.Diff([]int{202, 200, 404, 400, 202, 400, 204, 400}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
	if n := len(b.sim.Uploads()); n != 3 {
		t.Errorf("got %d uploads, want all 3", n)
	}
}

// FuzzUpload sends any body: it is refused, or each of its files is stored or has failed.
func FuzzUpload(f *testing.F) {
	const head = "Content-Disposition: form-data; name=\"file\"; filename=\"a.gif\"\r\nContent-Type: image/gif\r\n\r\n"
	f.Add("multipart/form-data; boundary=b", "--b\r\n"+head+"GIF89a\r\n--b--")
	f.Add("multipart/form-data; boundary=b", "--b\r\n"+head+"GIF89a\r\n--b--\r\n--b\r\n"+head+"GIF89a\r\n--b--")
	f.Add("multipart/form-data; boundary=b", "--b\r\n"+head+"\x89PNG")
	f.Add("multipart/form-data", "--b--")
	f.Add("multipart/mixed; boundary=b", "--b\r\n\r\n\r\n--b--")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		sim := plivosim.New(plivosim.Config{AuthID: authID, AuthToken: authToken})
		defer sim.Close()
		request := httptest.NewRequest(http.MethodPost, "/v1/Account/"+authID+"/Media/", strings.NewReader(body))
		request.SetBasicAuth(authID, authToken)
		request.Header.Set("Content-Type", contentType)
		recorder := httptest.NewRecorder()
		sim.ServeHTTP(recorder, request)
		if recorder.Code == http.StatusBadRequest {
			if n := len(sim.Uploads()); n != 0 {
				t.Errorf("got %d uploads of a refused request, want none", n)
			}
			return
		}
		stored := 0
		for _, o := range (response{body: recorder.Body.String()}).objects(t) {
			if (o.StatusCode == 201) != (o.MediaID != "") {
				t.Errorf("got object %+v, want an id exactly if it is stored", o)
			}
			if o.MediaID != "" {
				stored++
			}
		}
		if recorder.Code != http.StatusCreated || stored != len(sim.Uploads()) {
			t.Errorf("got status %d, %d files with an id and %d uploads, want 201 and as many", recorder.Code, stored, len(sim.Uploads()))
		}
	})
}

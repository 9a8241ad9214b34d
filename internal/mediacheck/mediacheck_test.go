package mediacheck

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"code.dny.dev/ssrf"
	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/mms"
)

const budget = 500_000

// file answers with the content and its length, and the headers given as "Name: value".
func file(content []byte, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		_, _ = w.Write(content)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// redirects answers /n with a redirect to /n-1, and /0 with the last handler.
func redirects(last http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if n == 0 {
			last(w, r)
			return
		}
		http.Redirect(w, r, fmt.Sprintf("/%d", n-1), http.StatusFound)
	}
}

func redirectTo(target string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", target)
		w.WriteHeader(http.StatusFound)
	}
}

// raw answers with these bytes and closes the connection.
func raw(response string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = conn.Write([]byte(response))
		_ = conn.Close()
	}
}

func encoded(encode func(*bytes.Buffer) error) []byte {
	var out bytes.Buffer
	if err := encode(&out); err != nil {
		panic(err)
	}
	return out.Bytes()
}

var (
	jpegFile = encoded(func(b *bytes.Buffer) error { return jpeg.Encode(b, image.NewRGBA(image.Rect(0, 0, 40, 30)), nil) })
	pngFile  = encoded(func(b *bytes.Buffer) error { return png.Encode(b, image.NewRGBA(image.Rect(0, 0, 40, 30))) })
	gifFile  = encoded(func(b *bytes.Buffer) error { return gif.Encode(b, image.NewRGBA(image.Rect(0, 0, 40, 30)), nil) })
	vcard    = []byte("BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Ada\r\nEND:VCARD\r\n")
	video    = append([]byte("\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"), make([]byte, 1000)...)
)

// pngOf returns a PNG of about size bytes: the rest is a text chunk.
func pngOf(size int) []byte {
	text := append([]byte("tEXt"), bytes.Repeat([]byte("a"), size-len(pngFile)-12)...)
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(text)-4))
	chunk = binary.BigEndian.AppendUint32(append(chunk, text...), crc32.ChecksumIEEE(text))
	const header = 8 + 25 // signature and IHDR
	return bytes.Join([][]byte{pngFile[:header], chunk, pngFile[header:]}, nil)
}

// hugePNG claims more pixels than package picture decodes.
func hugePNG() []byte {
	data := bytes.Clone(pngFile)
	binary.BigEndian.PutUint32(data[16:], 20_000)
	binary.BigEndian.PutUint32(data[20:], 20_000)
	binary.BigEndian.PutUint32(data[29:], crc32.ChecksumIEEE(data[12:29]))
	return data
}

func pictureInfo(mediaType string, size int) mms.PictureInfo {
	return mms.PictureInfo{Type: mediaType, Bytes: size, Width: 40, Height: 30}
}

func passed(info mms.PictureInfo, fits bool) mms.MediaCheck {
	return mms.MediaCheck{Result: mms.CheckPassed, PictureInfo: info, Fits: fits}
}

func problem(result mms.CheckResult, reason mms.Reason, detail string) mms.MediaCheck {
	return mms.MediaCheck{Result: result, Reason: reason, Detail: detail}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const host = "127.0.0.1"
	unusable := func(reason mms.Reason, detail string) mms.MediaCheck { return problem(mms.CheckFailed, reason, detail) }
	again := func(detail string) mms.MediaCheck {
		return problem(mms.CheckRetry, mms.ReasonMediaUnreachable, detail)
	}
	redirected := func(check mms.MediaCheck) mms.MediaCheck {
		check.Redirected, check.Fits = true, false
		return check
	}
	const jpegType, pngType = "Content-Type: image/jpeg", "Content-Type: image/png"
	for name, tt := range map[string]struct {
		path    string
		handler http.HandlerFunc
		want    mms.MediaCheck
	}{
		"JPEG":                     {handler: file(jpegFile, jpegType), want: passed(pictureInfo("image/jpeg", len(jpegFile)), true)},
		"JPEG by another name":     {handler: file(jpegFile, "Content-Type: image/JPG; q=1"), want: passed(pictureInfo("image/jpeg", len(jpegFile)), true)},
		"PNG":                      {handler: file(pngFile, pngType), want: passed(pictureInfo("image/png", len(pngFile)), true)},
		"GIF":                      {handler: file(gifFile, "Content-Type: image/gif"), want: passed(pictureInfo("image/gif", len(gifFile)), true)},
		"identity encoding":        {handler: file(jpegFile, jpegType, "Content-Encoding: identity"), want: passed(pictureInfo("image/jpeg", len(jpegFile)), true)},
		"at the budget":            {handler: file(pngOf(budget), pngType), want: passed(pictureInfo("image/png", budget), true)},
		"above the budget":         {handler: file(pngOf(budget+1), pngType), want: passed(pictureInfo("image/png", budget+1), false)},
		"picture above 2 MB":       {handler: file(pngOf(3_000_000), pngType), want: passed(pictureInfo("image/png", 3_000_000), false)},
		"too many pixels for us":   {handler: file(hugePNG(), pngType), want: passed(mms.PictureInfo{Type: "image/png", Bytes: len(pngFile)}, false)},
		"vCard":                    {handler: file(vcard, "Content-Type: text/x-vcard; charset=utf-8"), want: passed(mms.PictureInfo{Type: "text/vcard", Bytes: len(vcard)}, true)},
		"video":                    {handler: file(video, "Content-Type: video/mp4"), want: passed(mms.PictureInfo{Type: "video/mp4", Bytes: len(video)}, true)},
		"video as another format":  {handler: file(video, "Content-Type: video/3gpp"), want: passed(mms.PictureInfo{Type: "video/3gpp", Bytes: len(video)}, true)},
		"redirected three times":   {path: "/3", handler: redirects(file(jpegFile, jpegType)), want: redirected(passed(pictureInfo("image/jpeg", len(jpegFile)), true))},
		"redirected to a 404":      {path: "/1", handler: redirects(status(404)), want: unusable(mms.ReasonMediaNotFound, host+" answered 404: there is nothing at this link.")},
		"not found":                {handler: status(404), want: unusable(mms.ReasonMediaNotFound, host+" answered 404: there is nothing at this link.")},
		"gone":                     {handler: status(410), want: unusable(mms.ReasonMediaGone, host+" answered 410: the file was removed.")},
		"forbidden":                {handler: status(403), want: unusable(mms.ReasonMediaRefused, host+" answered 403 instead of 200.")},
		"no content":               {handler: status(204), want: unusable(mms.ReasonMediaRefused, host+" answered 204 instead of 200.")},
		"redirect to nowhere":      {handler: status(302), want: unusable(mms.ReasonMediaRefused, host+" answered 302 instead of 200.")},
		"redirected four times":    {path: "/4", handler: redirects(file(jpegFile, jpegType)), want: unusable(mms.ReasonMediaRedirects, "The link on "+host+" redirects more than 3 times.")},
		"redirected to a file":     {handler: redirectTo("file:///etc/passwd"), want: unusable(mms.ReasonMediaRedirects, "The link on "+host+" leads to an address that does not start with http:// or https://.")},
		"redirected to a login":    {handler: redirectTo("https://me:secret@example.com/"), want: unusable(mms.ReasonMediaRedirects, "The link on "+host+" leads to an address with a user name or password.")},
		"no Content-Type":          {handler: file(jpegFile), want: unusable(mms.ReasonMediaNoType, host+" does not say what type the file has: its answer must have a Content-Type.")},
		"malformed Content-Type":   {handler: file(jpegFile, "Content-Type: jpeg"), want: unusable(mms.ReasonMediaNoType, host+` does not say what type the file has: the Content-Type "jpeg" is malformed.`)},
		"chunked":                  {handler: raw("HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), want: unusable(mms.ReasonMediaChunked, host+" sends the file in chunks: its answer must have a Content-Length instead.")},
		"no Content-Length":        {handler: raw("HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + string(jpegFile)), want: unusable(mms.ReasonMediaNoLength, host+" does not say how large the file is: its answer must have a Content-Length.")},
		"compressed":               {handler: file(jpegFile, jpegType, "Content-Encoding: gzip"), want: unusable(mms.ReasonMediaCompressed, host+` sends the file with Content-Encoding "gzip", although nobody asked for it: turn off compression for this file.`)},
		"PNG called JPEG":          {handler: file(pngFile, jpegType), want: unusable(mms.ReasonMediaTypeDiffers, host+" says that the file is image/jpeg (Content-Type), but it is image/png.")},
		"JPEG called video":        {handler: file(jpegFile, "Content-Type: video/mp4"), want: unusable(mms.ReasonMediaTypeDiffers, host+" says that the file is video/mp4 (Content-Type), but it is image/jpeg.")},
		"JPEG called data":         {handler: file(jpegFile, "Content-Type: application/octet-stream"), want: unusable(mms.ReasonMediaTypeDiffers, host+" says that the file is application/octet-stream (Content-Type), but it is image/jpeg.")},
		"web page called JPEG":     {handler: file([]byte("<!DOCTYPE html><p>Log in"), jpegType), want: unusable(mms.ReasonMediaTypeDiffers, host+" says that the file is image/jpeg (Content-Type), but it is a web page (text/html).")},
		"HEIC called JPEG":         {handler: file([]byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00"), jpegType), want: unusable(mms.ReasonMediaTypeDiffers, host+" says that the file is image/jpeg (Content-Type), but it is not.")},
		"web page":                 {handler: file([]byte("<!DOCTYPE html><p>Log in"), "Content-Type: text/html"), want: unusable(mms.ReasonMediaUnsupported, "The file on "+host+" is of the type text/html, which cannot be sent by MMS.")},
		"SVG":                      {handler: file([]byte("<svg xmlns='http://www.w3.org/2000/svg'/>"), "Content-Type: image/svg+xml"), want: unusable(mms.ReasonMediaUnsupported, "The file on "+host+" is of the type image/svg+xml, which cannot be sent by MMS.")},
		"video above 2 MB":         {handler: file(append(bytes.Clone(video), make([]byte, 2_000_000)...), "Content-Type: video/mp4"), want: unusable(mms.ReasonMediaTooLarge, "The file on "+host+" is 2.0 MB: Plivo allows 2 MB at most.")},
		"picture above 5 MB":       {handler: file(make([]byte, 5_100_000), jpegType), want: unusable(mms.ReasonMediaTooLarge, "The file is 5.1 MB: a picture that Postcard can make smaller may be up to 5 MB, and any other file up to 2 MB.")},
		"empty":                    {handler: file(nil, jpegType), want: unusable(mms.ReasonMediaUnusable, "The file on "+host+" is empty.")},
		"damaged":                  {handler: file(jpegFile[:60], jpegType), want: unusable(mms.ReasonMediaUnusable, "The picture on "+host+" must be complete: the file ends in the middle of the picture.")},
		"server error":             {handler: status(500), want: again(host + " answered 500.")},
		"unavailable":              {handler: status(503), want: again(host + " answered 503.")},
		"too many requests":        {handler: status(429), want: again(host + " answered 429.")},
		"closed without an answer": {handler: raw(""), want: again(host + " could not be reached, or closed the connection without an answer.")},
		"closed in the middle":     {handler: raw("HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\n\xff\xd8\xff"), want: again(host + " ended the connection before the file was complete.")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(tt.handler)
			t.Cleanup(server.Close)
			got, data, err := New(Options{Budget: budget, AllowPrivate: true}).Check(t.Context(), server.URL+tt.path)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.URL = server.URL + tt.path
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Check() (-want +got):\n%s", diff)
			}
			wantData := got.Result == mms.CheckPassed && strings.HasPrefix(got.Type, "image/")
			if (data != nil) != wantData || data != nil && len(data) != got.Bytes {
				t.Errorf("got %d bytes of data for %+v", len(data), got)
			}
		})
	}
}

func TestCheckAsksLikeAPlainFetcher(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Header)
		redirects(file(jpegFile, "Content-Type: image/jpeg"))(w, r)
	}))
	t.Cleanup(server.Close)
	if _, _, err := New(Options{Budget: budget, AllowPrivate: true}).Check(t.Context(), server.URL+"/1"); err != nil {
		t.Fatal(err)
	}
	want := http.Header{"User-Agent": {"Postcard"}, "Connection": {"close"}}
	if diff := cmp.Diff([]http.Header{want, want}, asked); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

// The guard refuses every loopback address but the first server's.
func TestCheckReachesNoPrivateHost(t *testing.T) {
	t.Parallel()
	private := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the private host was asked") }))
	t.Cleanup(private.Close)
	hop := httptest.NewServer(redirectTo(private.URL))
	t.Cleanup(hop.Close)
	hopByName := httptest.NewServer(redirectTo(strings.Replace(private.URL, "127.0.0.1", "localhost", 1)))
	t.Cleanup(hopByName.Close)
	guard := func(network, address string, conn syscall.RawConn) error {
		if address == hop.Listener.Addr().String() || address == hopByName.Listener.Addr().String() {
			return nil
		}
		return ssrf.New(ssrf.WithAnyPort()).Safe(network, address, conn)
	}
	lenient := newChecker(Options{Budget: budget, AllowPrivate: true}, guard) // judges by the dialed address alone
	for name, tt := range map[string]struct {
		checker *Checker
		url     string
		host    string
	}{
		"address":                    {New(Options{Budget: budget}), private.URL, "127.0.0.1"},
		"name":                       {New(Options{Budget: budget}), "http://localhost:1/", "localhost"},
		"old notation of an address": {New(Options{Budget: budget}), "http://2130706433/", "2130706433"},
		"behind DNS":                 {lenient, strings.Replace(private.URL, "127.0.0.1", "localhost", 1), "localhost"},
		"behind a redirect":          {lenient, hop.URL, "127.0.0.1"},
		"behind a redirect and DNS":  {lenient, hopByName.URL, "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, err := tt.checker.Check(context.Background(), tt.url)
			if err != nil {
				t.Fatal(err)
			}
			want := problem(mms.CheckFailed, mms.ReasonMediaPrivate, "The link on "+tt.host+" leads to a private or reserved address, which Plivo cannot reach.")
			want.URL = tt.url
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Check() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckOfAHostThatCannotBeReached(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	tlsServer := httptest.NewUnstartedServer(file(jpegFile, "Content-Type: image/jpeg"))
	tlsServer.Config.ErrorLog = nil
	tlsServer.StartTLS()
	t.Cleanup(tlsServer.Close)
	for name, tt := range map[string]struct{ url, want string }{
		"nothing listens":       {"http://" + closed.Addr().String(), "127.0.0.1 could not be reached, or closed the connection without an answer."},
		"name does not resolve": {"http://pictures.invalid/a.jpg", "The host name pictures.invalid could not be resolved (DNS)."},
		"bad certificate":       {tlsServer.URL, "The certificate of 127.0.0.1 is not valid."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, err := New(Options{Budget: budget, AllowPrivate: true}).Check(context.Background(), tt.url)
			if err != nil || got.Result != mms.CheckRetry || got.Detail != tt.want {
				t.Errorf("Check() = %+v, %v; want retry with %q", got, err, tt.want)
			}
		})
	}
}

func TestCheckSaysThatAHostIsTooSlow(t *testing.T) {
	t.Parallel()
	got := fetchError(&url.URL{Host: "slow.example.com"}, context.DeadlineExceeded)
	if want := "slow.example.com did not send the file within 15 seconds."; got.Result != mms.CheckRetry || got.Detail != want {
		t.Errorf("got %+v, want retry with %q", got, want)
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel() }))
	t.Cleanup(server.Close)
	if _, _, err := New(Options{Budget: budget, AllowPrivate: true}).Check(ctx, server.URL); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
}

// FuzzJudge gives any content any type: the answer must be a result that can be stored.
func FuzzJudge(f *testing.F) {
	for _, data := range [][]byte{jpegFile, pngFile, gifFile, vcard, video, hugePNG(), nil} {
		f.Add(data, "image/jpeg")
		f.Add(data, "video/mp4; codecs=\"x")
	}
	f.Add([]byte("BEGIN"), "text/vcard")
	f.Fuzz(func(t *testing.T, data []byte, contentType string) {
		a := answer{Response: &http.Response{Header: http.Header{"Content-Type": {contentType}}}, host: "example.com"}
		check, kept := a.judge(data, budget)
		switch {
		case check.Result == mms.CheckPassed && (check.Reason != "" || check.Bytes != len(data) || check.Type == ""):
			t.Errorf("passed with %+v", check)
		case check.Result != mms.CheckPassed && (check.Reason == "" || check.Detail == "" || kept != nil):
			t.Errorf("not passed with %+v and %d bytes", check, len(kept))
		case len([]rune(check.Detail)) > maxDetail || strings.Contains(check.Detail, "\x00") || strings.Contains(check.Type, "\x00"):
			t.Errorf("cannot be stored: %+v", check)
		}
	})
}

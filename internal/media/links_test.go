package media_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeWeb answers every check with the same result.
type fakeWeb struct {
	result  mms.CheckResult
	width   int // 0: no picture
	checked []string
	forgot  []string
}

func (f *fakeWeb) Check(_ context.Context, url string) (mms.MediaCheck, []byte, error) {
	f.checked = append(f.checked, url)
	return mms.MediaCheck{URL: url, Result: f.result, PictureInfo: mms.PictureInfo{Width: f.width}}, []byte("pixels"), nil
}

func (f *fakeWeb) ForgetFailedCheck(_ context.Context, url string) error {
	f.forgot = append(f.forgot, url)
	return nil
}

// TestLinks checks links that work, that fail, and that are none.
func TestLinks(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		raw     string
		result  mms.CheckResult
		want    string // the URL that is asked; empty if none is
		forgets bool
	}{
		"works":   {" https://bücher.example/a.jpg\n", mms.CheckPassed, "https://xn--bcher-kva.example/a.jpg", true},
		"fails":   {"https://example.com/a.jpg", mms.CheckFailed, "https://example.com/a.jpg", false},
		"private": {"http://localhost/a.jpg", mms.CheckPassed, "", false},
	} {
		web := &fakeWeb{result: tt.result}
		links := media.Links{Checker: web, Store: web}
		check, err := links.Check(t.Context(), uuid.New(), tt.raw)
		var violations invalid.Fields
		switch {
		case tt.want == "" && (!errors.As(err, &violations) || violations[0].Name != "url" || len(web.checked) > 0):
			t.Errorf("%s: got %v and calls of %v, want a violation of url", name, err, web.checked)
		case tt.want != "" && (err != nil || check.URL != tt.want || check.Result != tt.result):
			t.Errorf("%s: got %+v, %v, want %s of %s", name, check, err, tt.result, tt.want)
		}
		if (len(web.forgot) == 1) != tt.forgets {
			t.Errorf("%s: got %v forgotten, want %t", name, web.forgot, tt.forgets)
		}
	}
}

// TestLinkLimit has one user check many links, while another can still check one.
func TestLinkLimit(t *testing.T) {
	t.Parallel()
	web := &fakeWeb{result: mms.CheckPassed}
	links := media.Links{Checker: web, Store: web}
	ada, bob := uuid.New(), uuid.New()
	var tooMany media.TooManyChecksError
	for range 1000 {
		if _, err := links.Check(t.Context(), ada, "https://example.com/a.jpg"); errors.As(err, &tooMany) {
			break
		}
	}
	if tooMany.RetryAfter <= 0 || len(web.checked) > 500 {
		t.Errorf("got a wait of %v after %d checks, want one", tooMany.RetryAfter, len(web.checked))
	}
	if _, err := links.Check(t.Context(), bob, "https://example.com/a.jpg"); err != nil {
		t.Errorf("another user: got %v", err)
	}
}

// thumbnails answers with an error, or with the bytes of the picture.
type thumbnails struct{ err error }

func (f thumbnails) Thumbnail(_ context.Context, data []byte) (mms.Content, error) {
	if f.err != nil {
		return mms.Content{}, f.err
	}
	return mms.Content{Data: data}, nil
}

// TestLinksAreShown checks when a page gets a small version of the picture.
func TestLinksAreShown(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		web        fakeWeb
		thumbnails thumbnails
		want       string
		err        error
	}{
		"picture":        {fakeWeb{result: mms.CheckPassed, width: 4}, thumbnails{}, "pixels", nil},
		"no picture":     {fakeWeb{result: mms.CheckPassed}, thumbnails{}, "", nil},
		"failed":         {fakeWeb{result: mms.CheckFailed, width: 4}, thumbnails{}, "", nil},
		"took too long":  {fakeWeb{result: mms.CheckPassed, width: 4}, thumbnails{context.DeadlineExceeded}, "", nil},
		"cannot be made": {fakeWeb{result: mms.CheckPassed, width: 4}, thumbnails{broken}, "", broken},
	} {
		links := media.Links{Checker: &tt.web, Store: &tt.web, Thumbnails: tt.thumbnails}
		check, thumbnail, err := links.CheckAndShow(t.Context(), uuid.New(), "https://example.com/a.jpg")
		if check.Result != tt.web.result || string(thumbnail.Data) != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: got %s, %q, %v, want %s, %q, %v", name, check.Result, thumbnail.Data, err, tt.web.result, tt.want, tt.err)
		}
	}
}

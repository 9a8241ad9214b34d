package media_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/color/palette"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/picture"
)

const budget = 100_000

func newService() (*media.Service, *fakeStore) {
	store := newFakeStore()
	return media.New(media.Options{Store: store, Budget: budget, Memory: 400 << 20, Quota: 1e9}), store
}

// noise returns a JPEG that hardly compresses.
func noise(t *testing.T, width, height int) []byte {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(width*height)))
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range img.Pix {
		img.Pix[i] = byte(random.Uint32())
		if i%4 == 3 {
			img.Pix[i] = 255
		}
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, img, &jpeg.Options{Quality: 90}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func save(t *testing.T, s *media.Service, workspace uuid.UUID, files ...[]byte) []mms.Upload {
	t.Helper()
	fitted := make([]media.Fitted, len(files))
	for i, data := range files {
		var err error
		if fitted[i], err = s.Fit(t.Context(), workspace, "file", media.File{Content: bytes.NewReader(data)}); err != nil {
			t.Fatal(err)
		}
	}
	uploads, err := s.Save(t.Context(), fitted)
	if err != nil {
		t.Fatal(err)
	}
	return uploads
}

// TestUpload uploads a photo that is too large, and one that fits.
func TestUpload(t *testing.T) {
	t.Parallel()
	s, store := newService()
	workspace := uuid.New()
	large, small := noise(t, 900, 600), noise(t, 100, 50)
	uploads := save(t, s, workspace, large, small)
	u := uploads[0]
	if want := (mms.PictureInfo{Type: "image/jpeg", Bytes: len(large), Width: 900, Height: 600}); u.Uploaded != want {
		t.Errorf("got %+v, want %+v", u.Uploaded, want)
	}
	sent := store.contents[u.Sent]
	if len(sent.Data) > budget || sent.PictureInfo != u.SentInfo || u.SentInfo.Bytes != len(sent.Data) {
		t.Errorf("got %d bytes to send, described as %+v, want at most %d", len(sent.Data), u.SentInfo, budget)
	}
	preview := store.contents[sent.Preview]
	if max(preview.Width, preview.Height) != 240 {
		t.Errorf("got a preview of %d × %d, want 240 pixels on the longest side", preview.Width, preview.Height)
	}
	if original := store.contents[u.Original]; !bytes.Equal(original.Data, large) {
		t.Errorf("got an original of %d bytes, want the %d that were uploaded, which have no metadata", len(original.Data), len(large))
	}
	if !slices.Contains(u.Changed, "recompressed") || len(uploads[1].Changed) != 0 {
		t.Errorf("got changes %q and %q, want recompressed and none", u.Changed, uploads[1].Changed)
	}
	if small := store.contents[uploads[1].Sent]; small.Preview != (mms.ContentHash{}) {
		t.Error("got a preview of a picture that is small itself")
	}
}

// film returns an animation of two frames of noise.
func film(t *testing.T, side int) []byte {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(side)))
	animation := &gif.GIF{}
	for range 2 {
		frame := image.NewPaletted(image.Rect(0, 0, side, side), palette.Plan9)
		for i := range frame.Pix {
			frame.Pix[i] = byte(random.Uint32())
		}
		animation.Image, animation.Delay = append(animation.Image, frame), append(animation.Delay, 10)
	}
	var out bytes.Buffer
	if err := gif.EncodeAll(&out, animation); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestFirstFrame uploads animations whose first frame may be used. Those that fit stay
// animations.
func TestFirstFrame(t *testing.T) {
	t.Parallel()
	for side, want := range map[int]bool{50: false, 300: true} {
		s, _ := newService()
		fitted, err := s.Fit(t.Context(), uuid.New(), "file", media.File{Content: bytes.NewReader(film(t, side)), FirstFrame: true})
		if err != nil {
			t.Fatal(err)
		}
		uploads, err := s.Save(t.Context(), []media.Fitted{fitted})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(uploads[0].Changed, string(picture.FirstFrame)); got != want {
			t.Errorf("side of %d: got %v done to it, want the first frame: %t", side, uploads[0].Changed, want)
		}
	}
}

// TestBusy works on a picture after the end of its request.
func TestBusy(t *testing.T) {
	t.Parallel()
	s, store := newService()
	workspace := uuid.New()
	uploads := save(t, s, workspace, noise(t, 900, 600), noise(t, 600, 900))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, fit := s.Fit(ctx, workspace, "file", media.File{Content: bytes.NewReader(noise(t, 60, 60))})
	_, resolve := s.Resolve(ctx, workspace, []uuid.UUID{uploads[0].ID, uploads[1].ID}, mms.FitAuto)
	for name, err := range map[string]error{"fit": fit, "resolve": resolve} {
		if !errors.Is(err, media.ErrBusy) || !errors.Is(err, mms.ErrNotStored) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got error %v, want ErrBusy", name, err)
		}
	}
	if len(store.uploads) != 2 {
		t.Errorf("got %d uploads, want 2", len(store.uploads))
	}
	save(t, s, workspace, noise(t, 60, 60)) // nothing keeps the slot
}

// TestRefusedFile names the file and the rule.
func TestRefusedFile(t *testing.T) {
	t.Parallel()
	s, _ := newService()
	_, err := s.Fit(t.Context(), uuid.New(), "file[1]", media.File{Name: "plan.svg", Content: strings.NewReader("<svg></svg>")})
	var violations invalid.Fields
	if !errors.As(err, &violations) || violations[0].Name != "file[1]" || violations[0].Rule != string(picture.RuleType) ||
		!strings.Contains(violations[0].Message, "plan.svg") || !strings.Contains(violations[0].Message, "SVG") {
		t.Errorf("got %v, want a violation of file[1] that names plan.svg and what it is", err)
	}
	file, err := media.ReadFile("large.jpg", bytes.NewReader(make([]byte, picture.MaxBytes+10)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fit(t.Context(), uuid.New(), "file", file); !errors.As(err, &violations) || violations[0].Rule != string(picture.RuleBytes) {
		t.Errorf("a file that is too large: got %v", err)
	}
}

// TestResolve sends uploads alone, together, as they are, and of others.
func TestResolve(t *testing.T) {
	t.Parallel()
	s, store := newService()
	workspace := uuid.New()
	uploads := save(t, s, workspace, noise(t, 900, 600), noise(t, 600, 900), noise(t, 60, 60))
	ids := []uuid.UUID{uploads[0].ID, uploads[1].ID, uploads[2].ID}

	alone, err := s.Resolve(t.Context(), workspace, ids[:1], mms.FitAuto)
	if want := []mms.MessageUpload{{ID: ids[0], Content: uploads[0].Sent}}; err != nil || !slices.Equal(alone, want) {
		t.Errorf("alone: got %v, %v, want %v", alone, err, want)
	}
	together, err := s.Resolve(t.Context(), workspace, ids, mms.FitAuto)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, u := range together {
		total += len(store.contents[u.Content].Data)
	}
	if total > budget || together[2].Content != uploads[2].Sent {
		t.Errorf("together: got %d bytes, want at most %d, and the small picture unchanged", total, budget)
	}
	stored := len(store.contents)
	again, err := s.Resolve(t.Context(), workspace, ids, mms.FitAuto)
	if err != nil || !slices.Equal(again, together) || len(store.contents) != stored {
		t.Errorf("again: got %v, %v and %d contents, want %v and %d", again, err, len(store.contents), together, stored)
	}
	asItIs, err := s.Resolve(t.Context(), workspace, ids, mms.FitNever)
	if err != nil || asItIs[0].Content != uploads[0].Original {
		t.Errorf("as it is: got %v, %v, want the originals", asItIs, err)
	}
	_, err = s.Resolve(t.Context(), uuid.New(), ids[:1], mms.FitAuto)
	var violations invalid.Fields
	if !errors.As(err, &violations) || violations[0].Name != "mediaIds[0]" || violations[0].Rule != "unknown" {
		t.Errorf("of another user: got %v, want mediaIds[0] unknown", err)
	}
}

// TestOriginalThatCannotBeSent has a picture whose original Plivo would not take.
func TestOriginalThatCannotBeSent(t *testing.T) {
	t.Parallel()
	s, _ := newService()
	workspace := uuid.New()
	upload := save(t, s, workspace, noise(t, 2500, 1500))[0]
	if upload.Uploaded.Bytes <= mms.MaxPlivoMedia {
		t.Fatalf("got a picture of %d bytes, want more than %d", upload.Uploaded.Bytes, mms.MaxPlivoMedia)
	}
	_, err := s.Resolve(t.Context(), workspace, []uuid.UUID{upload.ID}, mms.FitNever)
	var violations invalid.Fields
	if !errors.As(err, &violations) || violations[0].Rule != string(picture.RuleBytes) {
		t.Errorf("got %v, want a violation", err)
	}
}

// TestCopy copies a picture behind a URL, and keeps transparency in the preview.
func TestCopy(t *testing.T) {
	t.Parallel()
	s, store := newService()
	img := image.NewNRGBA(image.Rect(0, 0, 500, 300))
	img.Set(10, 10, color.NRGBA{R: 255, A: 128})
	var encoded bytes.Buffer
	if err := png.Encode(&encoded, img); err != nil {
		t.Fatal(err)
	}
	copied, err := s.Copy(t.Context(), encoded.Bytes(), budget)
	if err != nil || copied.Type != "image/png" || store.contents[copied.Preview].Type != "image/png" {
		t.Errorf("got %s with a preview %s, %v, want two PNG", copied.Type, store.contents[copied.Preview].Type, err)
	}
	var violated *picture.Error
	if _, err := s.Copy(t.Context(), []byte("<html>"), budget); !errors.As(err, &violated) {
		t.Errorf("a web page: got %v, want an error of the picture", err)
	}
	if hash, err := s.Preview(t.Context(), []byte("BEGIN:VCARD")); hash != (mms.ContentHash{}) || err != nil {
		t.Errorf("a vCard: got preview %v, %v, want none", hash, err)
	}
}

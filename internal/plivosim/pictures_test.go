package plivosim_test

import (
	"bytes"
	"image"
	"image/gif"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// TestSamplePictures sends each as a media URL: those with faults, or of more than 2 MB, fail.
func TestSamplePictures(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) { c.FetchMedia = plivosim.FetchAtAccept })
	type sample struct {
		Name, Description string
	}
	codes := map[string]int{
		"photo.jpg": 400, "small-photo.jpg": 202, "drawing.png": 202, "transparent.png": 202, "noise.png": 400, "animated.gif": 202,
		"contact.vcf": 202, "mistyped.jpg": 400, "moved.jpg": 400, "untyped.jpg": 400, "chunked.jpg": 400, "unavailable.jpg": 400,
	}
	got := map[string]int{}
	for _, s := range decode[[]sample](t, b.control("GET", "pictures", "").body) {
		if s.Description == "" {
			t.Errorf("%s has no description", s.Name)
		}
		url := b.server.URL + "/sim/pictures/" + s.Name
		got[s.Name] = b.send(params(plain, map[string]any{"media_urls": []string{url}})).status
	}
	if diff := cmp.Diff(codes, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestSamplePhotoHasMetadata(t *testing.T) {
	t.Parallel()
	b := start(t)
	got := b.control("GET", "pictures/photo.jpg", "")
	config, format, err := image.DecodeConfig(bytes.NewReader([]byte(got.body)))
	if err != nil || format != "jpeg" || config.Width != 4000 || config.Height != 3000 {
		t.Errorf("got a %s of %dx%d (error %v), want a JPEG of 4000x3000", format, config.Width, config.Height, err)
	}
	// The segment follows the start: marker, length, Exif, and big-endian TIFF data whose
	// second entry is the orientation.
	if raw := []byte(got.body); !bytes.Equal(raw[:4], []byte{0xFF, 0xD8, 0xFF, 0xE1}) || string(raw[6:16]) != "Exif\x00\x00MM\x00*" {
		t.Errorf("got start % x, want an Exif segment", raw[:16])
	}
	if size := len(got.body); size < 2_500_000 || size > 8_000_000 {
		t.Errorf("got %d bytes, want as many as a photo of 12 megapixels has", size)
	}
	latitude := []byte{0, 0, 0, 37, 0, 0, 0, 1, 0, 0, 0, 46, 0, 0, 0, 1, 0, 0, 0x0B, 0x94, 0, 0, 0, 100}
	if !bytes.Contains([]byte(got.body), latitude) {
		t.Error("the photo does not say where it was taken")
	}
	head := b.control("HEAD", "pictures/photo.jpg", "")
	if head.status != http.StatusOK || head.header.Get("Content-Length") != got.header.Get("Content-Length") {
		t.Errorf("HEAD: got status %d and length %s, want 200 and %s", head.status, head.header.Get("Content-Length"), got.header.Get("Content-Length"))
	}
	film, err := gif.DecodeAll(bytes.NewReader([]byte(b.control("GET", "pictures/animated.gif", "").body)))
	if err != nil || len(film.Image) != 8 {
		t.Errorf("animated.gif: got error %v, want 8 frames", err)
	}
}

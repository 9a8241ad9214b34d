package picture_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/postcard-mms/postcard/internal/picture"
)

const budget = 500_000

// noise draws a picture that compresses badly.
func noise(width, height int) *image.RGBA {
	random := rand.New(rand.NewPCG(1, 2))
	pixels := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range pixels.Pix {
		pixels.Pix[i] = byte(random.Uint32()) | byte(i%4/3*255)
	}
	return pixels
}

// gradient draws a picture that compresses like a photo, and whose four quarters differ:
// red at the top left, green at the top right, blue at the bottom left, white.
func gradient(width, height int) *image.RGBA {
	pixels := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := color.RGBA{200, 0, 0, 255}
			switch {
			case 2*x >= width && 2*y >= height:
				c = color.RGBA{255, 255, 255, 255}
			case 2*x >= width:
				c = color.RGBA{0, 200, 0, 255}
			case 2*y >= height:
				c = color.RGBA{0, 0, 200, 255}
			}
			c.R ^= byte(x * 16 / width)
			pixels.SetRGBA(x, y, c)
		}
	}
	return pixels
}

func asJPEG(t rapid.TB, src image.Image, quality int) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := jpeg.Encode(&out, src, &jpeg.Options{Quality: quality}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func asPNG(t rapid.TB, src image.Image) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, src); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func asGIF(t rapid.TB, frames ...*image.Paletted) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := gif.EncodeAll(&out, &gif.GIF{Image: frames, Delay: make([]int, len(frames))}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// frame draws a frame of an animation that compresses badly.
func frame(width, height int, seed uint64) *image.Paletted {
	palette := make(color.Palette, 256)
	for i := range palette {
		palette[i] = color.RGBA{byte(i), byte(255 - i), byte(i * 7), 255}
	}
	random := rand.New(rand.NewPCG(seed, 1))
	pixels := image.NewPaletted(image.Rect(0, 0, width, height), palette)
	for i := range pixels.Pix {
		pixels.Pix[i] = byte(random.Uint32())
	}
	return pixels
}

// secret is what must not be found in any picture that leaves.
const secret = "GPSLatitude 47.3769"

// tiff is an EXIF structure with an orientation and coordinates.
func tiff(orientation uint16) []byte {
	b := []byte("MM\x00*\x00\x00\x00\x08\x00\x02")
	b = append(b, 0x01, 0x12, 0, 3, 0, 0, 0, 1, byte(orientation>>8), byte(orientation), 0, 0)
	b = append(b, 0x88, 0x25, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0x26)
	return append(append(b, 0, 0, 0, 0), secret...)
}

func jpegSegment(marker byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(len(body)+2)), body...)
}

// curve is a value of a color profile.
const curve = "curv\x00\x00\x00\x00\x00\x00\x00\x01\x02\x33\x00\x00"

// profile is a color profile for RGB that also says secrets: in texts, a private tag, the
// date and the names of devices.
func profile() []byte {
	header := make([]byte, 128)
	copy(header[4:], "lcms\x02\x10\x00\x00mntrRGB XYZ \x07\xea\x00\x0b\x00\x1bacsp")
	copy(header[36:], "acsp")
	copy(header[48:], secret)
	tags := []struct{ name, data string }{
		{"cprt", "text\x00\x00\x00\x00" + secret}, {"rTRC", curve}, {"prVt", "curv\x00\x00\x00\x00" + secret}, {"gTRC", "text\x00\x00\x00\x00" + secret}, {"bTRC", curve},
	}
	out, offset := binary.BigEndian.AppendUint32(header, uint32(len(tags))), 128+4+12*len(tags)
	var values []byte
	for _, tag := range tags {
		out = append(out, tag.name...)
		out = binary.BigEndian.AppendUint32(out, uint32(offset+len(values)))
		out = binary.BigEndian.AppendUint32(out, uint32(len(tag.data)))
		values = append(values, tag.data...)
	}
	out = append(out, values...)
	binary.BigEndian.PutUint32(out, uint32(len(out)))
	return out
}

// withJPEGMetadata adds each kind of metadata to a JPEG file.
func withJPEGMetadata(file []byte, orientation uint16) []byte {
	return slices.Concat(file[:2],
		jpegSegment(0xe1, append([]byte("Exif\x00\x00"), tiff(orientation)...)),
		jpegSegment(0xe1, []byte("http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta>"+secret)),
		jpegSegment(0xe2, append([]byte("ICC_PROFILE\x00\x01\x01"), profile()...)),
		jpegSegment(0xe2, []byte("MPF\x00"+secret)),
		jpegSegment(0xed, []byte("Photoshop 3.0\x00"+secret)),
		jpegSegment(0xfe, []byte(secret)),
		file[2:], []byte("ftypmp42"+secret))
}

func pngChunk(name string, body []byte) []byte {
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	chunk = append(append(chunk, name...), body...)
	return binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(chunk[4:]))
}

func deflate(t rapid.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// withPNGMetadata adds each kind of metadata to a PNG file.
func withPNGMetadata(t rapid.TB, file []byte, orientation uint16) []byte {
	t.Helper()
	const afterHeader = 8 + 25
	return slices.Concat(file[:afterHeader],
		pngChunk("iCCP", append([]byte("p\x00\x00"), deflate(t, profile())...)),
		pngChunk("eXIf", tiff(orientation)),
		pngChunk("tEXt", []byte("Comment\x00"+secret)),
		pngChunk("zTXt", append([]byte("Comment\x00\x00"), deflate(t, []byte(secret))...)),
		pngChunk("iTXt", []byte("XML:com.adobe.xmp\x00\x00\x00\x00\x00"+secret)),
		pngChunk("tIME", []byte{7, 234, 11, 27, 9, 0, 0}),
		pngChunk("prVt", []byte(secret)),
		file[afterHeader:], []byte(secret))
}

// withGIFMetadata adds each kind of metadata to a GIF file without a global palette.
func withGIFMetadata(file []byte) []byte {
	const header = 13
	block := func(start string) []byte { return append(append([]byte(start), byte(len(secret))), secret+"\x00"...) }
	return slices.Concat(file[:header], block("\x21\xfe"), block("\x21\xff\x0bXMP DataXMP"), file[header:], []byte(secret))
}

// TestFit makes pictures of many kinds fit, and checks what must hold for each.
func TestFit(t *testing.T) {
	t.Parallel()
	transparent := noise(900, 700)
	for i := 3; i < len(transparent.Pix)/2; i += 4 {
		transparent.Pix[i-3], transparent.Pix[i-2], transparent.Pix[i-1], transparent.Pix[i] = 0, 0, 0, 0
	}
	type size struct{ width, height int }
	sources := map[string][]byte{
		"transparent PNG":    asPNG(t, transparent),
		"static GIF":         asGIF(t, frame(1200, 900, 1)),
		"palette PNG":        withPNGMetadata(t, asPNG(t, frame(640, 480, 1)), 6),
		"large palette PNG":  asPNG(t, frame(3000, 1000, 1)),
		"PNG that fits":      withPNGMetadata(t, asPNG(t, gradient(300, 200)), 1),
		"JPEG that fits":     withJPEGMetadata(asJPEG(t, gradient(1000, 800), 80), 1),
		"gray":               asJPEG(t, image.NewGray(image.Rect(0, 0, 2000, 900)), 90),
		"JPEG of 12 MP":      withJPEGMetadata(asJPEG(t, gradient(4000, 3000), 90), 6),
		"photo as PNG":       asPNG(t, noise(1000, 800)),
		"animation":          withGIFMetadata(asGIF(t, frame(100, 80, 1), frame(100, 80, 2), frame(100, 80, 3))),
		"animation in parts": asGIF(t, frame(100, 80, 1), frame(20, 30, 2)),
	}
	for _, s := range []size{{1, 1}, {1, 5000}, {5000, 2}, {33, 77}, {1601, 900}} {
		for _, orientation := range []int{0, 1, 6, 9} {
			name := fmt.Sprintf("JPEG of %d × %d, orientation %d", s.width, s.height, orientation)
			sources[name] = withJPEGMetadata(asJPEG(t, noise(s.width, s.height), 95), uint16(orientation))
		}
	}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, budget := range []int{budget, 120_000} {
				before, err := picture.Inspect(source)
				if err != nil {
					t.Fatal(err)
				}
				got, err := picture.Fit(source, picture.Options{Budget: budget, Memory: 400 << 20})
				if err != nil {
					t.Fatal(err)
				}
				wantFitted(t, before, got, budget)
			}
		})
	}
}

func wantFitted(t rapid.TB, before picture.Info, got picture.Fitted, budget int) {
	t.Helper()
	if len(got.Data) > budget || got.Bytes != len(got.Data) {
		t.Errorf("got %d bytes, said to be %d, want at most %d", len(got.Data), got.Bytes, budget)
	}
	if bytes.Contains(got.Data, []byte(secret)) || bytes.Contains(got.Data, []byte("Exif")) {
		t.Error("the picture still has metadata")
	}
	config, format, err := image.DecodeConfig(bytes.NewReader(got.Data))
	if err != nil {
		t.Fatal(err)
	}
	if "image/"+format != string(got.Type) || config.Width != got.Width || config.Height != got.Height {
		t.Errorf("got %s of %d × %d, said to be %+v", format, config.Width, config.Height, got.Info)
	}
	if _, _, err := image.Decode(bytes.NewReader(got.Data)); err != nil {
		t.Errorf("the picture cannot be decoded: %v", err)
	}
	// Rounding to whole pixels changes each side by at most half a pixel.
	across, down := float64(got.Width)*float64(before.Height), float64(got.Height)*float64(before.Width)
	if tolerance := float64(before.Width+before.Height) / 2; got.Width > 1 && got.Height > 1 && (across-down > tolerance || down-across > tolerance) {
		t.Errorf("got %d × %d from %d × %d, want the same ratio", got.Width, got.Height, before.Width, before.Height)
	}
	again, err := picture.Fit(got.Data, picture.Options{Budget: budget})
	if err != nil || !bytes.Equal(again.Data, got.Data) || len(again.Changed) > 0 {
		t.Errorf("fitting it again changed %v (error %v), want nothing", again.Changed, err)
	}
}

// TestOrientation turns pictures whose quarters differ.
func TestOrientation(t *testing.T) {
	t.Parallel()
	for i, want := range turnedQuarters {
		orientation := uint16(i)
		for name, source := range map[string][]byte{
			"JPEG": withJPEGMetadata(asJPEG(t, gradient(60, 40), 95), orientation),
			"PNG":  withPNGMetadata(t, asPNG(t, gradient(60, 40)), orientation),
		} {
			got, err := picture.Fit(source, picture.Options{Budget: budget})
			if err != nil {
				t.Fatal(err)
			}
			if quarters := quartersOf(t, got.Data); quarters != want {
				t.Errorf("%s, orientation %d: got %s, want %s", name, orientation, quarters, want)
			}
			if rotated := slices.Contains(got.Changed, picture.Rotated); rotated != (orientation > 1) {
				t.Errorf("%s, orientation %d: changed %v", name, orientation, got.Changed)
			}
		}
	}
}

func TestWhatChanges(t *testing.T) {
	t.Parallel()
	metadata := []picture.Change{picture.MetadataRemoved, picture.LocationRemoved}
	fits := asJPEG(t, gradient(400, 300), 80)
	animation := asGIF(t, frame(700, 700, 1), frame(700, 700, 2))
	for _, tt := range []struct {
		name     string
		source   []byte
		options  picture.Options
		wantType picture.Type
		want     []picture.Change
	}{
		{"fits", fits, picture.Options{}, picture.JPEG, nil},
		{"metadata", withJPEGMetadata(fits, 1), picture.Options{}, picture.JPEG, metadata},
		{"rotated", withJPEGMetadata(fits, 3), picture.Options{}, picture.JPEG, append([]picture.Change{picture.Rotated}, append(slices.Clone(metadata), picture.Recompressed)...)},
		{"large", asJPEG(t, noise(2000, 1500), 90), picture.Options{}, picture.JPEG, []picture.Change{picture.Scaled, picture.Recompressed}},
		{"photo as PNG", asPNG(t, noise(600, 400)), picture.Options{}, picture.JPEG, []picture.Change{picture.Recompressed}},
		{"PNG of few colors", asPNG(t, frame(1600, 1000, 1)), picture.Options{Budget: 1_700_000}, picture.PNG, nil},
		{"first frame", animation, picture.Options{FirstFrame: true}, picture.PNG, []picture.Change{picture.FirstFrame, picture.Recompressed}},
	} {
		if tt.options.Budget == 0 {
			tt.options.Budget = budget
		}
		got, err := picture.Fit(tt.source, tt.options)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got.Type != tt.wantType || !slices.Equal(got.Changed, tt.want) {
			t.Errorf("%s: got %s, changed %v, want %s, %v", tt.name, got.Type, got.Changed, tt.wantType, tt.want)
		}
	}
}

// TestProfile keeps the color profile of a picture, stripped or recompressed.
func TestProfile(t *testing.T) {
	t.Parallel()
	for name, source := range map[string][]byte{
		"stripped JPEG":     withJPEGMetadata(asJPEG(t, gradient(400, 300), 80), 1),
		"recompressed JPEG": withJPEGMetadata(asJPEG(t, noise(2000, 1500), 90), 1),
		"PNG to JPEG":       withPNGMetadata(t, asPNG(t, noise(1000, 800)), 1),
	} {
		got, err := picture.Fit(source, picture.Options{Budget: budget})
		if err != nil {
			t.Fatal(err)
		}
		pixels, found := got.Data, bytes.Contains(got.Data, []byte("ICC_PROFILE"))
		if !found || bytes.Count(pixels, []byte(curve)) != 1 || bytes.Contains(pixels, []byte(secret)) || bytes.Contains(pixels, []byte("lcms")) {
			t.Errorf("%s: got no color profile, or one that says more than colors", name)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	small := asJPEG(t, gradient(40, 30), 80)
	huge := asPNG(t, image.NewGray(image.Rect(0, 0, 1, 1)))
	huge = slices.Concat(huge[:8], pngChunk("IHDR", []byte{0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 8, 0, 0, 0, 0}), huge[33:])
	many := make([]*image.Paletted, 301)
	for i := range many {
		many[i] = frame(2, 2, 1)
	}
	lossless := bytes.Replace(small, []byte{0xff, 0xc0}, []byte{0xff, 0xc3}, 1)
	for _, tt := range []struct {
		name   string
		source []byte
		want   picture.Rule
	}{
		{"0 bytes", nil, picture.RuleEmpty},
		{"too many bytes", make([]byte, picture.MaxBytes+1), picture.RuleBytes},
		{"SVG", []byte(`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>`), picture.RuleType},
		{"HEIC", []byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00"), picture.RuleType},
		{"PDF", []byte("%PDF-1.7\n"), picture.RuleType},
		{"text", []byte("Hello"), picture.RuleType},
		{"video", []byte("\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00"), picture.RuleType},
		{"JPEG that is also a ZIP archive", append(bytes.Clone(small), "PK\x03\x04PK\x05\x06"...), picture.RuleType},
		{"JPEG that is also a PDF document", slices.Concat(small[:2], jpegSegment(0xfe, []byte("%PDF-1.4")), small[2:]), picture.RuleType},
		{"lossless JPEG", lossless, picture.RuleType},
		{"animated WebP", []byte("RIFF\x12\x00\x00\x00WEBPANIM\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00"), picture.RuleType},
		{"truncated JPEG", small[:len(small)-10], picture.RuleDamaged},
		{"truncated PNG", asPNG(t, frame(20, 20, 1))[:900], picture.RuleDamaged},
		{"truncated GIF", asGIF(t, frame(20, 20, 1))[:300], picture.RuleDamaged},
		{"truncated WebP", []byte("RIFF\xff\x00\x00\x00WEBPVP8 "), picture.RuleDamaged},
		{"GIF without a picture", []byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), picture.RuleDamaged},
		{"JPEG without pixels", slices.Concat(small[:2], []byte{0xff, 0xd9}), picture.RuleDamaged},
		{"wrong checksum", bytes.Replace(asPNG(t, gradient(40, 30)), []byte("IDAT"), []byte("IDAU"), 1), picture.RuleDamaged},
		{"bomb", huge, picture.RulePixels},
		{"301 frames", asGIF(t, many...), picture.RuleFrames},
		{"animation above the budget", asGIF(t, frame(700, 700, 1), frame(700, 700, 2)), picture.RuleAnimated},
	} {
		_, err := picture.Fit(tt.source, picture.Options{Budget: budget, Memory: 400 << 20})
		var violated *picture.Error
		if !errors.As(err, &violated) || violated.Rule != tt.want {
			t.Errorf("%s: got error %v, want rule %s", tt.name, err, tt.want)
		}
	}
	if _, err := picture.Fit(asJPEG(t, noise(500, 500), 95), picture.Options{Budget: 3000}); err == nil {
		t.Error("got no error for a picture that cannot be made small enough")
	}
}

// TestCutAnywhere cuts pictures at every byte: none may pass as complete.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	for name, source := range map[string][]byte{
		"JPEG": asJPEG(t, gradient(40, 30), 50),
		"PNG":  asPNG(t, frame(10, 10, 1)),
		"GIF":  asGIF(t, frame(10, 10, 1), frame(10, 10, 2)),
	} {
		for n := range source {
			if _, err := picture.Inspect(source[:n]); err == nil {
				t.Errorf("%s of %d bytes passes when cut at %d", name, len(source), n)
			}
		}
	}
}

func TestStrip(t *testing.T) {
	t.Parallel()
	upright := withJPEGMetadata(asJPEG(t, noise(1800, 900), 90), 1)
	got, err := picture.Strip(upright, 0)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(got.Data, []byte(secret)) || got.Width != 1800 || len(got.Data) < budget {
		t.Errorf("got %+v, want the same pixels without metadata", got.Info)
	}
	if _, err := picture.Strip(withJPEGMetadata(asJPEG(t, gradient(40, 30), 90), 6), 0); err == nil {
		t.Error("got no error for a picture that must be rotated")
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		budget int
		sizes  []int
		want   []int
	}{
		{500, []int{900}, []int{500}},
		{500, []int{100}, []int{100}},
		{500, []int{900, 900}, []int{250, 250}},
		{500, []int{900, 100}, []int{400, 100}},
		{600, []int{900, 50, 160, 900}, []int{195, 50, 160, 195}},
		{600, []int{900, 50, 190, 900}, []int{183, 50, 183, 183}},
		{500, nil, []int{}},
	} {
		got := picture.Share(tt.budget, tt.sizes)
		if !slices.Equal(got, tt.want) {
			t.Errorf("Share(%d, %v) = %v, want %v", tt.budget, tt.sizes, got, tt.want)
		}
	}
}

// FuzzFit checks that nothing panics, and that what fits is a picture without metadata.
func FuzzFit(f *testing.F) {
	f.Add(withJPEGMetadata(asJPEG(f, gradient(40, 30), 50), 6))
	f.Add(withPNGMetadata(f, asPNG(f, gradient(40, 30)), 3))
	f.Add(withGIFMetadata(asGIF(f, frame(10, 10, 1), frame(10, 10, 2))))
	f.Add([]byte("RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		const memory = 8 << 20
		got, err := picture.Fit(data, picture.Options{Budget: 50_000, Memory: memory})
		if err != nil {
			var violated *picture.Error
			if !errors.As(err, &violated) {
				t.Fatalf("got error %v, want a *picture.Error", err)
			}
			return
		}
		if len(got.Data) > 50_000 {
			t.Fatalf("got %d bytes", len(got.Data))
		}
		if _, _, err := image.Decode(bytes.NewReader(got.Data)); err != nil {
			t.Fatalf("the result cannot be decoded: %v", err)
		}
		again, err := picture.Fit(got.Data, picture.Options{Budget: 50_000})
		if err != nil || !bytes.Equal(again.Data, got.Data) {
			t.Fatalf("fitting it again: %v, %v", again.Changed, err)
		}
	})
}

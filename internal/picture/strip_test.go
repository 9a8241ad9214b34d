package picture_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/postcard-mms/postcard/internal/picture"
)

// tiny files, written byte by byte, so that no encoder changes them.
func tinyJPEG() []byte { return flatJPEG(0.0001, 0xc0, 3, false) }

func tinyPNG() []byte {
	const zlibOfOneBlackPixel = "\x78\x01\x01\x02\x00\xfd\xff\x00\x00\x00\x02\x00\x01"
	return slices.Concat([]byte("\x89PNG\r\n\x1a\n"),
		pngChunk("IHDR", []byte{0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0}),
		pngChunk("IDAT", []byte(zlibOfOneBlackPixel)), pngChunk("IEND", nil))
}

const tinyGIF = "GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b"

// TestStripped has the SHA-256 of what is left of small files, so that no change of the
// strippers goes unnoticed. A file without metadata stays as it is.
func TestStripped(t *testing.T) {
	t.Parallel()
	const (
		afterGIFHeader = 13 + 6
		jpegHash       = "4bdf1276f8f8966eaf7e5074c5d502051499eef5597222741b3d99a3f9feea8e"
		pngHash        = "686593006ba0db476865efa25ff90ccde940772284aa95d79ebef425e65394c7"
		gifHash        = "6adc3d4c1056996e4e8b765a62604c78b1f867cceb3b15d0b9bedb7c4857f992"
	)
	jpegBefore, jpegAfter := tinyJPEG()[:2], tinyJPEG()[2:]
	pngBefore, pngAfter := tinyPNG()[:33], tinyPNG()[33:]
	gifBefore, gifAfter := []byte(tinyGIF[:afterGIFHeader]), []byte(tinyGIF[afterGIFHeader:])
	block := func(start string) []byte { return append(append([]byte(start), byte(len(secret))), secret+"\x00"...) }
	exif := append([]byte("Exif\x00\x00"), tiff(1)...)
	for _, tt := range []struct {
		name          string
		before, after []byte
		metadata      []byte
		want          string
	}{
		{"JPEG", jpegBefore, jpegAfter, nil, jpegHash},
		{"JPEG, EXIF twice", jpegBefore, jpegAfter, slices.Concat(jpegSegment(0xe1, exif), jpegSegment(0xe1, exif)), jpegHash},
		{"JPEG, XMP", jpegBefore, jpegAfter, jpegSegment(0xe1, []byte("http://ns.adobe.com/xap/1.0/\x00"+secret)), jpegHash},
		{"JPEG, extended XMP", jpegBefore, jpegAfter, jpegSegment(0xe1, []byte("http://ns.adobe.com/xmp/extension/\x00"+secret)), jpegHash},
		{"JPEG, IPTC", jpegBefore, jpegAfter, jpegSegment(0xed, []byte("Photoshop 3.0\x008BIM\x04\x04"+secret)), jpegHash},
		{"JPEG, several pictures", jpegBefore, slices.Concat(jpegAfter, tinyJPEG(), []byte(secret)), jpegSegment(0xe2, []byte("MPF\x00"+secret)), jpegHash},
		{"JPEG, JFIF extension", jpegBefore, jpegAfter, jpegSegment(0xe0, []byte("JFXX\x00\x10"+secret)), jpegHash},
		{"JPEG, other Adobe segment", jpegBefore, jpegAfter, jpegSegment(0xee, []byte(secret)), jpegHash},
		{"JPEG, damaged color profile", jpegBefore, jpegAfter, jpegSegment(0xe2, []byte("ICC_PROFILE\x00\x01\x01"+secret)), jpegHash},
		{"JPEG, comments and fill bytes", jpegBefore, jpegAfter, slices.Concat([]byte{0xff, 0xff}, jpegSegment(0xfe, []byte(secret)), jpegSegment(0xfe, []byte("<?php echo 1;"))), jpegHash},
		{"JPEG, web page behind it", jpegBefore, append(slices.Clone(jpegAfter), "<html><script>alert(1)</script>"...), nil, jpegHash},
		{"JPEG, all other segments", jpegBefore, jpegAfter, everySegment(), jpegHash},
		{"PNG", pngBefore, pngAfter, nil, pngHash},
		{"PNG, texts", pngBefore, pngAfter, slices.Concat(pngChunk("tEXt", []byte("a\x00"+secret)), pngChunk("zTXt", []byte("a\x00\x00"+secret)), pngChunk("iTXt", []byte("a\x00\x00\x00\x00\x00"+secret))), pngHash},
		{"PNG, EXIF and time", pngBefore, pngAfter, slices.Concat(pngChunk("eXIf", tiff(1)), pngChunk("tIME", []byte{7, 234, 11, 27, 9, 0, 0})), pngHash},
		{"PNG, unknown chunk", pngBefore, pngAfter, pngChunk("prVt", []byte(secret)), pngHash},
		{"PNG, long chunks", pngBefore, pngAfter, slices.Concat(pngChunk("pHYs", []byte(secret)), pngChunk("gAMA", []byte(secret)), pngChunk("sRGB", []byte(secret))), pngHash},
		{"PNG, damaged color profile", pngBefore, pngAfter, pngChunk("iCCP", []byte("a\x00\x00"+secret)), pngHash},
		{"PNG, animated", pngBefore, pngAfter, slices.Concat(pngChunk("acTL", []byte{0, 0, 0, 1, 0, 0, 0, 0}), pngChunk("fdAT", []byte(secret))), pngHash},
		{"PNG, behind the end", pngBefore, append(slices.Clone(pngAfter), secret...), nil, pngHash},
		{"GIF", gifBefore, gifAfter, nil, gifHash},
		{"GIF, comment", gifBefore, gifAfter, block("\x21\xfe"), gifHash},
		{"GIF, application", gifBefore, gifAfter, block("\x21\xff\x0bXMP DataXMP"), gifHash},
		{"GIF, long repetition", gifBefore, gifAfter, block("\x21\xff\x0bNETSCAPE2.0"), gifHash},
		{"GIF, text", gifBefore, gifAfter, block("\x21\x01\x0c............"), gifHash},
		{"GIF, behind the end", gifBefore, append(slices.Clone(gifAfter), secret...), nil, gifHash},
	} {
		got, err := picture.Strip(slices.Concat(tt.before, tt.metadata, tt.after), 0)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if sum := sha256.Sum256(got.Data); hex.EncodeToString(sum[:]) != tt.want {
			t.Errorf("%s: got %x (%.200q), want %s", tt.name, sum, got.Data, tt.want)
		}
	}
}

// everySegment has a secret in each application segment that is not JFIF's, Adobe's or a
// color profile.
func everySegment() []byte {
	var all []byte
	for marker := byte(0xe0); marker <= 0xef; marker++ {
		all = append(all, jpegSegment(marker, []byte(secret))...)
	}
	return all
}

// TestDamagedOnPurpose has files that decoders of phones would read differently, or that
// take far more work or memory than their bytes suggest.
func TestDamagedOnPurpose(t *testing.T) {
	t.Parallel()
	jpegOf := func(segments ...[]byte) []byte {
		return slices.Concat(tinyJPEG()[:2], slices.Concat(segments...), tinyJPEG()[2:])
	}
	scan := []byte{0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0}
	progressive := flatJPEG(0.0001, 0xc2, 3, false)
	manyScans := slices.Concat(progressive[:len(progressive)-2], bytes.Repeat(scan, 5000), progressive[len(progressive)-2:])
	bits12 := bytes.Replace(tinyJPEG(), []byte{0xff, 0xc0, 0, 17, 8}, []byte{0xff, 0xc0, 0, 17, 12}, 1)
	arithmetic := bytes.Replace(tinyJPEG(), []byte{0xff, 0xc0}, []byte{0xff, 0xc9}, 1)
	canvas := []byte("RIFF\x36\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x10\x00\x00\x00\xff\x3f\x00\xff\x3f\x00ALPH\x02\x00\x00\x00\x01\x00VP8 \x0a\x00\x00\x00\x00\x00\x00\x9d\x01\x2a\x01\x00\x01\x00")
	frames := slices.Concat([]byte(tinyGIF[:19]), bytes.Repeat([]byte("\x2c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x01\x00\x00"), 5000), []byte{0x3b})
	for _, tt := range []struct {
		name   string
		source []byte
		want   picture.Rule
	}{
		{"restart marker between segments", jpegOf([]byte{0xff, 0xd0, 0, 6, 1, 2, 3, 4}), picture.RuleDamaged},
		{"second start", jpegOf([]byte{0xff, 0xd8, 0, 6, 1, 2, 3, 4}), picture.RuleDamaged},
		{"unknown segment", jpegOf(jpegSegment(0xf0, []byte(secret))), picture.RuleDamaged},
		{"reserved segment", jpegOf(jpegSegment(0x02, []byte(secret))), picture.RuleDamaged},
		{"bytes between segments", jpegOf(jpegSegment(0xfe, nil), []byte(secret)), picture.RuleDamaged},
		{"5,000 scans", manyScans, picture.RuleDamaged},
		{"12 bits", bits12, picture.RuleType},
		{"arithmetic coding", arithmetic, picture.RuleType},
		{"WebP with a canvas of 268 megapixels", canvas, picture.RuleDamaged},
		{"GIF of 5,000 frames without a size", frames, picture.RuleDamaged},
		{"GIF of one frame without a size", slices.Concat([]byte(tinyGIF[:19]), []byte("\x2c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3b")), picture.RuleDamaged},
	} {
		_, err := picture.Fit(tt.source, picture.Options{Budget: budget, Memory: memoryLimit})
		var violated *picture.Error
		if !errors.As(err, &violated) || violated.Rule != tt.want {
			t.Errorf("%s: got error %v, want rule %s", tt.name, err, tt.want)
		}
	}
}

// TestAnyPicture draws pictures of any kind and size, and checks what must hold for each.
func TestAnyPicture(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		width, height := rapid.IntRange(1, 900).Draw(t, "width"), rapid.IntRange(1, 900).Draw(t, "height")
		kind := rapid.SampledFrom([]string{"JPEG", "gray JPEG", "PNG", "transparent PNG", "palette PNG", "GIF", "animation"}).Draw(t, "kind")
		turned := uint16(rapid.IntRange(0, 9).Draw(t, "orientation"))
		most := rapid.SampledFrom([]int{60_000, 150_000, budget}).Draw(t, "budget")
		source := anyPicture(t, kind, width, height, turned)
		before, err := picture.Inspect(source)
		if err != nil {
			t.Fatal(err)
		}
		got, err := picture.Fit(source, picture.Options{Budget: most, Memory: memoryLimit, FirstFrame: true})
		if err != nil {
			t.Fatal(err)
		}
		wantFitted(t, before, got, most)
		if got.Width < 16 || got.Height < 16 || kind == "gray JPEG" {
			return
		}
		want := "rgbw"
		if before.Type != picture.GIF && turned <= 8 {
			want = turnedQuarters[turned]
		}
		if quarters := quartersOf(t, got.Data); quarters != want {
			t.Fatalf("got quarters %s, want %s", quarters, want)
		}
	})
}

// anyPicture has a picture of a kind whose quarters differ, with metadata.
func anyPicture(t rapid.TB, kind string, width, height int, turned uint16) []byte {
	pixels := gradient(width, height)
	quarters := image.NewPaletted(pixels.Rect, color.Palette{color.Transparent, color.RGBA{200, 0, 0, 255}, color.RGBA{0, 200, 0, 255}, color.RGBA{0, 0, 200, 255}, color.White})
	for i := range quarters.Pix {
		right, bottom := 2*(i%width)/width, 2*(i/width)/height
		quarters.Pix[i] = byte(1 + right + 2*bottom)
	}
	switch kind {
	case "JPEG":
		return withJPEGMetadata(asJPEG(t, pixels, 90), turned)
	case "gray JPEG":
		return withJPEGMetadata(asJPEG(t, image.NewGray(pixels.Rect), 90), turned)
	case "transparent PNG":
		pixels.SetRGBA(width/2, height/2, color.RGBA{})
		return withPNGMetadata(t, asPNG(t, pixels), turned)
	case "palette PNG":
		return withPNGMetadata(t, asPNG(t, quarters), turned)
	case "GIF":
		return withGIFMetadata(asGIF(t, quarters))
	case "animation":
		return withGIFMetadata(asGIF(t, quarters, quarters))
	default:
		return withPNGMetadata(t, asPNG(t, pixels), turned)
	}
}

// turnedQuarters are the quarters of a picture after each orientation.
var turnedQuarters = []string{"rgbw", "rgbw", "grwb", "wbgr", "bwrg", "rbgw", "brwg", "wgbr", "gwrb"}

// quartersOf names the colors of the four quarters of a picture: red, green, blue, white.
func quartersOf(t rapid.TB, data []byte) string {
	t.Helper()
	pixels, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	width, height := pixels.Bounds().Dx(), pixels.Bounds().Dy()
	var quarters strings.Builder
	for _, y := range []int{height / 4, height * 3 / 4} {
		for _, x := range []int{width / 4, width * 3 / 4} {
			r, g, b, _ := pixels.At(x, y).RGBA()
			switch {
			case r > 0x8000 && g > 0x8000:
				quarters.WriteByte('w')
			case r > 0x8000:
				quarters.WriteByte('r')
			case g > 0x8000:
				quarters.WriteByte('g')
			case b > 0x8000:
				quarters.WriteByte('b')
			}
		}
	}
	return quarters.String()
}

// FuzzStrip checks that what is stripped is a picture to which nothing is left to do, and
// that its preview is small.
func FuzzStrip(f *testing.F) {
	f.Add(withJPEGMetadata(tinyJPEG(), 1))
	f.Add(withPNGMetadata(f, tinyPNG(), 1))
	f.Add(withPNGMetadata(f, asPNG(f, frame(3, 2, 1)), 1))
	f.Add(withGIFMetadata([]byte(tinyGIF)))
	f.Add(slices.Concat(tinyJPEG()[:2], everySegment(), tinyJPEG()[2:]))
	f.Fuzz(func(t *testing.T, data []byte) {
		const memory, side = 8 << 20, 20
		data = bytes.Clone(data) // a fuzz test must not change its input
		repairChecksums(data)
		got, err := picture.Strip(data, memory)
		if err != nil {
			return
		}
		again, err := picture.Strip(got.Data, memory)
		if err != nil || !bytes.Equal(again.Data, got.Data) || len(again.Changed) > 0 {
			t.Fatalf("stripping it again changed %v (error %v), want nothing", again.Changed, err)
		}
		small, err := picture.Preview(got.Data, side, memory)
		if err != nil || max(small.Width, small.Height) > side {
			t.Fatalf("got a preview of %d × %d, error %v", small.Width, small.Height, err)
		}
	})
}

// repairChecksums makes a PNG file that was changed at random pass as one.
func repairChecksums(data []byte) {
	const signature, overhead = 8, 12
	if !bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")) {
		return
	}
	for rest := data[signature:]; len(rest) >= overhead; {
		size := uint64(binary.BigEndian.Uint32(rest)) + overhead
		if size > uint64(len(rest)) {
			return
		}
		binary.BigEndian.PutUint32(rest[size-4:], crc32.ChecksumIEEE(rest[4:size-4]))
		rest = rest[size:]
	}
}

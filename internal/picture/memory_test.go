package picture_test

import (
	"bufio"
	"bytes"
	"compress/lzw"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/picture"
)

// memoryFile names the file that a child process fits.
const memoryFile = "POSTCARD_TEST_PICTURE"

func TestMain(m *testing.M) {
	if path := os.Getenv(memoryFile); path != "" {
		if err := fitAndReport(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fitAndReport fits a picture twice, like a process that serves many, and prints its peak
// memory in bytes.
func fitAndReport(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	const small = 60_000 // bytes, so that nothing fits as it is
	for range 2 {
		if _, err := picture.Fit(data, picture.Options{Budget: small, Memory: memoryLimit, FirstFrame: true}); err != nil {
			return err
		}
	}
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return err
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), "VmHWM:"); found {
			kilobytes, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(value, "kB")))
			fmt.Println(kilobytes * 1024)
			return err
		}
	}
	return errors.New("there is no VmHWM in /proc/self/status")
}

const memoryLimit = 400 << 20

// TestMemory fits the pictures that take the most memory in a process of its own. The peak
// stays below the limit and 100 MiB.
func TestMemory(t *testing.T) {
	const most = memoryLimit + 100<<20
	program := buildWithoutRace(t)
	for name, source := range map[string]func(fraction float64) []byte{
		"baseline JPEG 4:4:4":    func(f float64) []byte { return flatJPEG(f, 0xc0, 3, false) },
		"progressive JPEG 4:4:4": func(f float64) []byte { return flatJPEG(f, 0xc2, 3, false) },
		"CMYK JPEG":              func(f float64) []byte { return flatJPEG(f, 0xc0, 4, true) },
		"RGB JPEG":               func(f float64) []byte { return flatJPEG(f, 0xc0, 3, true) },
		"PNG of 16 bits":         func(f float64) []byte { return flatPNG(t, f, 16, 6, 0, 8) },
		"interlaced PNG":         func(f float64) []byte { return flatPNG(t, f, 8, 6, 1, 4) },
		"palette PNG":            func(f float64) []byte { return flatPNG(t, f, 8, 3, 0, 1) },
		"lossless WebP":          flatWebP,
		"GIF of 300 frames":      func(float64) []byte { return flatGIF(t, 300, 408, 408) },
		"GIF":                    func(float64) []byte { return flatGIF(t, 1, 7000, 7000) },
	} {
		t.Run(name, func(t *testing.T) {
			fraction, data := largestThatPasses(t, source)
			path := t.TempDir() + "/picture"
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			child := exec.CommandContext(t.Context(), program)
			child.Env = append(os.Environ(), memoryFile+"="+path)
			out, err := child.CombinedOutput()
			peak, malformed := strconv.Atoi(strings.TrimSpace(string(out)))
			if err != nil || malformed != nil {
				t.Fatalf("the process that fits the picture: %v: %s", err, out)
			}
			t.Logf("%.1f megapixels took %d MiB", fraction*50, peak>>20)
			if peak > most {
				t.Errorf("%.1f megapixels took %d MiB, want at most %d", fraction*50, peak>>20, most>>20)
			}
		})
	}
}

// buildWithoutRace builds the tests of this package without the race detector, whose own
// memory would be measured too: it keeps a shadow of the program's.
func buildWithoutRace(t *testing.T) string {
	t.Helper()
	program := t.TempDir() + "/picture.test"
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("building the program to measure: %v: %s", err, out)
	}
	return program
}

// largestThatPasses makes a picture of 50 megapixels, or of as many as its refusal says.
func largestThatPasses(t *testing.T, source func(fraction float64) []byte) (float64, []byte) {
	t.Helper()
	data := source(1)
	err := pass(data)
	if err == nil {
		return 1, data
	}
	var allowed, is float64
	if _, scanned := fmt.Sscanf(err.Error(), "the picture must have at most %f megapixels when saved like this; it has %f", &allowed, &is); scanned != nil {
		t.Fatal(err)
	}
	fraction := (allowed - 0.05) / is
	data = source(fraction)
	if err := pass(data); err != nil {
		t.Fatalf("a picture of %.1f megapixels, as the refusal says: %v", allowed, err)
	}
	return fraction, data
}

// pass returns the refusal of a picture. Strip knows it without decoding, but takes no WebP.
func pass(data []byte) error {
	if bytes.HasPrefix(data, []byte("RIFF")) {
		_, err := picture.Fit(data, picture.Options{Budget: 500_000, Memory: memoryLimit})
		return err
	}
	_, err := picture.Strip(data, memoryLimit)
	return err
}

// sides50 returns the sides of a fraction of 50 megapixels, 4:3.
func sides50(fraction float64) (width, height int) {
	for width = 8160; ; width -= 8 {
		if height = width * 3 / 4; float64(width*height) <= fraction*50e6 {
			return width, height
		}
	}
}

// flatJPEG writes a JPEG file of one color without the work of encoding one: each block is
// one bit for "no difference" and one for "no more coefficients".
func flatJPEG(fraction float64, frameHeader byte, components int, converted bool) []byte {
	width, height := sides50(fraction)
	table := func(class byte) []byte { // one code, 0, for the value 0
		return append([]byte{class, 1}, make([]byte, 16)...)
	}
	frame := binary.BigEndian.AppendUint16([]byte{8}, uint16(height))
	frame = append(binary.BigEndian.AppendUint16(frame, uint16(width)), byte(components))
	scan := []byte{byte(components)}
	for i := range components {
		frame = append(frame, byte(i+1), 0x11, 0)
		scan = append(scan, byte(i+1), 0)
	}
	last, bits := byte(63), 2
	if frameHeader == 0xc2 {
		last, bits = 0, 1
	}
	scan = append(scan, 0, last, 0)
	blocks := ((width + 7) / 8) * ((height + 7) / 8) * components
	file := [][]byte{{0xff, 0xd8}}
	if converted {
		file = append(file, jpegSegment(0xee, []byte("Adobe\x00\x64\x00\x00\x00\x00\x00")))
	}
	file = append(file,
		jpegSegment(0xdb, append([]byte{0}, bytes.Repeat([]byte{1}, 64)...)),
		jpegSegment(frameHeader, frame), jpegSegment(0xc4, table(0x00)), jpegSegment(0xc4, table(0x10)),
		jpegSegment(0xda, scan), make([]byte, (blocks*bits+7)/8), []byte{0xff, 0xd9})
	return slices.Concat(file...)
}

func flatPNG(t *testing.T, fraction float64, depth, color, interlaced byte, bytesPerPixel int) []byte {
	t.Helper()
	width, height := sides50(fraction)
	header := binary.BigEndian.AppendUint32(nil, uint32(width))
	header = append(binary.BigEndian.AppendUint32(header, uint32(height)), depth, color, 0, 0, interlaced)
	var idat bytes.Buffer
	compressed, err := zlib.NewWriterLevel(&idat, zlib.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	size := width*height*bytesPerPixel + height
	if interlaced == 1 {
		size = 0
		for _, p := range [][4]int{{8, 8, 0, 0}, {8, 8, 4, 0}, {4, 8, 0, 4}, {4, 4, 2, 0}, {2, 4, 0, 2}, {2, 2, 1, 0}, {1, 2, 0, 1}} {
			across, down := (width-p[2]+p[0]-1)/p[0], (height-p[3]+p[1]-1)/p[1]
			size += down * (across*bytesPerPixel + 1)
		}
	}
	for row := make([]byte, 1<<20); size > 0; size -= len(row) {
		if _, err := compressed.Write(row[:min(size, len(row))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := compressed.Close(); err != nil {
		t.Fatal(err)
	}
	file := [][]byte{[]byte("\x89PNG\r\n\x1a\n"), pngChunk("IHDR", header)}
	if color == 3 {
		file = append(file, pngChunk("PLTE", []byte{1, 2, 3}))
	}
	return slices.Concat(append(file, pngChunk("IDAT", idat.Bytes()), pngChunk("IEND", nil))...)
}

func flatGIF(t *testing.T, frames, width, height int) []byte {
	t.Helper()
	size := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, uint16(width)), uint16(height))
	file := slices.Concat([]byte("GIF89a"), size, []byte{0x80, 0, 0, 1, 2, 3, 4, 5, 6})
	var pixels bytes.Buffer
	compressed := lzw.NewWriter(&pixels, lzw.LSB, 2)
	if _, err := compressed.Write(make([]byte, width*height)); err != nil {
		t.Fatal(err)
	}
	if err := compressed.Close(); err != nil {
		t.Fatal(err)
	}
	image := slices.Concat([]byte{0x2c, 0, 0, 0, 0}, size, []byte{0, 2})
	for part := range slices.Chunk(pixels.Bytes(), 255) {
		image = append(append(image, byte(len(part))), part...)
	}
	image = append(image, 0)
	for range frames {
		file = append(file, image...)
	}
	return append(file, 0x3b)
}

// flatWebP writes a lossless WebP file of one color, in which no pixel takes a bit: each of the
// five codes has a single symbol.
func flatWebP(fraction float64) []byte {
	width, height := sides50(fraction)
	var bits uint64
	used := 0
	add := func(value uint64, n int) { bits, used = bits|value<<used, used+n }
	add(uint64(width-1), 14)
	add(uint64(height-1), 14)
	add(0, 1+3)   // neither transparency nor another version
	add(0, 1+1+1) // no transforms, no cache of colors, one group of codes
	for range 5 {
		add(1, 3) // a code with one symbol, which is 0
		add(0, 1)
	}
	body := append([]byte{0x2f}, binary.LittleEndian.AppendUint64(nil, bits)...)
	chunk := append(binary.LittleEndian.AppendUint32([]byte("WEBPVP8L"), uint32(len(body))), body...)
	if len(body)%2 == 1 {
		chunk = append(chunk, 0)
	}
	return append(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(chunk))), chunk...)
}

package picture

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
)

const pngSignature = "\x89PNG\r\n\x1a\n"

// pngKept are the chunks that change how a picture looks, and the most bytes that they can
// have (PNG specification, third edition, 5.6 and 11); all others are metadata or animation.
var pngKept = map[string]int{
	"IHDR": 13, "PLTE": 3 * 256, "IDAT": math.MaxInt32, "IEND": 0, "tRNS": 256, "gAMA": 4, "cHRM": 32,
	"sRGB": 1, "cICP": 4, "sBIT": 4, "bKGD": 6, "pHYs": 9,
}

// parsePNG takes a PNG file apart and leaves out its metadata: text, EXIF, the time,
// private chunks, the frames of an animation, and what follows the end.
func parsePNG(data []byte) (*parsed, error) {
	p := &parsed{kind: PNG, stripped: append(make([]byte, 0, len(data)), pngSignature...)}
	seen := map[string]bool{}
	for pos := len(pngSignature); ; {
		chunk, err := pngChunk(data, pos)
		if err != nil {
			return nil, err
		}
		name, body := string(chunk[4:8]), chunk[8:len(chunk)-4]
		switch name {
		case "IHDR":
			if err := p.readIHDR(body); err != nil {
				return nil, err
			}
		case "iCCP":
			if profile := cleanProfile(inflateProfile(body)); profile != nil && !seen[name] {
				p.icc = rgbProfile(profile)
				p.stripped = append(p.stripped, profileChunk(profile)...)
			}
		case "eXIf":
			p.orientation, p.location = readEXIF(body)
		case "tEXt", "iTXt":
			p.location = p.location || saysLocation(body)
		}
		if p.frames == 0 {
			return nil, damaged("its PNG header is missing")
		}
		if most, kept := pngKept[name]; kept && len(body) <= most && (!seen[name] || name == "IDAT") {
			p.stripped = append(p.stripped, chunk...)
		}
		seen[name] = true
		pos += len(chunk)
		if name == "IEND" {
			p.trailer = data[pos:]
			return p, nil
		}
	}
}

// pngChunk returns the chunk at pos: length, name, body and checksum.
func pngChunk(data []byte, pos int) ([]byte, error) {
	const overhead = 12
	if pos+overhead > len(data) {
		return nil, errTruncated
	}
	length := int64(binary.BigEndian.Uint32(data[pos:]))
	if length > math.MaxInt32 || length+overhead > int64(len(data)-pos) {
		return nil, errTruncated
	}
	chunk := data[pos : pos+overhead+int(length)]
	checked, sum := chunk[4:len(chunk)-4], chunk[len(chunk)-4:]
	if crc32.ChecksumIEEE(checked) != binary.BigEndian.Uint32(sum) {
		return nil, damaged("a checksum of the PNG file is wrong")
	}
	return slices.Clip(chunk), nil
}

// profileChunk returns a color profile as a chunk.
func profileChunk(profile []byte) []byte {
	var out bytes.Buffer
	out.WriteString("\x00\x00\x00\x00iCCPicc\x00\x00")
	compressed := zlib.NewWriter(&out)
	_, _ = compressed.Write(profile) // a buffer never fails
	_ = compressed.Close()
	chunk := out.Bytes()
	binary.BigEndian.PutUint32(chunk, uint32(len(chunk)-8))
	return binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(chunk[4:]))
}

// readIHDR reads the size, and what decoding takes: Go decodes to 1, 2, 4 or 8 bytes a
// pixel, and an interlaced picture also in parts, the largest of which has half of the
// pixels.
func (p *parsed) readIHDR(body []byte) error {
	const palette, interlaced = 3, 1
	if p.frames > 0 || len(body) != 13 {
		return damaged("its PNG header is wrong")
	}
	width, height := binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:])
	if width > math.MaxInt32 || height > math.MaxInt32 {
		return damaged("its PNG header is wrong")
	}
	p.frames, p.width, p.height = 1, int(width), int(height)
	depth, color := body[8], body[9]
	perPixel := int64(4)
	switch {
	case color == palette:
		perPixel = 1
	case depth == 16:
		perPixel = 8
	}
	p.memory = perPixel * int64(width) * int64(height)
	if body[12] == interlaced {
		p.memory += p.memory / 2
	}
	return nil
}

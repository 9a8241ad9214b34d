package picture

import (
	"bytes"
	"encoding/binary"
)

// parseWebP takes a WebP file apart (RFC 9649). Fit always writes another type, so
// there is no stripped copy.
func parseWebP(data []byte) (*parsed, error) {
	const fileHeader, chunkHeader = 12, 8
	end := chunkHeader + int64(binary.LittleEndian.Uint32(data[4:]))
	if end > int64(len(data)) {
		return nil, errTruncated
	}
	p := &parsed{kind: WebP, trailer: data[end:]}
	for rest := data[fileHeader:max(end, fileHeader)]; len(rest) > 0; {
		if len(rest) < chunkHeader {
			return nil, errTruncated
		}
		length := int64(binary.LittleEndian.Uint32(rest[4:]))
		padded := chunkHeader + length + length%2
		if chunkHeader+length > int64(len(rest)) {
			return nil, errTruncated
		}
		if err := p.readWebPChunk(string(rest[:4]), rest[chunkHeader:chunkHeader+length]); err != nil {
			return nil, err
		}
		rest = rest[min(padded, int64(len(rest))):]
	}
	return p, nil
}

// Memory for the Huffman trees of a lossless WebP picture: x/image/webp reads at most this
// many groups, and a tile of 4 × 4 pixels chooses one.
const (
	webpGroups    = 2600
	webpGroupSize = 56_000 // bytes, with the largest alphabets
)

// readWebPChunk reads the size of the pixels, and what decoding takes: 1.5 bytes a pixel
// for lossy pictures, and 10 for their transparency, which is a lossless picture that
// becomes a byte a pixel; 4 for lossless ones and 4 while decoding. The canvas that the
// file announces must be as large, because the decoder trusts it.
func (p *parsed) readWebPChunk(name string, body []byte) error {
	const lossyHeader, losslessHeader, canvasHeader = 10, 5, 10
	switch {
	case name == "VP8X":
		if p.width > 0 || len(body) != canvasHeader {
			return damaged("its WebP header is wrong")
		}
		p.width = 1 + int(body[4]) + int(body[5])<<8 + int(body[6])<<16
		p.height = 1 + int(body[7]) + int(body[8])<<8 + int(body[9])<<16
	case name == "ANIM" || name == "ANMF":
		return violation(RuleType, "must not be an animated WebP picture. Export it as GIF")
	case name == "EXIF":
		p.orientation, p.location = readEXIF(bytes.TrimPrefix(body, []byte(exifHeader)))
	case name == "XMP ":
		p.location = p.location || saysLocation(body)
	case name == "ICCP":
		p.icc = rgbProfile(cleanProfile(body))
	case name == "ALPH":
		p.fixedMemory = webpTrees(p.width, p.height)
		p.memory = 10 * int64(p.width) * int64(p.height)
	case name == "VP8 " || name == "VP8L":
		if p.frames > 0 {
			return damaged("it holds two pictures")
		}
		canvasWidth, canvasHeight := p.width, p.height
		if name == "VP8 " {
			if len(body) < lossyHeader {
				return errTruncated
			}
			p.width = int(binary.LittleEndian.Uint16(body[6:]) & 0x3fff)
			p.height = int(binary.LittleEndian.Uint16(body[8:]) & 0x3fff)
			p.memory += 2 * int64(p.width) * int64(p.height)
		} else {
			if len(body) < losslessHeader {
				return errTruncated
			}
			bits := binary.LittleEndian.Uint32(body[1:])
			p.width, p.height = int(bits&0x3fff)+1, int(bits>>14&0x3fff)+1
			p.memory += 8 * int64(p.width) * int64(p.height)
			p.fixedMemory = webpTrees(p.width, p.height)
		}
		if canvasWidth > 0 && (canvasWidth != p.width || canvasHeight != p.height) {
			return damaged("it has two sizes")
		}
		p.frames = 1
	}
	return nil
}

func webpTrees(width, height int) int64 {
	tiles := int64(width+3) / 4 * (int64(height+3) / 4)
	return webpGroupSize * min(tiles, webpGroups)
}

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

// readWebPChunk reads the size of the pixels themselves, which is what decoding takes,
// and not the canvas that the file announces: 1.5 bytes a pixel for lossy pictures and
// 1 for their transparency, 4 for lossless ones and 4 while decoding.
func (p *parsed) readWebPChunk(name string, body []byte) error {
	const lossyHeader, losslessHeader = 10, 5
	switch {
	case name == "ANIM" || name == "ANMF":
		return violation(RuleType, "must not be an animated WebP picture. Export it as GIF")
	case name == "EXIF":
		p.orientation, p.location = readEXIF(bytes.TrimPrefix(body, []byte(exifHeader)))
	case name == "XMP ":
		p.location = p.location || saysLocation(body)
	case name == "ICCP":
		p.icc = rgbProfile(body)
	case name == "VP8 " || name == "VP8L":
		if p.frames > 0 {
			return damaged("it holds two pictures")
		}
		p.frames = 1
		if name == "VP8 " {
			if len(body) < lossyHeader {
				return errTruncated
			}
			p.width = int(binary.LittleEndian.Uint16(body[6:]) & 0x3fff)
			p.height = int(binary.LittleEndian.Uint16(body[8:]) & 0x3fff)
			p.memory = 3 * int64(p.width) * int64(p.height)
			return nil
		}
		if len(body) < losslessHeader {
			return errTruncated
		}
		bits := binary.LittleEndian.Uint32(body[1:])
		p.width, p.height = int(bits&0x3fff)+1, int(bits>>14&0x3fff)+1
		p.memory = 8 * int64(p.width) * int64(p.height)
	}
	return nil
}

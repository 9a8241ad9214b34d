package picture

import (
	"bytes"
	"encoding/binary"
)

// Markers of a JPEG file (ITU T.81, table B.1).
const (
	markerSOF0  = 0xc0
	markerSOF1  = 0xc1
	markerSOF2  = 0xc2
	markerDHT   = 0xc4
	markerJPG   = 0xc8
	markerDAC   = 0xcc
	markerSOF15 = 0xcf
	markerRST0  = 0xd0
	markerRST7  = 0xd7
	markerEOI   = 0xd9
	markerSOS   = 0xda
	markerAPP0  = 0xe0
	markerAPP1  = 0xe1
	markerAPP2  = 0xe2
	markerAPP14 = 0xee
	markerAPP15 = 0xef
	markerCOM   = 0xfe
)

const (
	exifHeader = "Exif\x00\x00"
	iccHeader  = "ICC_PROFILE\x00"
	jfifHeader = "JFIF\x00"
)

// parseJPEG takes a JPEG file apart and leaves out its metadata: application segments
// except the color profile, JFIF's and Adobe's, which change how the picture looks;
// comments; and what follows the end.
func parseJPEG(data []byte) (*parsed, error) {
	p := &parsed{kind: JPEG, stripped: append(make([]byte, 0, len(data)), data[:2]...)}
	profile := iccChunks{}
	for pos := 2; ; {
		marker, start, err := nextMarker(data, pos)
		if err != nil {
			return nil, err
		}
		if marker == markerEOI {
			if p.frames == 0 {
				return nil, damaged("it has no size")
			}
			p.stripped = append(p.stripped, 0xff, markerEOI)
			p.trailer = data[start+2:]
			p.icc = rgbProfile(profile.join())
			return p, nil
		}
		segment, err := jpegSegment(data, start)
		if err != nil {
			return nil, err
		}
		body := segment[4:]
		pos = start + len(segment)
		switch {
		case marker == markerSOS:
			end := scanEnd(data, pos)
			p.stripped = append(append(p.stripped, segment...), data[pos:end]...)
			pos = end
		case marker == markerAPP0 && bytes.HasPrefix(body, []byte(jfifHeader)):
			p.stripped = append(p.stripped, withoutThumbnail(segment)...)
		case marker == markerAPP2 && bytes.HasPrefix(body, []byte(iccHeader)):
			profile.add(body[len(iccHeader):])
			p.stripped = append(p.stripped, segment...)
		case marker == markerAPP1:
			p.readAPP1(body)
		case marker >= markerAPP0 && marker <= markerAPP15 && marker != markerAPP14, marker == markerCOM:
			// metadata
		case isFrameHeader(marker):
			if err := p.readFrameHeader(marker, body); err != nil {
				return nil, err
			}
			p.stripped = append(p.stripped, segment...)
		default:
			p.stripped = append(p.stripped, segment...)
		}
	}
}

// nextMarker returns the marker at pos, and where it starts behind its fill bytes.
func nextMarker(data []byte, pos int) (marker byte, start int, err error) {
	for {
		switch {
		case pos+2 > len(data):
			return 0, 0, errTruncated
		case data[pos] != 0xff:
			return 0, 0, damaged("a JPEG marker is missing")
		case data[pos+1] != 0xff:
			return data[pos+1], pos, nil
		}
		pos++
	}
}

// jpegSegment returns the segment at start: marker, length and body.
func jpegSegment(data []byte, start int) ([]byte, error) {
	if start+4 > len(data) {
		return nil, errTruncated
	}
	length := int(binary.BigEndian.Uint16(data[start+2:]))
	if length < 2 {
		return nil, damaged("a JPEG segment has no length")
	}
	if start+2+length > len(data) {
		return nil, errTruncated
	}
	return data[start : start+2+length], nil
}

// scanEnd returns where the entropy-coded data at pos end: at the next marker that is
// neither an escaped byte nor a restart.
func scanEnd(data []byte, pos int) int {
	for {
		next := bytes.IndexByte(data[pos:], 0xff)
		if next < 0 || pos+next+1 >= len(data) {
			return len(data)
		}
		pos += next
		if following := data[pos+1]; following != 0 && (following < markerRST0 || following > markerRST7) {
			return pos
		}
		pos += 2
	}
}

func isFrameHeader(marker byte) bool {
	return marker >= markerSOF0 && marker <= markerSOF15 && marker != markerDHT && marker != markerJPG && marker != markerDAC
}

// readFrameHeader reads the size, and what decoding takes: a byte for each sample; a
// progressive file also four for each coefficient; and four bytes a pixel where colors
// are converted while decoding.
func (p *parsed) readFrameHeader(marker byte, body []byte) error {
	switch {
	case marker != markerSOF0 && marker != markerSOF1 && marker != markerSOF2:
		return violation(RuleType, "must be a baseline or progressive JPEG; this one is of a rare kind. Export it again")
	case p.frames > 0:
		return damaged("it has two sizes")
	case len(body) < 6 || len(body) < 6+3*int(body[5]):
		return damaged("its JPEG header is too short")
	}
	p.frames = 1
	p.height, p.width = int(binary.BigEndian.Uint16(body[1:])), int(binary.BigEndian.Uint16(body[3:]))
	components := body[6 : 6+3*int(body[5])]
	maxH, maxV := 1, 1
	for c := components; len(c) > 0; c = c[3:] {
		maxH, maxV = max(maxH, int(c[1]>>4)), max(maxV, int(c[1]&15))
	}
	var samples int64
	for c := components; len(c) > 0; c = c[3:] {
		across := (p.width + 8*maxH - 1) / (8 * maxH) * 8 * int(c[1]>>4)
		down := (p.height + 8*maxV - 1) / (8 * maxV) * 8 * int(c[1]&15)
		samples += int64(across) * int64(down)
	}
	p.memory = samples
	if marker == markerSOF2 {
		p.memory += 4 * samples
	}
	if pixels := int64(p.width) * int64(p.height); len(components) > 3 || samples >= 3*pixels {
		p.memory += 4 * pixels // CMYK, or perhaps RGB
	}
	return nil
}

func (p *parsed) readAPP1(body []byte) {
	tiff, isEXIF := bytes.CutPrefix(body, []byte(exifHeader))
	if !isEXIF {
		p.location = p.location || saysLocation(body)
		return
	}
	turned, location := readEXIF(tiff)
	if p.orientation == 0 {
		p.orientation = turned
	}
	p.location = p.location || location
}

// withoutThumbnail returns a JFIF segment without the thumbnail that it may contain.
func withoutThumbnail(segment []byte) []byte {
	const length = 18
	if len(segment) <= length {
		return segment
	}
	short := bytes.Clone(segment[:length])
	binary.BigEndian.PutUint16(short[2:], length-2)
	short[16], short[17] = 0, 0 // the thumbnail's width and height
	return short
}

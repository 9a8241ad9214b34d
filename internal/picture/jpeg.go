package picture

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
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
	markerDQT   = 0xdb
	markerDRI   = 0xdd
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
	adobe      = "Adobe"
)

// maxScans bounds the work of decoding: each scan of a progressive file visits all
// coefficients, even if it has few bytes. Encoders write about 10.
const maxScans = 64

// jpegFile is what parseJPEG has read so far.
type jpegFile struct {
	*parsed
	profile    iccChunks
	profileAt  int // where the profile stood in the stripped picture
	scans      int
	jfif       bool
	adobeRGB   bool // Adobe's segment says that the colors are not converted
	components []byte
}

// parseJPEG takes a JPEG file apart and leaves out its metadata: application segments
// except the color profile, JFIF's and Adobe's, which change how the picture looks;
// comments; and what follows the end.
func parseJPEG(data []byte) (*parsed, error) {
	const soi = 2
	f := &jpegFile{
		parsed:  &parsed{kind: JPEG, stripped: append(make([]byte, 0, len(data)), data[:soi]...)},
		profile: iccChunks{}, profileAt: soi,
	}
	for pos := soi; ; {
		marker, start, err := nextMarker(data, pos)
		if err != nil {
			return nil, err
		}
		if marker == markerEOI {
			f.trailer = data[start+2:]
			return f.finish()
		}
		segment, err := jpegSegment(data, start)
		if err != nil {
			return nil, err
		}
		pos = start + len(segment)
		kept, err := f.readSegment(marker, segment)
		if err != nil {
			return nil, err
		}
		f.stripped = append(f.stripped, kept...)
		if marker == markerSOS {
			end := scanEnd(data, pos)
			f.stripped = append(f.stripped, data[pos:end]...)
			pos = end
		}
	}
}

// readSegment returns what of a segment changes how the picture looks.
func (f *jpegFile) readSegment(marker byte, segment []byte) ([]byte, error) {
	body := segment[4:]
	switch {
	case marker == markerSOS:
		if f.scans++; f.scans > maxScans {
			return nil, damaged("it has more than " + strconv.Itoa(maxScans) + " scans")
		}
		return segment, nil
	case marker == markerDHT, marker == markerDQT, marker == markerDRI:
		return segment, nil
	case isFrameHeader(marker):
		return segment, f.readFrameHeader(marker, body)
	case marker == markerAPP0 && bytes.HasPrefix(body, []byte(jfifHeader)):
		f.jfif = true
		return withoutThumbnail(segment), nil
	case marker == markerAPP2 && bytes.HasPrefix(body, []byte(iccHeader)):
		if len(f.profile) == 0 {
			f.profileAt = len(f.stripped)
		}
		f.profile.add(body[len(iccHeader):])
		return nil, nil
	case marker == markerAPP14 && bytes.HasPrefix(body, []byte(adobe)):
		return f.readAdobe(segment), nil
	case marker == markerAPP1:
		f.readAPP1(body)
		return nil, nil
	case marker >= markerAPP0 && marker <= markerAPP15, marker == markerCOM:
		return nil, nil
	default:
		return nil, damaged("a JPEG segment is of an unknown kind")
	}
}

// finish adds the end, and the color profile where it stood.
func (f *jpegFile) finish() (*parsed, error) {
	if f.frames == 0 {
		return nil, damaged("it has no size")
	}
	profile := cleanProfile(f.profile.join())
	f.icc = rgbProfile(profile)
	f.stripped = slices.Insert(f.stripped, f.profileAt, iccSegments(profile)...)
	f.stripped = append(f.stripped, 0xff, markerEOI)
	namedRGB := string(f.components) == "RGB"
	if !f.jfif && (f.adobeRGB || namedRGB) || len(f.components) > 3 {
		f.memory += 4 * int64(f.width) * int64(f.height) // colors are converted while decoding
	}
	return f.parsed, nil
}

// readAdobe reads how the colors are stored. It returns the segment without what may
// follow.
func (f *jpegFile) readAdobe(segment []byte) []byte {
	const length, transform = 16, 15
	if len(segment) < length {
		return nil
	}
	f.adobeRGB = segment[transform] == 0
	short := bytes.Clone(segment[:length])
	binary.BigEndian.PutUint16(short[2:], length-2)
	return short
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

// readFrameHeader reads the size, and what decoding takes: a byte for each sample, and in a
// progressive file also four for each coefficient.
func (f *jpegFile) readFrameHeader(marker byte, body []byte) error {
	const precision = 8 // bits
	switch {
	case marker != markerSOF0 && marker != markerSOF1 && marker != markerSOF2, len(body) > 0 && body[0] != precision:
		return violation(RuleType, "must be a baseline or progressive JPEG with 8 bits for each color; this one is of a rare kind. Export it again")
	case f.frames > 0:
		return damaged("it has two sizes")
	case len(body) < 6 || len(body) < 6+3*int(body[5]):
		return damaged("its JPEG header is too short")
	}
	f.frames = 1
	f.height, f.width = int(binary.BigEndian.Uint16(body[1:])), int(binary.BigEndian.Uint16(body[3:]))
	components := body[6 : 6+3*int(body[5])]
	maxH, maxV := 1, 1
	for c := components; len(c) > 0; c = c[3:] {
		f.components = append(f.components, c[0])
		maxH, maxV = max(maxH, int(c[1]>>4)), max(maxV, int(c[1]&15))
	}
	for c := components; len(c) > 0; c = c[3:] {
		across := (f.width + 8*maxH - 1) / (8 * maxH) * 8 * int(c[1]>>4)
		down := (f.height + 8*maxV - 1) / (8 * maxV) * 8 * int(c[1]&15)
		f.memory += int64(across) * int64(down)
	}
	if marker == markerSOF2 {
		f.memory += 4 * f.memory
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

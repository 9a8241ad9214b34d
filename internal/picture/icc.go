package picture

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
)

// Bounds of a color profile in bytes: of one that is kept, and of one that is carried over
// to a picture that is encoded anew. Those of cameras and screens have below 4 kB.
const (
	maxProfile        = 1_000_000
	maxCarriedProfile = 65_000
)

// iccChunks collects a color profile from JPEG segments (ICC.1:2022, B.4): a number,
// the count of all, and a part of the profile.
type iccChunks map[byte][]byte

func (c iccChunks) add(body []byte) {
	if len(body) >= 2 {
		c[body[0]] = body[2:]
	}
}

func (c iccChunks) join() []byte {
	var profile []byte
	for i := 1; i <= len(c) && len(profile) <= maxProfile; i++ {
		profile = append(profile, c[byte(i)]...)
	}
	return profile
}

// rgbProfile returns the profile if it describes RGB colors, and else nil: Fit writes
// no others.
func rgbProfile(profile []byte) []byte {
	const colorSpace = 16
	if len(profile) == 0 || len(profile) > maxCarriedProfile || string(profile[colorSpace:colorSpace+4]) != "RGB " {
		return nil
	}
	return profile
}

// inflateProfile reads the body of a PNG chunk iCCP: a name, a zero, the method, and
// the compressed profile. It returns nil if there is none that can be read.
func inflateProfile(body []byte) []byte {
	_, rest, found := bytes.Cut(body, []byte{0})
	if !found || len(rest) < 1 {
		return nil
	}
	compressed, err := zlib.NewReader(bytes.NewReader(rest[1:]))
	if err != nil {
		return nil
	}
	profile, err := io.ReadAll(io.LimitReader(compressed, maxProfile+1))
	if err != nil {
		return nil
	}
	return profile
}

// iccSegments returns a color profile as the segments of a JPEG file.
func iccSegments(profile []byte) []byte {
	const most = 0xffff - 2 - len(iccHeader) - 2
	count := (len(profile) + most - 1) / most
	var out []byte
	for i := range count {
		part := profile[i*most : min((i+1)*most, len(profile))]
		out = append(out, 0xff, markerAPP2)
		out = binary.BigEndian.AppendUint16(out, uint16(2+len(iccHeader)+2+len(part)))
		out = append(out, iccHeader...)
		out = append(out, byte(i+1), byte(count))
		out = append(out, part...)
	}
	return out
}

// withProfile adds a color profile to a JPEG file.
func withProfile(file, profile []byte) []byte {
	if profile == nil {
		return file
	}
	const soi = 2
	segments := iccSegments(profile)
	out := make([]byte, 0, len(file)+len(segments))
	return append(append(append(out, file[:soi]...), segments...), file[soi:]...)
}

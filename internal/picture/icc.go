package picture

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
)

// maxProfile bounds a color profile that is carried over: cameras' have below 4 kB.
const maxProfile = 65_000

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
	for i := 1; i <= len(c); i++ {
		profile = append(profile, c[byte(i)]...)
	}
	return profile
}

// rgbProfile returns the profile if it describes RGB colors, and else nil: Fit writes
// no others.
func rgbProfile(profile []byte) []byte {
	const header, colorSpace = 128, 16
	if len(profile) < header || len(profile) > maxProfile || string(profile[colorSpace:colorSpace+4]) != "RGB " {
		return nil
	}
	return profile
}

// inflateProfile reads the body of a PNG chunk iCCP: a name, a zero, the method, and
// the compressed profile.
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
	return rgbProfile(profile)
}

// withProfile adds a color profile to a JPEG file.
func withProfile(file, profile []byte) []byte {
	if profile == nil {
		return file
	}
	length := 2 + len(iccHeader) + 2 + len(profile)
	out := make([]byte, 0, len(file)+2+length)
	out = append(out, file[:2]...)
	out = append(out, 0xff, markerAPP2)
	out = binary.BigEndian.AppendUint16(out, uint16(length))
	out = append(out, iccHeader...)
	out = append(out, 1, 1) // the first of one
	out = append(out, profile...)
	return append(out, file[2:]...)
}

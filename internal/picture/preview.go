package picture

import (
	"bytes"
	"image/png"
)

const previewQuality = 75

// Preview returns a small version of a picture for lists: its longest side has at most side
// pixels. It is a JPEG, or a PNG if parts are transparent, and the first frame of an
// animation. Working on the picture may take memory bytes; 0 means no limit. The error is an
// *Error.
func Preview(data []byte, side int, memory int64) (Fitted, error) {
	p, err := parse(data)
	if err != nil {
		return Fitted{}, err
	}
	decoded, err := p.decode(data, memory)
	if err != nil {
		return Fitted{}, err
	}
	pixels := turn(scale(decoded, side), p.orientation)
	kind, encoded := PNG, []byte(nil)
	if pixels.Opaque() {
		kind = JPEG
		encoded, err = encodeJPEG(pixels, previewQuality, p.icc)
	} else {
		var out bytes.Buffer
		err = png.Encode(&out, pixels)
		encoded = out.Bytes()
	}
	if err != nil {
		return Fitted{}, err
	}
	return Fitted{Data: encoded, Info: Info{Type: kind, Bytes: len(encoded), Width: pixels.Rect.Dx(), Height: pixels.Rect.Dy(), Frames: 1}}, nil
}

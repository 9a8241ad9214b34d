package picture

import (
	"bytes"
	"encoding/binary"
	"image"
)

// orientation says how to turn a picture before it is shown (EXIF 2.32, tag 0x0112):
// 1 is upright, 0 unknown.
type orientation int

func (o orientation) upright() bool    { return o < 2 || o > 8 }
func (o orientation) swapsSides() bool { return o >= 5 && o <= 8 }

// readEXIF returns what a TIFF structure says of the orientation, and whether it says
// where the picture was taken. A damaged structure says nothing.
func readEXIF(tiff []byte) (turned orientation, location bool) {
	const (
		tagOrientation = 0x0112
		tagGPS         = 0x8825
		entrySize      = 12
	)
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(tiff, []byte("II*\x00")):
		order = binary.LittleEndian
	case bytes.HasPrefix(tiff, []byte("MM\x00*")):
		order = binary.BigEndian
	default:
		return 0, false
	}
	if len(tiff) < 8 {
		return 0, false
	}
	start := int64(order.Uint32(tiff[4:]))
	if start+2 > int64(len(tiff)) {
		return 0, false
	}
	directory := tiff[start:]
	entries := int(order.Uint16(directory))
	for rest := directory[2:]; entries > 0 && len(rest) >= entrySize; rest, entries = rest[entrySize:], entries-1 {
		switch order.Uint16(rest) {
		case tagOrientation:
			turned = orientation(order.Uint16(rest[8:]))
		case tagGPS:
			location = true
		}
	}
	return turned, location
}

// saysLocation reports whether XMP or text metadata contain coordinates.
func saysLocation(metadata []byte) bool {
	return bytes.Contains(metadata, []byte("GPSLatitude"))
}

// turn returns the picture upright.
func turn(src *image.RGBA, o orientation) *image.RGBA {
	if o.upright() {
		return src
	}
	width, height := src.Rect.Dx(), src.Rect.Dy()
	bounds := image.Rect(0, 0, width, height)
	if o.swapsSides() {
		bounds = image.Rect(0, 0, height, width)
	}
	dst := image.NewRGBA(bounds)
	for y := range height {
		for x := range width {
			toX, toY := o.place(x, y, width, height)
			copy(dst.Pix[dst.PixOffset(toX, toY):][:4], src.Pix[src.PixOffset(src.Rect.Min.X+x, src.Rect.Min.Y+y):][:4])
		}
	}
	return dst
}

// place returns where the stored pixel x, y is shown.
func (o orientation) place(x, y, width, height int) (toX, toY int) {
	right, bottom := width-1-x, height-1-y
	switch o {
	case 2:
		return right, y
	case 3:
		return right, bottom
	case 4:
		return x, bottom
	case 5:
		return y, x
	case 6:
		return bottom, x
	case 7:
		return bottom, right
	default: // 8
		return y, right
	}
}

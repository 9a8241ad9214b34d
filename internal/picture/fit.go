package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math"
	"runtime/debug"

	"golang.org/x/image/draw"
	"golang.org/x/image/webp"
)

// Change is something that Fit did to a picture.
type Change string

// The changes.
const (
	Rotated         Change = "rotated"
	MetadataRemoved Change = "metadata_removed"
	LocationRemoved Change = "location_removed" // beside MetadataRemoved
	Scaled          Change = "scaled"
	Recompressed    Change = "recompressed"
	FirstFrame      Change = "first_frame"
)

// Options say how a picture is made to fit.
type Options struct {
	Budget     int   // bytes
	Memory     int64 // bytes that working on the picture may take; 0: no limit
	FirstFrame bool  // use the first frame of an animation
}

// Fitted is a picture without metadata.
type Fitted struct {
	Data []byte
	Info
	Changed []Change
}

// sides are the longest sides that Fit tries, in pixels, and qualities those of JPEG.
// A phone's screen shows no more than the first. The last sides are for a message with
// many pictures.
var (
	sides     = []int{1600, 1280, 1024, 800, 640, 480}
	qualities = []int{85, 75, 65}
)

// Inspect returns the facts about a picture from its headers, without decoding it. The
// error is an *Error.
func Inspect(data []byte) (Info, error) {
	p, err := parse(data)
	if err != nil {
		return Info{}, err
	}
	return p.info(len(data)), nil
}

// Strip returns a picture without metadata and with the same pixels. It fails for WebP,
// which must be converted, and for a picture that must be rotated. The error is an
// *Error.
func Strip(data []byte, memory int64) (Fitted, error) {
	p, err := parse(data)
	if err != nil {
		return Fitted{}, err
	}
	switch {
	case p.kind == WebP:
		return Fitted{}, violation(RuleType, "must be a JPEG, PNG or GIF picture to be sent as it is")
	case !p.orientation.upright():
		return Fitted{}, violation(RuleType, "must be stored upright to be sent as it is; its metadata say that it must be rotated")
	}
	if _, err := p.decode(data, memory); err != nil {
		return Fitted{}, err
	}
	return p.asItIs(data), nil
}

// Fit returns a picture without metadata that has at most Budget bytes. What fits is
// not recompressed. The error is an *Error.
func Fit(data []byte, o Options) (Fitted, error) {
	p, err := parse(data)
	if err != nil {
		return Fitted{}, err
	}
	firstFrame := o.FirstFrame && p.frames > 1
	fits := p.kind != WebP && p.orientation.upright() && len(p.stripped) <= o.Budget && !firstFrame
	if p.frames > 1 && !fits && !firstFrame {
		return Fitted{}, violation(RuleAnimated, "must have at most %d kB as an animation; this one has %d kB. Its first frame can be sent", o.Budget/1000, len(p.stripped)/1000)
	}
	decoded, err := p.decode(data, o.Memory)
	if err != nil {
		return Fitted{}, err
	}
	if fits {
		return p.asItIs(data), nil
	}
	return p.recompress(data, decoded, o)
}

// asItIs returns the stripped picture.
func (p *parsed) asItIs(data []byte) Fitted {
	return Fitted{Data: p.stripped, Info: p.info(len(p.stripped)), Changed: p.removals(!bytes.Equal(data, p.stripped))}
}

func (p *parsed) removals(metadata bool) []Change {
	switch {
	case p.location:
		return []Change{MetadataRemoved, LocationRemoved}
	case metadata:
		return []Change{MetadataRemoved}
	default:
		return nil
	}
}

// largePicture is from where the garbage of earlier pictures is returned before another
// is decoded. Otherwise the collector would let both grow to twice the memory.
const largePicture = 64 << 20 // bytes

// decode returns the pixels: those of the first frame for an animation, all of whose
// frames it decodes. It proves that a phone can show the picture that is sent, so it reads
// the stripped one.
func (p *parsed) decode(data []byte, memory int64) (image.Image, error) {
	need := p.neededMemory(1)
	if memory > 0 && need > memory {
		pixels := float64(p.width) * float64(p.height) * float64(p.frames) / 1e6
		return nil, violation(RuleMemory, "must have at most %.1f megapixels when saved like this; it has %.1f", p.fraction(memory)*pixels, pixels)
	}
	if need > largePicture {
		debug.FreeOSMemory()
	}
	if p.stripped != nil {
		data = p.stripped
	}
	var decoded image.Image
	var err error
	switch p.kind {
	case JPEG:
		decoded, err = jpeg.Decode(bytes.NewReader(data))
	case PNG:
		decoded, err = png.Decode(bytes.NewReader(data))
	case GIF:
		decoded, err = p.decodeGIF(data)
	case WebP:
		decoded, err = webp.Decode(bytes.NewReader(data))
	}
	if err != nil {
		return nil, damaged("it cannot be decoded: " + err.Error())
	}
	return decoded, nil
}

func (p *parsed) decodeGIF(data []byte) (image.Image, error) {
	all, err := gif.DecodeAll(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	first := all.Image[0]
	canvas := image.Rect(0, 0, p.width, p.height)
	if first.Rect == canvas {
		return first, nil
	}
	whole := image.NewPaletted(canvas, append(color.Palette{color.Transparent}, first.Palette...)[:min(256, len(first.Palette)+1)])
	draw.Draw(whole, first.Rect, first, first.Rect.Min, draw.Src)
	return whole, nil
}

// neededMemory returns what working on the picture takes at most if it has a fraction of
// its pixels.
func (p *parsed) neededMemory(fraction float64) int64 {
	side := math.Sqrt(fraction)
	width, height := int(math.Ceil(float64(p.width)*side)), int(math.Ceil(float64(p.height)*side))
	return int64(fraction*float64(p.memory)) + p.fixedMemory + scalingMemory(width, height)
}

// fraction returns how much of its pixels the picture may have to be worked on.
func (p *parsed) fraction(memory int64) float64 {
	fits, exceeds := 0.0, 1.0
	for range 20 {
		if middle := (fits + exceeds) / 2; p.neededMemory(middle) <= memory {
			fits = middle
		} else {
			exceeds = middle
		}
	}
	return fits * 0.98 // sides are whole blocks and pixels
}

// scalingMemory returns what recompress takes at most beside the decoded picture: the
// first two halvings, and the temporary image of the last step (32 bytes for each pixel of
// the new width and the old height).
func scalingMemory(width, height int) int64 {
	const perPixel, temporary = 4, 32
	long, pixels := max(width, height), int64(width)*int64(height)
	if long <= sides[0] {
		return 3 * perPixel * pixels
	}
	last := sizeWithin(image.Pt(width, height), sides[0])
	scaled := int64(last.X) * int64(last.Y)
	halved := pixels/4 + pixels/16
	if min(last.X, last.Y) <= 2 { // one side only
		halved = pixels/2 + pixels/4
	}
	return perPixel*halved + temporary*2*scaled + 3*perPixel*scaled
}

// recompress encodes the picture anew until it fits the budget.
func (p *parsed) recompress(data []byte, decoded image.Image, o Options) (Fitted, error) {
	keepPNG := (p.kind == PNG || p.kind == GIF) && (!opaque(decoded) || fewColors(decoded))
	pixels := turn(scale(decoded, sides[0]), p.orientation)
	result := Fitted{Changed: p.changes(data, o)}
	if keepPNG {
		encoded, err := p.encodePNG(decoded, pixels)
		if err != nil {
			return Fitted{}, err
		}
		if len(encoded) <= o.Budget {
			return p.finish(result, encoded, PNG, pixels), nil
		}
	}
	flatten(pixels)
	for _, side := range sides {
		if long := longest(pixels); side < long {
			pixels = scale(pixels, side)
		} else if side > long && side != sides[0] {
			continue // the same picture again
		}
		for _, quality := range qualities {
			encoded, err := encodeJPEG(pixels, quality, p.icc)
			if err != nil {
				return Fitted{}, err
			}
			if len(encoded) <= o.Budget {
				return p.finish(result, encoded, JPEG, pixels), nil
			}
		}
	}
	return Fitted{}, violation(RuleBudget, "must fit %d kB; it does not, even at %d pixels on its longest side", o.Budget/1000, sides[len(sides)-1])
}

func (p *parsed) changes(data []byte, o Options) []Change {
	var changes []Change
	if !p.orientation.upright() {
		changes = append(changes, Rotated)
	}
	changes = append(changes, p.removals(p.kind != WebP && !bytes.Equal(data, p.stripped))...)
	if o.FirstFrame && p.frames > 1 {
		changes = append(changes, FirstFrame)
	}
	return changes
}

func (p *parsed) finish(result Fitted, encoded []byte, kind Type, pixels *image.RGBA) Fitted {
	result.Data = encoded
	result.Info = Info{Type: kind, Bytes: len(encoded), Width: pixels.Rect.Dx(), Height: pixels.Rect.Dy(), Frames: 1}
	if longest(pixels) < max(p.width, p.height) {
		result.Changed = append(result.Changed, Scaled)
	}
	result.Changed = append(result.Changed, Recompressed)
	return result
}

func encodeJPEG(pixels *image.RGBA, quality int, profile []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := jpeg.Encode(&out, pixels, &jpeg.Options{Quality: quality}); err != nil {
		return nil, fmt.Errorf("encoding a picture as JPEG: %w", err)
	}
	return withProfile(out.Bytes(), profile), nil
}

// encodePNG encodes the original if it has a palette, which takes fewer bytes, and was
// neither scaled nor rotated.
func (p *parsed) encodePNG(original image.Image, pixels *image.RGBA) ([]byte, error) {
	var src image.Image = pixels
	if paletted, ok := original.(*image.Paletted); ok && p.orientation.upright() && paletted.Rect.Size() == pixels.Rect.Size() {
		src = paletted
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&out, src); err != nil {
		return nil, fmt.Errorf("encoding a picture as PNG: %w", err)
	}
	return out.Bytes(), nil
}

// scale returns the picture with a longest side of at most side pixels. It halves with a
// cheap scaler first, because the good one takes 32 bytes for each pixel of the target's
// width and the source's height.
func scale(src image.Image, side int) *image.RGBA {
	size := src.Bounds().Size()
	target := sizeWithin(size, side)
	for size.X > 2*target.X || size.Y > 2*target.Y {
		size = image.Pt(halve(size.X, target.X), halve(size.Y, target.Y))
		src = resize(draw.ApproxBiLinear, src, size)
	}
	if pixels, ok := src.(*image.RGBA); ok && size == target && pixels.Rect.Min == (image.Point{}) {
		return pixels
	}
	if size == target {
		return resize(draw.NearestNeighbor, src, target)
	}
	return resize(draw.CatmullRom, src, target)
}

// halve returns half of a side, unless that is below the target: a picture can be thin.
func halve(side, target int) int {
	return max((side+1)/2, target)
}

func resize(scaler draw.Scaler, src image.Image, size image.Point) *image.RGBA {
	dst := image.NewRGBA(image.Rectangle{Max: size})
	scaler.Scale(dst, dst.Rect, src, src.Bounds(), draw.Src, nil)
	return dst
}

func sizeWithin(size image.Point, side int) image.Point {
	long := max(size.X, size.Y)
	if long <= side {
		return size
	}
	scaled := func(n int) int { return max(1, (n*side+long/2)/long) }
	return image.Pt(scaled(size.X), scaled(size.Y))
}

func longest(pixels *image.RGBA) int { return max(pixels.Rect.Dx(), pixels.Rect.Dy()) }

func opaque(src image.Image) bool {
	o, ok := src.(interface{ Opaque() bool })
	return ok && o.Opaque()
}

// fewColors reports whether a palette could hold the picture's colors.
func fewColors(src image.Image) bool {
	const most = 256
	switch src := src.(type) {
	case *image.Paletted, *image.Gray:
		return true
	case *image.RGBA:
		return fewPixelValues(src.Pix, most)
	case *image.NRGBA:
		return fewPixelValues(src.Pix, most)
	default:
		return false
	}
}

func fewPixelValues(pix []byte, most int) bool {
	seen := map[[4]byte]bool{}
	for ; len(pix) >= 4; pix = pix[4:] {
		seen[[4]byte(pix)] = true
		if len(seen) > most {
			return false
		}
	}
	return true
}

// flatten puts the picture on white: JPEG knows no transparency.
func flatten(pixels *image.RGBA) {
	white := image.NewUniform(color.White)
	under := image.NewRGBA(pixels.Rect)
	draw.Draw(under, under.Rect, white, image.Point{}, draw.Src)
	draw.Draw(under, under.Rect, pixels, pixels.Rect.Min, draw.Over)
	copy(pixels.Pix, under.Pix)
}

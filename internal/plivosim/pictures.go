package plivosim

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"net/http"
	"sync"

	"github.com/go-chi/chi/v5"
)

// samplePicture is a file for trials. Some have faults for which Plivo refuses them.
type samplePicture struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	serve       http.HandlerFunc
}

// samplePictures lists the files below /sim/pictures/. Each is generated when it is first
// requested, because the photo takes a second.
func samplePictures() []samplePicture {
	photo := sync.OnceValue(func() []byte { return photoOf(4000, 3000) })
	small := sync.OnceValue(func() []byte { return photoOf(1200, 900) })
	of := func(mediaType string, data func() []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { serveFile(w, mediaType, data()) }
	}
	return []samplePicture{
		{"photo.jpg", "a photo of 12 megapixels with its location, to be rotated", of("image/jpeg", photo)},
		{"small-photo.jpg", "the same with 1 megapixel", of("image/jpeg", small)},
		{"drawing.png", "a PNG with few colors", of("image/png", sync.OnceValue(drawing))},
		{"transparent.png", "a PNG with transparency", of("image/png", sync.OnceValue(transparent))},
		{"noise.png", "a PNG of more than 2 MB", of("image/png", sync.OnceValue(noise))},
		{"animated.gif", "an animated GIF", of("image/gif", sync.OnceValue(animation))},
		{"contact.vcf", "a vCard", of("text/vcard", contact)},
		{"mistyped.jpg", "a PNG that claims to be a JPEG", of("image/jpeg", sync.OnceValue(drawing))},
		{"moved.jpg", "a redirect to small-photo.jpg", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "small-photo.jpg", http.StatusFound)
		}},
		{"untyped.jpg", "a photo without Content-Type", func(w http.ResponseWriter, _ *http.Request) {
			serveFile(w, "", small())
		}},
		{"chunked.jpg", "a photo without Content-Length", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "image/jpeg")
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(small())
		}},
		{"unavailable.jpg", "status 503", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}},
	}
}

// pictureRoutes serves /sim/pictures, a list, and the files below it.
func pictureRoutes(r chi.Router) {
	all := samplePictures()
	r.Get("/sim/pictures", func(w http.ResponseWriter, _ *http.Request) { writeControl(w, http.StatusOK, all) })
	for _, p := range all {
		r.Get("/sim/pictures/"+p.Name, p.serve)
		r.Head("/sim/pictures/"+p.Name, p.serve)
	}
}

// photoOf returns a JPEG that compresses like a photo: soft colors under the noise of a
// sensor. Its metadata is that of photoMetadata.
func photoOf(width, height int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			grain := random.IntN(24)
			sky, hill := 200-150*y/height, 60+120*x/width
			if y > height/2+(x%(width/4))/8 {
				sky, hill = 40, hill/2
			}
			img.SetRGBA(x, y, color.RGBA{R: uint8(hill + grain), G: uint8(90 + 60*y/height + grain), B: uint8(sky + grain), A: 255})
		}
	}
	var out bytes.Buffer
	mustEncode(jpeg.Encode(&out, img, &jpeg.Options{Quality: 90}))
	data := out.Bytes()
	const start = 2 // bytes of the marker that starts a JPEG
	return append(append(bytes.Clone(data[:start]), photoMetadata()...), data[start:]...)
}

// The metadata of photos.
const (
	cameraModel = "Postcard Camera 12"
	orientation = 6 // the camera was turned: show it rotated by 90 degrees clockwise
)

// photoMetadata returns the Exif segment of a JPEG: the camera, the orientation, and the
// place where the photo was taken, 37°46'29.64" N 122°25'9.84" W.
func photoMetadata() []byte {
	const (
		mainEntries, placeEntries = 3, 4
		mainAt                    = 8 // behind the header of the TIFF data
		placeAt                   = mainAt + 2 + 12*mainEntries + 4
		valuesAt                  = placeAt + 2 + 12*placeEntries + 4
		latitudeAt                = valuesAt + (len(cameraModel)+2)/2*2 // zero-terminated, and even
		longitudeAt               = latitudeAt + 24
		ascii, short, long, ratio = 2, 3, 4, 5
	)
	be := binary.BigEndian
	tiff := be.AppendUint32([]byte("MM\x00*"), mainAt)
	entry := func(tag, kind uint16, count, value int) {
		tiff = be.AppendUint16(be.AppendUint16(tiff, tag), kind)
		tiff = be.AppendUint32(be.AppendUint32(tiff, uint32(count)), uint32(value))
	}
	tiff = be.AppendUint16(tiff, mainEntries)
	entry(0x0110, ascii, len(cameraModel)+1, valuesAt) // model
	entry(0x0112, short, 1, orientation<<16)
	entry(0x8825, long, 1, placeAt)
	tiff = be.AppendUint32(tiff, 0)

	tiff = be.AppendUint16(tiff, placeEntries)
	entry(1, ascii, 2, 'N'<<24)
	entry(2, ratio, 3, latitudeAt)
	entry(3, ascii, 2, 'W'<<24)
	entry(4, ratio, 3, longitudeAt)
	tiff = be.AppendUint32(tiff, 0)

	tiff = append(tiff, cameraModel+"\x00"...)
	tiff = append(tiff, make([]byte, latitudeAt-len(tiff))...)
	for _, n := range []uint32{37, 1, 46, 1, 2964, 100, 122, 1, 25, 1, 984, 100} {
		tiff = be.AppendUint32(tiff, n)
	}

	segment := append([]byte("Exif\x00\x00"), tiff...)
	return append(be.AppendUint16([]byte{0xFF, 0xE1}, uint16(len(segment)+2)), segment...)
}

func drawing() []byte {
	img := image.NewPaletted(image.Rect(0, 0, 800, 600), color.Palette{color.White, color.Black, color.RGBA{R: 200, A: 255}})
	for y := range 600 {
		for x := range 800 {
			img.SetColorIndex(x, y, uint8((x/100+y/100)%3))
		}
	}
	return pngOf(img)
}

func transparent() []byte {
	img := image.NewNRGBA(image.Rect(0, 0, 400, 400))
	for y := range 400 {
		for x := range 400 {
			img.SetNRGBA(x, y, color.NRGBA{R: 30, G: 90, B: 200, A: uint8((x + y) * 255 / 800)})
		}
	}
	return pngOf(img)
}

func noise() []byte {
	random := rand.New(rand.NewPCG(3, 4))
	img := image.NewNRGBA(image.Rect(0, 0, 1000, 800))
	for i := range img.Pix {
		img.Pix[i] = uint8(random.Uint32()) | uint8(i%4/3*255) // opaque
	}
	return pngOf(img)
}

func animation() []byte {
	colors := color.Palette{color.White, color.RGBA{R: 220, A: 255}}
	film := &gif.GIF{}
	for frame := range 8 {
		img := image.NewPaletted(image.Rect(0, 0, 160, 120), colors)
		for y := 40; y < 80; y++ {
			for x := frame * 15; x < frame*15+40; x++ {
				img.SetColorIndex(x, y, 1)
			}
		}
		film.Image, film.Delay = append(film.Image, img), append(film.Delay, 20)
	}
	var out bytes.Buffer
	mustEncode(gif.EncodeAll(&out, film))
	return out.Bytes()
}

func contact() []byte {
	return []byte("BEGIN:VCARD\r\nVERSION:3.0\r\nN:Card;Post;;;\r\nFN:Post Card\r\nTEL:+14155550123\r\nEND:VCARD\r\n")
}

func pngOf(img image.Image) []byte {
	var out bytes.Buffer
	mustEncode(png.Encode(&out, img))
	return out.Bytes()
}

// mustEncode panics if a picture could not be encoded into memory.
func mustEncode(err error) {
	if err != nil {
		panic("plivosim: encoding a sample picture: " + err.Error())
	}
}

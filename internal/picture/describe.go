package picture

import (
	"bytes"
	"net/http"
	"strings"
)

// describe names the type of a file that is no picture that Fit reads.
func describe(data []byte) string {
	text := bytes.ToLower(bytes.TrimSpace(bytes.TrimPrefix(data[:min(len(data), 1024)], []byte("\xef\xbb\xbf"))))
	switch {
	case len(data) >= 12 && string(data[4:8]) == "ftyp":
		return describeBrand(string(data[8:12]))
	case bytes.HasPrefix(text, []byte("<svg")), bytes.HasPrefix(text, []byte("<?xml")) && bytes.Contains(text, []byte("<svg")):
		return "an SVG drawing. Export it as PNG"
	case bytes.HasPrefix(data, []byte("II*\x00")), bytes.HasPrefix(data, []byte("MM\x00*")):
		return "a TIFF or raw picture. Export it as JPEG"
	case bytes.HasPrefix(data, []byte("%PDF-")):
		return "a PDF document. Export the page as JPEG"
	}
	sniffed, _, _ := strings.Cut(http.DetectContentType(data), ";")
	switch sniffed {
	case "image/bmp":
		return "a BMP picture. Export it as PNG"
	case "application/zip":
		return "a ZIP archive"
	case "text/html":
		return "a web page, perhaps an error page in place of the picture"
	case "text/plain", "text/xml":
		return "text"
	default:
		return "something else"
	}
}

// describeBrand names a file of the ISO base media family by its brand.
func describeBrand(brand string) string {
	switch brand {
	case "heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1":
		return "a HEIC picture. Export it as JPEG; on an iPhone, Settings > Camera > Formats > Most Compatible takes JPEG pictures"
	case "avif", "avis":
		return "an AVIF picture. Export it as JPEG"
	default:
		return "a video"
	}
}

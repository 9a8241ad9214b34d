package mediacheck

import (
	"bytes"
	"crypto/tls"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/picture"
)

// answer is the answer of the host that had the file.
type answer struct {
	*http.Response
	host       string
	redirected bool
}

// retryStatuses are statuses below 500 after which another request may succeed.
var retryStatuses = []int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}

// headerProblem returns what the status and the headers show; nil if nothing is wrong with
// them. Plivo requires Content-Type and Content-Length (Plivo docs, MMS FAQ).
func (a answer) headerProblem() *mms.MediaCheck {
	var check mms.MediaCheck
	switch status := a.StatusCode; {
	case status == http.StatusNotFound:
		check = failed(mms.ReasonMediaNotFound, "%s answered 404: there is nothing at this link.", a.host)
	case status == http.StatusGone:
		check = failed(mms.ReasonMediaGone, "%s answered 410: the file was removed.", a.host)
	case status >= 500, slices.Contains(retryStatuses, status):
		check = retry("%s answered %d.", a.host, status)
	case status != http.StatusOK:
		check = failed(mms.ReasonMediaRefused, "%s answered %d instead of 200.", a.host, status)
	case a.Header.Get("Content-Type") == "":
		check = failed(mms.ReasonMediaNoType, "%s does not say what type the file has: its answer must have a Content-Type.", a.host)
	case slices.Contains(a.TransferEncoding, "chunked"):
		check = failed(mms.ReasonMediaChunked, "%s sends the file in chunks: its answer must have a Content-Length instead.", a.host)
	case a.ContentLength < 0:
		check = failed(mms.ReasonMediaNoLength, "%s does not say how large the file is: its answer must have a Content-Length.", a.host)
	case a.Header.Get("Content-Encoding") != "" && !strings.EqualFold(a.Header.Get("Content-Encoding"), "identity"):
		check = failed(mms.ReasonMediaCompressed, "%s sends the file with Content-Encoding %.40q, although nobody asked for it: turn off compression for this file.", a.host, a.Header.Get("Content-Encoding"))
	case a.ContentLength > maxRead:
		check = failed(mms.ReasonMediaTooLarge, "The file is %s: a picture that Postcard can make smaller may be up to %d MB, and any other file up to %d MB.", mms.FormatBytes(int(a.ContentLength)), maxRead/1_000_000, mms.MaxPlivoMedia/1_000_000)
	default:
		return nil
	}
	return &check
}

// judge returns what the content shows, and the data if they are a picture.
func (a answer) judge(data []byte, budget int) (mms.MediaCheck, []byte) {
	declared := mediaType(a.Header.Get("Content-Type"))
	if len(data) == 0 {
		return failed(mms.ReasonMediaUnusable, "The file on %s is empty.", a.host), nil
	}
	found := contentType(data)
	switch {
	case declared == "":
		return failed(mms.ReasonMediaNoType, "%s does not say what type the file has: the Content-Type %.60q is malformed.", a.host, a.Header.Get("Content-Type")), nil
	case !sameType(declared, found):
		return failed(mms.ReasonMediaTypeDiffers, "%s says that the file is %.60s (Content-Type), but it is %s.", a.host, declared, found.name), nil
	case !isPicture(declared):
		return a.judgeOther(declared, len(data)), nil
	}
	check := mms.MediaCheck{
		Result: mms.CheckPassed, Redirected: a.redirected,
		PictureInfo: mms.PictureInfo{Type: declared, Bytes: len(data)},
	}
	info, err := picture.Inspect(data)
	var broken *picture.Error
	if errors.As(err, &broken) {
		if slices.Contains([]picture.Rule{picture.RuleDamaged, picture.RuleType}, broken.Rule) {
			return failed(mms.ReasonMediaUnusable, "The picture on %s %s.", a.host, broken.Message), nil
		}
		return check, data // Plivo may take what is too much for us
	}
	check.Width, check.Height = info.Width, info.Height
	check.Fits = !a.redirected && len(data) <= min(budget, mms.MaxPlivoMedia) && info.Type != picture.WebP
	return check, data
}

// judgeOther judges a file that is no picture, and so cannot be made smaller.
func (a answer) judgeOther(declared string, size int) mms.MediaCheck {
	switch {
	case !plivoAllows(declared):
		return failed(mms.ReasonMediaUnsupported, "The file on %s is of the type %.60s, which cannot be sent by MMS.", a.host, declared)
	case size > mms.MaxPlivoMedia:
		return failed(mms.ReasonMediaTooLarge, "The file on %s is %s: Plivo allows %d MB at most.", a.host, mms.FormatBytes(size), mms.MaxPlivoMedia/1_000_000)
	}
	return mms.MediaCheck{
		Result: mms.CheckPassed, Redirected: a.redirected, Fits: true,
		PictureInfo: mms.PictureInfo{Type: declared, Bytes: size},
	}
}

// synonyms are other names of types.
var synonyms = map[string]string{"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png", "text/x-vcard": "text/vcard", "text/directory": "text/vcard"}

// mediaType returns the media type in a Content-Type; "" if it is malformed.
func mediaType(header string) string {
	declared, _, err := mime.ParseMediaType(header)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || !strings.Contains(declared, "/") || len(declared) > maxType {
		return ""
	}
	if name, ok := synonyms[declared]; ok {
		return name
	}
	return declared
}

const maxType = 100 // bytes of a media type

func isPicture(mediaType string) bool {
	return slices.Contains([]picture.Type{picture.JPEG, picture.PNG, picture.GIF, picture.WebP}, picture.Type(mediaType))
}

// otherTypes are types besides audio and video that Plivo allows (Plivo's Python SDK, media
// upload; the complete list is not public).
var otherTypes = []string{"text/vcard", "text/plain", "text/csv", "application/pdf", "application/ogg", "application/vnd.ms-excel",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "image/x-xcf"}

func plivoAllows(mediaType string) bool {
	return strings.HasPrefix(mediaType, "video/") || strings.HasPrefix(mediaType, "audio/") || slices.Contains(otherTypes, mediaType)
}

// content is what a file is by its first bytes.
type content struct {
	mediaType string // empty if they do not show it
	name      string // for people
}

// signatures are those that matter here and that net/http does not know.
var signatures = []struct {
	prefix  string
	content content
}{
	{"BEGIN:VCARD", content{"text/vcard", "a vCard"}},
	{"#!AMR", content{"audio/amr", "an AMR recording"}},
	{"<svg", content{"image/svg+xml", "an SVG drawing"}},
}

func contentType(data []byte) content {
	start := bytes.TrimPrefix(data[:min(len(data), 512)], []byte("\xef\xbb\xbf"))
	for _, s := range signatures {
		if len(start) >= len(s.prefix) && strings.EqualFold(string(start[:len(s.prefix)]), s.prefix) {
			return s.content
		}
	}
	found, _, _ := strings.Cut(http.DetectContentType(start), ";")
	switch found {
	case "application/octet-stream":
		return content{"", "not"}
	case "text/html":
		return content{found, "a web page (text/html)"}
	}
	return content{found, found}
}

// sameType reports whether a file can be of the declared type. It judges only what the
// first bytes show with certainty.
func sameType(declared string, found content) bool {
	major, _, _ := strings.Cut(declared, "/")
	foundMajor, _, _ := strings.Cut(found.mediaType, "/")
	switch {
	case declared == found.mediaType:
		return true
	case isPicture(declared), declared == "application/pdf", declared == "text/vcard":
		return false // each has a signature
	case isPicture(found.mediaType), slices.Contains([]string{"text/html", "application/pdf", "text/vcard", "image/svg+xml"}, found.mediaType):
		return false
	case major == "audio" || major == "video":
		return foundMajor != "text" && foundMajor != "image" // containers are shared by audio and video
	}
	return true
}

func isCertificateError(err error) bool {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &certificate) || errors.As(err, &record)
}

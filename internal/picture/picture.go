// Package picture checks pictures, removes their metadata and makes them fit a budget
// of bytes. It works on one picture in memory, and knows neither messages, nor stores,
// nor HTTP.
package picture

import (
	"bytes"
	"fmt"
)

// Type is the media type of a picture.
type Type string

// The types that Fit reads. It writes all but WebP, which phones often cannot show.
const (
	JPEG Type = "image/jpeg"
	PNG  Type = "image/png"
	GIF  Type = "image/gif"
	WebP Type = "image/webp"
)

// Limits on a picture that Fit reads.
const (
	MaxBytes  = 25_000_000
	MaxPixels = 50_000_000 // width × height × frames
	MaxFrames = 300
)

// Info describes a picture.
type Info struct {
	Type          Type
	Bytes         int
	Width, Height int // pixels, as people see the picture: rotated as its metadata says
	Frames        int // more than 1: animated
}

// Rule is a stable code of a rule that a picture violates.
type Rule string

// The rules.
const (
	RuleEmpty    Rule = "picture_empty"
	RuleBytes    Rule = "picture_bytes"    // MaxBytes
	RuleType     Rule = "picture_type"     // not a picture, of another type, or also a file of another type
	RuleDamaged  Rule = "picture_damaged"  // truncated or not decodable
	RulePixels   Rule = "picture_pixels"   // MaxPixels
	RuleFrames   Rule = "picture_frames"   // MaxFrames
	RuleMemory   Rule = "picture_memory"   // decoding takes more memory than allowed
	RuleAnimated Rule = "picture_animated" // an animation above the budget; its first frame may fit
	RuleBudget   Rule = "picture_budget"   // above the budget, however small it is made
)

// Rules returns all rules.
func Rules() []Rule {
	return []Rule{RuleEmpty, RuleBytes, RuleType, RuleDamaged, RulePixels, RuleFrames, RuleMemory, RuleAnimated, RuleBudget}
}

// Error is the reason why a picture cannot be used.
type Error struct {
	Rule    Rule
	Message string // in plain language, behind the name of the picture: "must be ..."
}

func (e *Error) Error() string { return "the picture " + e.Message }

func violation(rule Rule, format string, args ...any) *Error {
	return &Error{Rule: rule, Message: fmt.Sprintf(format, args...)}
}

// errTruncated and damaged are the errors of the parsers.
var errTruncated = violation(RuleDamaged, "must be complete: the file ends in the middle of the picture")

func damaged(what string) *Error {
	return violation(RuleDamaged, "must not be damaged: %s", what)
}

// parsed is a picture taken apart, whose pixels have not been decoded.
type parsed struct {
	kind          Type
	width, height int
	frames        int
	orientation   orientation
	icc           []byte // the color profile, if it is one for RGB
	location      bool   // whether its metadata say where it was taken
	stripped      []byte // the same picture without metadata; nil for WebP
	trailer       []byte // what follows the end of the picture
	memory        int64  // bytes that decoding takes at most, in proportion to the pixels
	fixedMemory   int64  // bytes that it takes beside them
}

// info returns the facts about the picture of n bytes.
func (p *parsed) info(n int) Info {
	info := Info{Type: p.kind, Bytes: n, Width: p.width, Height: p.height, Frames: p.frames}
	if p.orientation.swapsSides() {
		info.Width, info.Height = p.height, p.width
	}
	return info
}

// parse takes a picture apart and checks it against the limits on size.
func parse(data []byte) (*parsed, error) {
	switch {
	case len(data) == 0:
		return nil, violation(RuleEmpty, "must not be empty: the file has 0 bytes")
	case len(data) > MaxBytes:
		return nil, violation(RuleBytes, "must be at most %d MB large", MaxBytes/1_000_000)
	}
	read := parserOf(data)
	if read == nil {
		return nil, violation(RuleType, "must be a JPEG, PNG, GIF or WebP picture; this is %s", describe(data))
	}
	p, err := read(data)
	if err != nil {
		return nil, err
	}
	if other := secondType(data, p.trailer); other != "" {
		return nil, violation(RuleType, "must be only a picture; the file is also %s", other)
	}
	return p, p.checkSize()
}

func parserOf(data []byte) func([]byte) (*parsed, error) {
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xd8\xff")):
		return parseJPEG
	case bytes.HasPrefix(data, []byte(pngSignature)):
		return parsePNG
	case bytes.HasPrefix(data, []byte("GIF87a")), bytes.HasPrefix(data, []byte("GIF89a")):
		return parseGIF
	case len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP":
		return parseWebP
	default:
		return nil
	}
}

func (p *parsed) checkSize() error {
	switch pixels := int64(p.width) * int64(p.height) * int64(p.frames); {
	case p.width == 0 || p.height == 0:
		return damaged("its width or height is 0")
	case p.frames == 0:
		return damaged("it holds no picture")
	case p.frames > MaxFrames:
		return violation(RuleFrames, "must have at most %d frames; this one has %d", MaxFrames, p.frames)
	case pixels > MaxPixels && p.frames > 1:
		return violation(RulePixels, "must have at most %d megapixels in all its frames together; this one has %d frames of %d × %d", MaxPixels/1_000_000, p.frames, p.width, p.height)
	case pixels > MaxPixels:
		return violation(RulePixels, "must have at most %d megapixels; this one has %d × %d", MaxPixels/1_000_000, p.width, p.height)
	}
	return nil
}

// secondType returns what else a file is that begins as a picture: a program that
// looks for the other type would open it as such.
func secondType(data, trailer []byte) string {
	const pdfHeaderWithin = 1024 // readers of PDF search this far for its header
	switch {
	case bytes.Contains(data[:min(len(data), pdfHeaderWithin)], []byte("%PDF-")):
		return "a PDF document"
	case bytes.Contains(trailer, []byte("PK\x03\x04")), bytes.Contains(trailer, []byte("PK\x05\x06")):
		return "a ZIP archive"
	default:
		return ""
	}
}

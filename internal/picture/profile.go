package picture

import (
	"bytes"
	"encoding/binary"
)

// Layout of a color profile (ICC.1:2022, 7).
const (
	iccHeaderSize = 128
	iccEntrySize  = 12 // of the tag table: signature, offset, size
	iccMaxTags    = 100
)

// iccKeptTags are the tags that change colors. All others are texts, measurements, or
// belong to one program.
var iccKeptTags = map[string]bool{
	"wtpt": true, "bkpt": true, "chad": true, "cicp": true, "lumi": true,
	"rXYZ": true, "gXYZ": true, "bXYZ": true, "rTRC": true, "gTRC": true, "bTRC": true, "kTRC": true,
	"A2B0": true, "A2B1": true, "A2B2": true, "B2A0": true, "B2A1": true, "B2A2": true, "gamt": true,
}

// iccKeptTypes are the types of values that these tags can have.
var iccKeptTypes = map[string]bool{
	"XYZ ": true, "curv": true, "para": true, "sf32": true, "cicp": true,
	"mft1": true, "mft2": true, "mAB ": true, "mBA ": true,
}

// iccTag is one entry of a profile.
type iccTag struct {
	name string
	data []byte
}

// cleanProfile returns a color profile with nothing but what changes colors: the texts,
// the date, and the names of devices and programs go. Two texts that every profile must
// have become the same for all. It returns nil for a damaged profile, which programs
// ignore.
func cleanProfile(profile []byte) []byte {
	if len(profile) < iccHeaderSize+4 || len(profile) > maxProfile || string(profile[36:40]) != "acsp" {
		return nil
	}
	count := int64(binary.BigEndian.Uint32(profile[iccHeaderSize:]))
	table := profile[iccHeaderSize+4:]
	if count > iccMaxTags || count*iccEntrySize > int64(len(table)) {
		return nil
	}
	tags := iccTexts(profile[8] >= 4)
	for entry := table[:count*iccEntrySize]; len(entry) > 0; entry = entry[iccEntrySize:] {
		offset, size := int64(binary.BigEndian.Uint32(entry[4:])), int64(binary.BigEndian.Uint32(entry[8:]))
		if offset+size > int64(len(profile)) {
			return nil
		}
		name, data := string(entry[:4]), profile[offset:offset+size]
		if iccKeptTags[name] && size >= 8 && iccKeptTypes[string(data[:4])] {
			tags = append(tags, iccTag{name, data})
		}
	}
	return writeProfile(profile[:iccHeaderSize], tags)
}

// iccTexts are the description and the copyright, in the types of version 4 or 2.
func iccTexts(version4 bool) []iccTag {
	text := func(s string) []byte {
		if !version4 {
			return append([]byte("text\x00\x00\x00\x00"), s+"\x00"...)
		}
		data := []byte("mluc\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x0cenUS")
		data = binary.BigEndian.AppendUint32(data, uint32(2*len(s)))
		data = append(data, 0, 0, 0, 28)
		for _, c := range []byte(s) {
			data = append(data, 0, c)
		}
		return data
	}
	description := text("Colors")
	if !version4 {
		const scriptCode = 4 + 4 + 2 + 1 + 67 // no text in Unicode, and none for old Macs
		description = append([]byte("desc\x00\x00\x00\x00\x00\x00\x00\x07Colors\x00"), make([]byte, scriptCode)...)
	}
	return []iccTag{{"desc", description}, {"cprt", text("None")}}
}

// writeProfile writes a profile. Equal values are written once, as profiles do for their
// three curves.
func writeProfile(original []byte, tags []iccTag) []byte {
	header := make([]byte, iccHeaderSize)
	copy(header[8:24], original[8:24])                                      // version, class, color spaces
	copy(header[24:36], "\x07\xd0\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00") // 2000-01-01
	copy(header[36:40], original[36:40])                                    // acsp
	copy(header[64:80], original[64:80])                                    // rendering intent, illuminant
	out := binary.BigEndian.AppendUint32(header, uint32(len(tags)))
	out = append(out, make([]byte, iccEntrySize*len(tags))...)
	written := map[string]int{}
	for i, tag := range tags {
		offset, again := written[string(tag.data)]
		if !again {
			offset = len(out)
			written[string(tag.data)] = offset
			out = append(out, tag.data...)
			out = append(out, bytes.Repeat([]byte{0}, -len(out)&3)...)
		}
		entry := out[iccHeaderSize+4+i*iccEntrySize:]
		copy(entry, tag.name)
		binary.BigEndian.PutUint32(entry[4:], uint32(offset))
		binary.BigEndian.PutUint32(entry[8:], uint32(len(tag.data)))
	}
	binary.BigEndian.PutUint32(out, uint32(len(out)))
	return out
}

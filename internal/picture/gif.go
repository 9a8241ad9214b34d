package picture

import (
	"bytes"
	"encoding/binary"
)

// Blocks of a GIF file (GIF89a specification).
const (
	gifExtension   = 0x21
	gifImage       = 0x2c
	gifTrailer     = 0x3b
	gifApplication = 0xff
	gifControl     = 0xf9
)

// parseGIF takes a GIF file apart and leaves out its metadata: comments, texts,
// application blocks except the one that makes an animation repeat, and what follows
// the end.
func parseGIF(data []byte) (*parsed, error) {
	const header = 13
	if len(data) < header {
		return nil, errTruncated
	}
	p := &parsed{kind: GIF, width: int(binary.LittleEndian.Uint16(data[6:])), height: int(binary.LittleEndian.Uint16(data[8:]))}
	pos := header + paletteSize(data[10])
	if pos > len(data) {
		return nil, errTruncated
	}
	p.stripped = append(make([]byte, 0, len(data)), data[:pos]...)
	for {
		if pos >= len(data) {
			return nil, errTruncated
		}
		start := pos
		var err error
		switch data[pos] {
		case gifTrailer:
			p.stripped = append(p.stripped, gifTrailer)
			p.trailer = data[pos+1:]
			p.memory = int64(p.width) * int64(p.height) * int64(p.frames)
			return p, nil
		case gifExtension:
			if pos, err = subBlocksEnd(data, pos+2); err != nil {
				return nil, err
			}
			p.stripped = append(p.stripped, p.keptExtension(data[start:pos])...)
		case gifImage:
			if pos, err = gifImageEnd(data, pos); err != nil {
				return nil, err
			}
			p.frames++
			p.stripped = append(p.stripped, data[start:pos]...)
		default:
			return nil, damaged("a GIF block is of an unknown kind")
		}
	}
}

// paletteSize returns the bytes of the palette that a field of flags announces.
func paletteSize(flags byte) int {
	if flags&0x80 == 0 {
		return 0
	}
	return 3 << (flags&7 + 1)
}

func gifImageEnd(data []byte, pos int) (int, error) {
	const descriptor, codeSize = 10, 1
	if pos+descriptor > len(data) {
		return 0, errTruncated
	}
	if width, height := binary.LittleEndian.Uint16(data[pos+5:]), binary.LittleEndian.Uint16(data[pos+7:]); width == 0 || height == 0 {
		return 0, damaged("a frame has no width or no height")
	}
	return subBlocksEnd(data, pos+descriptor+paletteSize(data[pos+9])+codeSize)
}

// subBlocksEnd returns where a list of sub-blocks that starts at pos ends: behind an
// empty one.
func subBlocksEnd(data []byte, pos int) (int, error) {
	for pos < len(data) {
		length := int(data[pos])
		pos += 1 + length
		if length == 0 {
			return pos, nil
		}
	}
	return 0, errTruncated
}

// keptExtension returns what of an extension block changes how the picture looks.
func (p *parsed) keptExtension(block []byte) []byte {
	const repeat = 19 // the length of the block that makes an animation repeat
	p.location = p.location || saysLocation(block)
	switch {
	case block[1] == gifControl:
		return block
	case block[1] == gifApplication && len(block) >= repeat &&
		(bytes.Equal(block[3:14], []byte("NETSCAPE2.0")) || bytes.Equal(block[3:14], []byte("ANIMEXTS1.0"))) &&
		block[2] == 11 && block[14] == 3 && block[15] == 1:
		return append(bytes.Clone(block[:repeat-1]), 0)
	default:
		return nil
	}
}

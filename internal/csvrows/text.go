package csvrows

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	utf16 "golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// Charset is the character encoding that the submitter declared for a file.
type Charset string

// The encodings of a file. Windows-1252 is read only if it is declared: it cannot be told
// from other encodings with one byte per character, such as that of Excel for Mac, and
// wrong letters would be sent to people.
const (
	Recognize   Charset = ""             // UTF-8 or UTF-16
	Windows1252 Charset = "windows-1252" // and ISO 8859-1, which it contains
)

// EncodingRule is the rule that a file in an unknown encoding violates.
const EncodingRule = "encoding"

// text is the text of a file, in UTF-8 and without a byte order mark.
type text struct {
	file     io.ReadSeeker
	start    int64             // after a byte order mark
	encoding encoding.Encoding // nil: UTF-8
}

// open returns a reader at the beginning of the text. It ends the use of earlier readers.
func (t *text) open() (io.Reader, error) {
	if _, err := t.file.Seek(t.start, io.SeekStart); err != nil {
		return nil, fmt.Errorf("rereading a file: %w", err)
	}
	if t.encoding == nil {
		return t.file, nil
	}
	return transform.NewReader(t.file, t.encoding.NewDecoder()), nil
}

// separatorLine returns the separator that the first line declares, and the line's length;
// both are 0 if it declares none.
func (t *text) separatorLine() (separator byte, length int, err error) {
	in, err := t.open()
	if err != nil {
		return 0, 0, err
	}
	begin, err := bufio.NewReaderSize(in, 16).Peek(10) // "sep=;" CR LF has 9 bytes
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, fmt.Errorf("reading a file: %w", err)
	}
	match := separatorLine.FindSubmatch(begin)
	if match == nil {
		return 0, 0, nil
	}
	return match[1][0], len(match[0]), nil
}

// newText recognizes the encoding of a file and checks all of it, so that no row is read
// in a wrong one. It returns invalid.Fields if the file is no text.
func newText(file io.ReadSeeker, declared Charset) (*text, error) {
	t := &text{file: file}
	head, err := t.head()
	if err != nil {
		return nil, err
	}
	if format := otherFormat(head); format != "" {
		return nil, notText("csv", "must be CSV, and the file is "+format+": open it in a spreadsheet and save it as CSV UTF-8")
	}
	if err := t.recognize(head); err != nil {
		return nil, err
	}
	if t.encoding == nil && t.start == 0 && declared == Windows1252 {
		return t, t.checkWindows1252()
	}
	return t, t.check()
}

func notText(rule, message string) error {
	return invalid.Fields{{Name: "rows", Rule: rule, Message: message}}
}

// head returns the first bytes of the file.
func (t *text) head() ([]byte, error) {
	if _, err := t.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("rereading a file: %w", err)
	}
	head := make([]byte, 512)
	n, err := io.ReadFull(t.file, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("reading a file: %w", err)
	}
	return head[:n], nil
}

// otherFormats are formats that people upload instead of CSV, by their first bytes.
var otherFormats = []struct{ begin, name string }{
	{"PK\x03\x04", "a workbook (of Excel, OpenDocument or Numbers) or another ZIP archive"},
	{"\xd0\xcf\x11\xe0", "an old Excel workbook"},
	{"%PDF", "a PDF"},
	{"{\\rtf", "an RTF document"},
	{"\x1f\x8b", "a compressed file"},
	{"\x89PNG", "a picture"},
	{"\xff\xd8\xff", "a picture"},
	{"GIF8", "a picture"},
	{"<!doctype", "a web page"},
	{"<html", "a web page"},
	{"<table", "a web page"},
	{"<?xml", "XML"},
}

// otherFormat names the format of a file that is not CSV, or returns "".
func otherFormat(head []byte) string {
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	for _, format := range otherFormats {
		begin := head[:min(len(head), len(format.begin))]
		if strings.EqualFold(string(begin), format.begin) {
			return format.name
		}
	}
	return ""
}

// recognize finds a byte order mark, or UTF-16 and UTF-32 without one: the first row has
// ASCII letters, whose other bytes are zero in these encodings.
func (t *text) recognize(head []byte) error {
	zero := func(i int) bool { return i < len(head) && head[i] == 0 }
	littleEndian := utf16.UTF16(utf16.LittleEndian, utf16.IgnoreBOM)
	bigEndian := utf16.UTF16(utf16.BigEndian, utf16.IgnoreBOM)
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		t.start = 3
	case bytes.HasPrefix(head, []byte("\xff\xfe\x00\x00")), bytes.HasPrefix(head, []byte("\x00\x00\xfe\xff")),
		zero(1) && zero(2) && zero(3), zero(0) && zero(1) && zero(2):
		return notText(EncodingRule, "must be in UTF-8, and the file is in UTF-32: save it as CSV UTF-8")
	case bytes.HasPrefix(head, []byte("\xff\xfe")):
		t.start, t.encoding = 2, littleEndian
	case bytes.HasPrefix(head, []byte("\xfe\xff")):
		t.start, t.encoding = 2, bigEndian
	case zero(1) && zero(3) && !zero(0) && !zero(2):
		t.encoding = littleEndian
	case zero(0) && zero(2) && !zero(1) && !zero(3):
		t.encoding = bigEndian
	}
	return nil
}

// check checks that all of the text can be read.
func (t *text) check() error {
	where, err := t.scan()
	if errors.Is(err, encoding.ErrInvalidUTF8) {
		return t.explainEncoding(where)
	}
	return err
}

// checkWindows1252 sets the encoding unless the text is in UTF-8.
func (t *text) checkWindows1252() error {
	where, err := t.scan()
	switch {
	case errors.Is(err, encoding.ErrInvalidUTF8):
		t.encoding = charmap.Windows1252
		_, err = t.scan()
	case err == nil && where.beyondASCII:
		err = notText(EncodingRule, "must be in the declared encoding, and the file is in UTF-8, not in Windows-1252: upload it without declaring Windows-1252")
	}
	return err
}

// scan reads the whole text. It returns where reading ended.
func (t *text) scan() (position, error) {
	in, err := t.open()
	if err != nil {
		return position{}, err
	}
	where := position{line: 1}
	_, err = io.Copy(&where, transform.NewReader(in, encoding.UTF8Validator))
	switch {
	case errors.Is(err, errZero):
		return where, notText("csv", fmt.Sprintf("must be CSV, and line %d of the file has a byte of zero, which no text has: save it as CSV UTF-8", where.line))
	case err != nil && !errors.Is(err, encoding.ErrInvalidUTF8):
		return where, fmt.Errorf("reading a file: %w", err)
	}
	return where, err
}

// explainEncoding returns the violation of a text with invalid UTF-8 at a position.
func (t *text) explainEncoding(at position) error {
	begin := max(at.lineStart, at.offset-maxWord) // a line can be as long as the file
	if _, err := t.file.Seek(t.start+begin, io.SeekStart); err != nil {
		return fmt.Errorf("rereading a file: %w", err)
	}
	near, err := io.ReadAll(io.LimitReader(t.file, at.offset-begin+maxWord))
	if err != nil {
		return fmt.Errorf("rereading a file: %w", err)
	}
	message := fmt.Sprintf("must be in UTF-8 or UTF-16, and line %d of the file is not: save it as CSV UTF-8", at.line)
	if word := windowsWord(near, int(at.offset-begin)); word != "" {
		message += fmt.Sprintf(". Excel’s plain CSV is in Windows-1252. If the line contains “%s”, you can also upload the file as Windows-1252 (in the API with Content-Type: text/csv; charset=windows-1252)", word)
	}
	return notText(EncodingRule, message)
}

// maxWord is how many bytes before and after a byte windowsWord reads.
const maxWord = 30

// windowsWord returns the word at a byte of a part of a line in Windows-1252, or "" if it is
// no word in that encoding.
func windowsWord(line []byte, at int) string {
	if at >= len(line) {
		return ""
	}
	noLetter := func(r rune) bool { return !unicode.IsLetter(r) && r != '’' }
	decode := func(part []byte) string {
		decoded, _ := charmap.Windows1252.NewDecoder().Bytes(part) // each byte has a character
		return string(decoded)
	}
	before, after := decode(line[:at]), decode(line[at:])
	if i := strings.LastIndexFunc(before, noLetter); i >= 0 {
		before = strings.TrimLeftFunc(before[i:], noLetter)
	}
	if i := strings.IndexFunc(after, noLetter); i >= 0 {
		after = after[:i]
	}
	if after == "" {
		return ""
	}
	return before + after
}

var errZero = errors.New("a byte of zero")

// position is a writer that tracks the position in the text that was written to it.
type position struct {
	line              int
	offset, lineStart int64
	afterCR           bool
	beyondASCII       bool
}

// Write implements io.Writer. It returns errZero at a byte of zero.
func (p *position) Write(text []byte) (int, error) {
	for i, c := range text {
		if c == 0 {
			return i, errZero
		}
		p.offset++
		if c == '\r' || c == '\n' {
			if c == '\r' || !p.afterCR {
				p.line++
			}
			p.lineStart = p.offset
		}
		p.afterCR = c == '\r'
		p.beyondASCII = p.beyondASCII || c >= 0x80
	}
	return len(text), nil
}

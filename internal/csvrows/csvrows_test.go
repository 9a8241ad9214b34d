package csvrows_test

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"

	"github.com/postcard-mms/postcard/internal/csvrows"
	"github.com/postcard-mms/postcard/internal/invalid"
)

// readAll returns the values of the valid rows' columns "to" and "name" and the violated
// rules of the others, each with the row's number, and the error that ended the reading.
func readAll(text string, declared csvrows.Charset) (rows []string, err error) {
	r, err := csvrows.NewCSV(strings.NewReader(text), declared)
	if err != nil {
		return nil, err
	}
	for {
		row, err := r.Next()
		var violations invalid.Fields
		switch {
		case errors.Is(err, io.EOF):
			return rows, nil
		case errors.As(err, &violations):
			rows = append(rows, fmt.Sprintf("%d %s %s", r.Row(), violations[0].Name, violations[0].Rule))
		case err != nil:
			return rows, err
		default:
			rows = append(rows, fmt.Sprintf("%d %s %q", r.Row(), row["to"], row["name"]))
		}
	}
}

func encoded(t *testing.T, e encoding.Encoding, text string) string {
	t.Helper()
	out, err := e.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCSVAsPeopleSaveIt(t *testing.T) {
	t.Parallel()
	const accents = "to,name\n+1,José\n"
	plain, jose := []string{`2 +1 "Ada"`}, []string{`2 +1 "José"`}
	for name, tt := range map[string]struct {
		file     string
		declared csvrows.Charset
		want     []string
	}{
		"plain":                          {"to,name\n+1,Ada\n", "", plain},
		"no line end":                    {"to,name\n+1,Ada", "", plain},
		"CRLF":                           {"to,name\r\n+1,Ada\r\n", "", plain},
		"CR":                             {"to,name\r+1,Ada\r", "", plain},
		"mixed line ends":                {"to,name\r+1,a\n+2,b\r\n+3,c", "", []string{`2 +1 "a"`, `3 +2 "b"`, `4 +3 "c"`}},
		"only the first row":             {"to,name", "", nil},
		"UTF-8":                          {accents, "", jose},
		"UTF-8 with mark":                {"\ufeff" + accents, "", jose},
		"UTF-8 with mark, quoted":        {"\ufeff\"to\",name\n+1,Ada\n", "", plain},
		"UTF-8 with mark, declared":      {"\ufeff" + accents, csvrows.Windows1252, jose},
		"UTF-16, little endian, mark":    {encoded(t, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), accents), "", jose},
		"UTF-16, big endian, mark":       {encoded(t, unicode.UTF16(unicode.BigEndian, unicode.UseBOM), accents), "", jose},
		"UTF-16, little endian":          {encoded(t, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), accents), "", jose},
		"UTF-16, big endian":             {encoded(t, unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM), accents), "", jose},
		"UTF-16, declared":               {encoded(t, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), accents), csvrows.Windows1252, jose},
		"Excel's Unicode text":           {encoded(t, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), "to\tname\r\n+1\tJosé\r\n"), "", jose},
		"emoji in UTF-16":                {encoded(t, unicode.UTF16(unicode.BigEndian, unicode.UseBOM), "to,name\n+1,😀\n"), "", []string{`2 +1 "😀"`}},
		"half a character in UTF-16":     {encoded(t, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), "to,name\n+1,Ada\n+2,") + "\x3d\xd8", "", []string{`2 +1 "Ada"`, `3 name utf8`}},
		"Windows-1252, declared":         {encoded(t, charmap.Windows1252, "to,name\n+1,José’s €\n"), csvrows.Windows1252, []string{`2 +1 "José’s €"`}},
		"ASCII, declared Windows-1252":   {"to,name\n+1,Ada\n", csvrows.Windows1252, plain},
		"not in Windows-1252":            {"to,name\n+1,Jos\x8e\n+2,\x81\n", csvrows.Windows1252, []string{`2 +1 "JosŽ"`, `3 name utf8`}},
		"a lost character":               {"to,name\n+1,Jos\ufffd\n+2,Ada\n", "", []string{`2 name utf8`, `3 +2 "Ada"`}},
		"semicolons":                     {"to;name\n+1;Ada, the first\n", "", []string{`2 +1 "Ada, the first"`}},
		"tabs":                           {"to\tname\n+1\tAda; or, not\n", "", []string{`2 +1 "Ada; or, not"`}},
		"vertical bars":                  {"to|name\n+1|Ada\n", "", plain},
		"one column":                     {"to\n+1\n", "", []string{`2 +1 ""`}},
		"separators in names":            {"to,\"name; or not\",name\n+1,x,Ada\n", "", plain},
		"separators in unquoted names":   {"name,to,a;b;c;d\nAda,+1,\n", "", plain},
		"sep=":                           {"sep=;\nto;name\n+1;Ada\n", "", plain},
		"sep= from Excel":                {"\ufeffSEP=,\r\nto,name\r\n+1,Ada\r\n", "", plain},
		"quoted sep=":                    {"\"sep=\t\"\rto\tname\r+1\tAda\r", "", plain},
		"unusual sep=":                   {"sep=^\nto^name\n+1^Ada\n", "", plain},
		"sep= in UTF-16":                 {encoded(t, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), "sep=;\r\nto;name\r\n+1;Ada\r\n"), "", plain},
		"names in any case":              {"TO,name\n+1,Ada\n", "", plain},
		"spaces around names":            {" to\u00a0, name \n+1,Ada\n", "", plain},
		"quotes and spaces around names": {"\"To \", \"name\" \n+1,Ada\n", "", plain},
		"invisible characters in names":  {"\u200bto\ufeff,\u2060name\n+1,Ada\n", "", plain},
		"other name":                     {"name;Phone number\nAda;+1\n", "", plain},
		"other name, punctuation":        {"Mobile-No.,name\n+1,Ada\n", "", plain},
		"other names beside to":          {"Phone,To,Mobile,name\n+2,+1,+3,Ada\n", "", plain},
		"similar names beside to":        {"T-O,To,to?,name\n+2,+1,+3,Ada\n", "", plain},
		"similar name beside others":     {"Phone,To:,name\n+2,+1,Ada\n", "", plain},
		"empty columns at the end":       {"to,name,,\n+1,Ada,,\n+2,b\n+3,c, ,\t\n", "", []string{`2 +1 "Ada"`, `3 +2 "b"`, `4 +3 "c"`}},
		"empty columns in rows":          {"to,name\n+1,Ada,,\n", "", plain},
		"column without a name":          {",to,name\n0,+1,Ada\n", "", plain},
		"empty rows":                     {"\n,,\n  \nto,name\n+1,Ada\n\n,\n +2,b\n,,,,\n\"\", \n   ", "", []string{`5 +1 "Ada"`, `8  +2 "b"`}},
		"quoted line ends":               {"to,name\n+1,\"a\nb\r\nc\rd\"\n+2,e\n", "", []string{`2 +1 "a\nb\nc\nd"`, `3 +2 "e"`}},
		"quotes":                         {"to,name\n+1,\"\"\"a\"\" b\"\n+2,\"\"\n+3,\"\"\"\"\n", "", []string{`2 +1 "\"a\" b"`, `3 +2 ""`, `4 +3 "\""`}},
		"spaces around quotes":           {"to,name\n+1, \"a, b\" \n", "", []string{`2 +1 "a, b"`}},
		"tab in a value":                 {"to,name\n+1,a\tb\n", "", []string{`2 +1 "a\tb"`}},
		"spaces in values":               {"to,name\n+1, a \n", "", []string{`2 +1 " a "`}},
		"escaped formulas":               {"to,name\n'+1,'=1+1\n+2,''@x\n+3,'tis\n+4,'\n", "", []string{`2 +1 "=1+1"`, `3 +2 "'@x"`, `4 +3 "'tis"`, `5 +4 "'"`}},
		"wrong number of values":         {"to,name\n+1\n+2,a,b\n+3,c\n", "", []string{`2 +1 ""`, `3 row columns`, `4 +3 "c"`}},
	} {
		got, err := readAll(tt.file, tt.declared)
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s (-want +got):\n%s%v", name, diff, err)
		}
	}
}

func TestFilesThatAreNotCSV(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300<<10)
	for name, tt := range map[string]struct{ file, want string }{
		"empty":                      {"", "rows must begin with a row that names the columns"},
		"only blank":                 {"\n  \n", "rows must begin with a row that names the columns"},
		"workbook":                   {"PK\x03\x04\x14\x00\x06\x00", "rows must be CSV, and the file is a workbook"},
		"old workbook":               {"\xd0\xcf\x11\xe0\xa1\xb1", "rows must be CSV, and the file is an old Excel workbook"},
		"PDF":                        {"%PDF-1.7\n", "rows must be CSV, and the file is a PDF"},
		"web page":                   {"\r\n<HTML xmlns:x=\"urn\">", "rows must be CSV, and the file is a web page"},
		"RTF":                        {"{\\rtf1\\ansi", "rows must be CSV, and the file is an RTF document"},
		"compressed":                 {"\x1f\x8b\x08\x00", "rows must be CSV, and the file is a compressed file"},
		"zero":                       {"to,name\n+1,A\x00\n", "line 2 of the file has a byte of zero"},
		"UTF-32, little endian":      {encoded(t, utf32.UTF32(utf32.LittleEndian, utf32.UseBOM), "to\n+1\n"), "the file is in UTF-32"},
		"UTF-32, big endian":         {encoded(t, utf32.UTF32(utf32.BigEndian, utf32.UseBOM), "to\n+1\n"), "the file is in UTF-32"},
		"UTF-32 without mark":        {encoded(t, utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM), "to\n+1\n"), "the file is in UTF-32"},
		"Windows-1252":               {"to,name\r+1,Ada\r+2,Jos\xe9 Garc\xeda\r", "line 3 of the file is not: save it as CSV UTF-8. Excel’s plain CSV is in Windows-1252. If the line contains “José”"},
		"Windows-1252, in a quote":   {"to,name\n+1,\"Ada\nO\x92Brien\"\n", "line 3 of the file is not: save it as CSV UTF-8. Excel’s plain CSV is in Windows-1252. If the line contains “O’Brien”"},
		"Windows-1252, no word":      {"to,name\n+1,\xa9\n", "line 2 of the file is not: save it as CSV UTF-8"},
		"Windows-1252, late":         {"to,name\n" + strings.Repeat("+1,Ada\n", 100_000) + "+2,Jos\xe9\n", "line 100002 of the file is not"},
		"no recipients":              {"name,age\nAda,3\n", "columns must be named in the first row, and one of them must be \"to\""},
		"two columns of recipients":  {"Phone,name,Mobile\n+1,Ada,+2\n", "columns \"Phone\" and \"Mobile\" may both hold the recipients: name the right one \"to\""},
		"two columns similar to to":  {"To:,name,To?\n+1,Ada,+2\n", "columns \"To:\" and \"To?\" may both hold the recipients: name the right one \"to\""},
		"the same name twice":        {"to,Name,name \n", "columns must have different names: rename one of \"Name\" and \"name\""},
		"the same long name twice":   {"to" + strings.Repeat(","+long[:100<<10], 2), "rename one of \"" + long[:64] + "\" and \"" + long[:64] + "\""},
		"two long names of numbers":  {"Phone" + strings.Repeat("-", 100) + ",Mobile" + strings.Repeat("-", 100), "Phone" + strings.Repeat("-", 59) + "\" and \"Mobile" + strings.Repeat("-", 58) + "\" may both"},
		"too many columns":           {"to" + strings.Repeat(",x", 100), "columns must be at most 100"},
		"open quote":                 {"to,name\n+1,\"a\nb\"\n+2,\"c\n+3,d\n", "The quote that begins in line 4 of the file is never closed."},
		"open quote, later in a row": {"to,a,b\n+1,\"a\n\n\",\"c\n", "The quote that begins in line 4 of the file is never closed."},
		"open quote, first row":      {"to,\"name\n+1,a\n", "The quote that begins in line 1 of the file is never closed."},
		"open quote, sep=":           {"sep=,\nto,name\n+1,\"a\n", "The quote that begins in line 3 of the file is never closed."},
		"quote in a value":           {"to,name\n+1,5\" long\n", "Line 2 of the file has a quote inside a value."},
		"text after a quote":         {"to,name\n+1,\"a\nb\"c\n", "Line 3 of the file has text after the end of a value whose quote begins in line 2."},
		"long row":                   {"to\n" + long + "\n", "The row that begins in line 2 of the file is longer than 256 KiB."},
		"long quote":                 {"to,name\n+1,a\n+2,\"b\n" + long, "The row that begins in line 3 of the file is longer than 256 KiB. Check the quote that begins in line 3."},
		"rows in another separator":  {"to,name;\n\"+1;a\";b\n", "Line 2 of the file has text after the end of a value"},
	} {
		_, err := readAll(tt.file, csvrows.Recognize)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
	}
}

// TestUTF8IsNotReadAsWindows1252 expects an error where names would be garbled.
func TestUTF8IsNotReadAsWindows1252(t *testing.T) {
	t.Parallel()
	_, err := readAll("to,name\n+1,José\n", csvrows.Windows1252)
	if want := "the file is in UTF-8, not in Windows-1252"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestColumns(t *testing.T) {
	t.Parallel()
	r, err := csvrows.NewCSV(strings.NewReader("Phone, Message ,,Name,\n+1,Hi,,Ada,\n"), csvrows.Recognize)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Phone", "Message", "Name"}, r.Columns()); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	row, err := r.Next()
	want := map[string]string{"to": "+1", "Phone": "+1", "Message": "Hi", "Name": "Ada"}
	if diff := cmp.Diff(want, row); diff != "" || err != nil {
		t.Errorf("row (-want +got):\n%s%v", diff, err)
	}
}

// FuzzCSV ensures that every value is bounded and valid UTF-8, whatever the input, and that
// what encoding/csv reads without an error is read the same.
func FuzzCSV(f *testing.F) {
	for _, seed := range []string{
		"to,name\n+1,Ada\n", "to\n\"", "\xff,to\n\xff,1\n", "to,a\n1\n2,3,4\n\n,\n", "\"to\"\r\n\"a\"\"b\"\r\n", "sep=;\nto;a\n1;2\n", "to\ta\r1\t\"2\r3\"\r",
		"\xff\xfet\x00o\x00\n\x001\x00", "\ufeffto|\n1|\n", "to,a\n+1, \"b\" \n", "to,name\n+1,Jos\xe9",
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, text string, windows1252 bool) {
		declared := csvrows.Recognize
		if windows1252 {
			declared = csvrows.Windows1252
		}
		r, err := csvrows.NewCSV(strings.NewReader(text), declared)
		if err != nil {
			return
		}
		for number := 0; ; number = r.Row() {
			row, err := r.Next()
			if violations := (invalid.Fields)(nil); errors.As(err, &violations) {
				continue
			}
			if err != nil {
				return
			}
			if r.Row() <= number {
				t.Errorf("row %d comes after row %d", r.Row(), number)
			}
			for column, value := range row {
				if !utf8.ValidString(value) || len(value) > csvrows.MaxRow {
					t.Errorf("column %q: got value %q, want at most %d bytes of valid UTF-8", column, value, csvrows.MaxRow)
				}
			}
		}
	})
}

// FuzzFormula expects that what an export escapes is read as it was.
func FuzzFormula(f *testing.F) {
	for _, seed := range []string{"Hi", "=1+1", "'=1+1", "''-", "'", "'tis", "＝1", "\t\"", "@\n,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if !utf8.ValidString(value) || strings.ContainsAny(value, "\r\x00\ufffd") || strings.ContainsFunc(value, func(r rune) bool { return r >= 0x80 && r < 0xa0 }) {
			return // are read differently on purpose
		}
		var file strings.Builder
		w := csv.NewWriter(&file)
		_ = w.WriteAll([][]string{{"to", "text"}, {"+1", csvrows.EscapeFormula(value)}}) // a Builder returns no error
		r, err := csvrows.NewCSV(strings.NewReader(file.String()), csvrows.Recognize)
		if err != nil {
			t.Fatal(err)
		}
		if row, err := r.Next(); err != nil || row["text"] != value {
			t.Errorf("%q: got %q, %v", value, row["text"], err)
		}
	})
}

// FuzzRecords compares with encoding/csv, where that reads without an error.
func FuzzRecords(f *testing.F) {
	for _, seed := range []string{"1,a\n", "\"1\",\"a\"\"b\"\n2,\"c\nd\"", "1,\n\n2,b\n", "1,\"\"\n", " 1 , a \n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsAny(text, "\r\x00\ufffd'") || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 && r < 0xa0 }) {
			return // are read differently on purpose
		}
		text = "sep=,\nto,a\n" + text
		_, body, _ := strings.Cut(text, "\n")
		want, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		if err != nil {
			return
		}
		want = slices.DeleteFunc(want[1:], func(values []string) bool { return strings.TrimSpace(strings.Join(values, "")) == "" })
		var got [][]string
		r, err := csvrows.NewCSV(strings.NewReader(text), csvrows.Recognize)
		for err == nil {
			var row map[string]string
			if row, err = r.Next(); err == nil {
				got = append(got, []string{row["to"], row["a"]})
			}
		}
		if diff := cmp.Diff(want, got); !errors.Is(err, io.EOF) || len(want)+len(got) > 0 && diff != "" {
			t.Errorf("%q (-want +got):\n%s%v", text, diff, err)
		}
	})
}

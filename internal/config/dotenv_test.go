package config

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	compose "github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/google/go-cmp/cmp"
)

// sameForCompose has what docker compose, which reads the same file, understands as
// Postcard does.
var sameForCompose = map[string]struct {
	content string
	want    map[string]string
}{
	"plain":                        {"A=b\n", map[string]string{"A": "b"}},
	"no line end":                  {"A=b", map[string]string{"A": "b"}},
	"empty file":                   {"", map[string]string{}},
	"CRLF":                         {"A=b\r\nC=d\r\n", map[string]string{"A": "b", "C": "d"}},
	"CRLF, quoted":                 {"A='b'\r\nC=\"d\"\r\n", map[string]string{"A": "b", "C": "d"}},
	"byte order mark":              {"\ufeffA=b\n", map[string]string{"A": "b"}},
	"empty value":                  {"A=\nB=''\nC=\"\"\n", map[string]string{"A": "", "B": "", "C": ""}},
	"export":                       {"export A=b\n", map[string]string{"A": "b"}},
	"spaces":                       {"  A = b c  \n", map[string]string{"A": "b c"}},
	"colon":                        {"A: b\n", map[string]string{"A": "b"}},
	"equals sign in a value":       {"A=host=localhost dbname=postcard\n", map[string]string{"A": "host=localhost dbname=postcard"}},
	"comment":                      {"# x\n\n  # A=c\nA=b # c # d\n", map[string]string{"A": "b"}},
	"# in a value":                 {"A=b#c\nB=#c\n", map[string]string{"A": "b#c", "B": "#c"}},
	"quote in a value":             {"A=b'c'd\"e\n", map[string]string{"A": "b'c'd\"e"}},
	"backslash in a value":         {`A=b\nc` + "\n", map[string]string{"A": `b\nc`}},
	"single quotes":                {"A='b # \"c\" $d $$e ${F} \\n \\\\ ='\n", map[string]string{"A": "b # \"c\" $d $$e ${F} \\n \\\\ ="}},
	"single quote in single":       {`A='b\'c'` + "\n", map[string]string{"A": "b'c"}},
	"double quotes":                {`A="b # 'c' \"d\" \\ \n\t\$x"` + "\n", map[string]string{"A": "b # 'c' \"d\" \\ \n\t$x"}},
	"comment after quotes":         {"A='b' # c\nC=\"d\"# e\n", map[string]string{"A": "b", "C": "d"}},
	"several lines":                {"A='b\nc'\nD=\"e\nf\"\nG=h\n", map[string]string{"A": "b\nc", "D": "e\nf", "G": "h"}},
	"not ASCII":                    {"A='pässwörd €'\n", map[string]string{"A": "pässwörd €"}},
	"names that are almost export": {"exported=b\nexport=c\n", map[string]string{"exported": "b", "export": "c"}},
}

func TestDotenvAgreesWithCompose(t *testing.T) {
	t.Parallel()
	for name, tt := range sameForCompose {
		got, _, err := parseDotenv(tt.content)
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s (-want +got):\n%s%v", name, diff, err)
		}
		byCompose, err := compose.Parse(strings.NewReader(tt.content))
		if diff := cmp.Diff(tt.want, byCompose); diff != "" || err != nil {
			t.Errorf("%s: compose reads something else (-want +got):\n%s%v", name, diff, err)
		}
	}
}

// TestDotenvTakesValuesAsTheyStand has what compose would replace.
func TestDotenvTakesValuesAsTheyStand(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"A=ab$CD99x":     "ab$CD99x",
		"A=\"ab$CD99x\"": "ab$CD99x",
		"A=${HOME}$$x":   "${HOME}$$x",
		"A=$(id)":        "$(id)",
		"A=a\rB=c":       "a", // lone CR
		"A=a\t# b":       "a",
	} {
		got, _, err := parseDotenv(content)
		if got["A"] != want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", content, got["A"], err, want)
		}
	}
}

func TestDotenvErrors(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"\n# x\nPLIVO_AUTH_TOKEN hush\n": "line 3 is not of the form NAME=value",
		"A=b\nexport PLIVO_AUTH_TOKEN\n": "line 2 is not of the form NAME=value",
		"a-b=hush\n":                     "line 1 is not of the form NAME=value",
		"=hush\n":                        "line 1 is not of the form NAME=value",
		"A=b\n\nB='hush\nC=d\n":          "line 3: the quote at which the value of B begins is never closed",
		"A=\"hush\n":                     "line 1: the quote at which the value of A begins is never closed",
		"A='hush\nB='c'\n":               "line 1: the value of A ends in line 2 with a quote that is followed by more text",
		"A='hu'sh'\n":                    "line 1: the value of A ends in line 1 with a quote that is followed by more text",
		"X=1\nA=\"b\nhu\\sh\"\n":         "line 3: in double quotes, a backslash in the value of A must be written \\\\",
		"A= # hush\n":                    "line 1: the value of A begins with #",
		"A=hush\nB=1\nA=hush2\n":         "line 3 sets A, which line 1 sets already",
		"\xff\xfeA\x00=\x00b\x00":        "it is in UTF-16, but must be in UTF-8",
		"A=b\nB=h\xfcsh\n":               "line 2 is not text in UTF-8",
		"A=b\nB=hu\x00sh\n":              "line 2 is not text in UTF-8",
		"A=b\r\rB hush":                  "line 3 is not of the form NAME=value",
	} {
		_, _, err := parseDotenv(content)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hu") {
			t.Errorf("%q: got error %v, want %q", content, err, want)
		}
	}
}

// TestExampleIsReadable also sets the variables that the example has as comments.
func TestExampleIsReadable(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../.env.example")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^# ([A-Z_]+=)`).ReplaceAllString(string(content), "$1")
	vars, lines, err := parseDotenv(all)
	if err != nil || misspelled(lines) != nil || len(vars) < 30 {
		t.Errorf("got %d variables, %v, %v", len(vars), err, misspelled(lines))
	}
}

// FuzzDotenv expects that a value in single quotes is taken as it stands, by compose as
// well.
func FuzzDotenv(f *testing.F) {
	for _, tt := range sameForCompose {
		f.Add(tt.content)
	}
	for _, seed := range []string{"ab$CD99x", "A='b", "A=\"\\", "A=\"b\\q\"", "export  A", "A='b'c", "A= #", "\r\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		vars, lines, err := parseDotenv(text)
		if err == nil && len(vars) != len(lines) {
			t.Errorf("got %d variables and %d lines", len(vars), len(lines))
		}
		if checkEncoding(text) != nil || strings.ContainsAny(text, `'\`+"\r") {
			return
		}
		content := fmt.Sprintf("A='%s'\nB='c'\n", text)
		want := map[string]string{"A": text, "B": "c"}
		if got, _, err := parseDotenv(content); !cmp.Equal(got, want) || err != nil {
			t.Errorf("%q: got %q, %v", content, got, err)
		}
		if got, err := compose.Parse(strings.NewReader(content)); !cmp.Equal(got, want) || err != nil {
			t.Errorf("%q: compose reads %q, %v", content, got, err)
		}
	})
}

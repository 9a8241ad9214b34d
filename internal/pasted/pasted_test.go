package pasted

import (
	"strings"
	"testing"
)

// invisible are characters that come with pasted values.
var invisible = []rune{
	0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x202A, 0x202B, 0x202C, 0x202D, 0x202E,
	0x2060, 0x2066, 0x2067, 0x2068, 0x2069, 0xFEFF, 0x00AD, 0x061C, 0x180E, 0xFE0F, 0x034F, 0x3164, 0xE0020,
}

// spaces are characters that look like a space.
var spaces = []rune{' ', '\t', '\n', '\r', 0x00A0, 0x2002, 0x2007, 0x2009, 0x200A, 0x202F, 0x205F, 0x3000, 0x2028, 0x0085}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "a b": "a b", "\u202a+1 415\u202c": "+1 415", "\ufeffa": "a", "a\u00a0b\u00a0": "a b", "\u200b \u200b": "",
		"“a”": "“a”", "é": "é", "\xff\u200b": "\xff\u200b", "\u0601": "\u0601",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
	for _, r := range invisible {
		if got := Clean("a" + string(r) + "b"); got != "ab" {
			t.Errorf("%U inside: got %q, want it removed", r, got)
		}
	}
	for _, r := range spaces {
		if got := Clean(string(r) + "a" + string(r) + "b" + string(r)); got != "a b" {
			t.Errorf("%U: got %q, want an ordinary space inside", r, got)
		}
	}
}

func TestTrim(t *testing.T) {
	t.Parallel()
	for _, r := range append(invisible, spaces...) {
		inner := "https://example.com/a" + string(r) + "b"
		if got := Trim(string(r) + inner + string(r)); got != inner {
			t.Errorf("%U: got %q, want %q", r, got, inner)
		}
	}
}

func TestInvisible(t *testing.T) {
	t.Parallel()
	for _, r := range invisible {
		if got, i := Invisible("é" + string(r)); got != r || i != 1 {
			t.Errorf("%U: got %U at %d", r, got, i)
		}
	}
	if r, i := Invisible("https://example.com/ü b"); i != -1 {
		t.Errorf("got %U at %d, want none", r, i)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\u202a+1 415\u00a0555\u202c")
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if again := Clean(got); again != got {
			t.Errorf("Clean(%q) = %q, and again %q", s, got, again)
		}
		if _, i := Invisible(got); i >= 0 || strings.ContainsAny(got, "\n\t\u00a0") {
			t.Errorf("Clean(%q) = %q, want no invisible characters and only ordinary spaces", s, got)
		}
	})
}

package plivosim

import "strings"

// digitsOf returns the ASCII digits of a number in any format.
func digitsOf(s string) string {
	return keep(s, func(r rune) bool { return '0' <= r && r <= '9' })
}

// cleanSource removes everything but ASCII letters and digits, as documented for src.
func cleanSource(s string) string {
	return keep(s, func(r rune) bool {
		return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	})
}

// cleanDestination removes / - . + ( ) and white space, as documented for dst.
func cleanDestination(s string) string {
	return keep(s, func(r rune) bool { return !strings.ContainsRune("/-.+() \t\r\n", r) })
}

func keep(s string, wanted func(rune) bool) string {
	return strings.Map(func(r rune) rune {
		if wanted(r) {
			return r
		}
		return -1
	}, s)
}

// isPhone reports whether s is digits of a plausible length: at most 14 as
// documented, at least 8 by our choice.
func isPhone(s string) bool {
	return len(s) >= 8 && len(s) <= 14 && digitsOf(s) == s && s[0] != '0'
}

// isNorthAmerican reports whether s is a number of the US or Canada, the only
// countries with MMS: country code 1, area code and exchange from 200, and no
// area code of another country under +1.
func isNorthAmerican(s string) bool {
	return len(s) == 11 && digitsOf(s) == s && s[0] == '1' &&
		s[1] >= '2' && s[4] >= '2' && !strings.Contains(caribbean, s[1:4])
}

// caribbean holds the area codes of the independent countries and British and
// Dutch territories under +1.
const caribbean = "242 246 264 268 284 345 441 473 649 658 664 721 758 767 784 809 829 849 868 869 876"

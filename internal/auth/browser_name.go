package auth

import (
	"regexp"
	"strings"
)

const unknownBrowser = "Unknown browser"

// browserMarks and systemMarks tell a browser and its operating system by what its
// User-Agent contains. The first match counts: most browsers name others too.
var (
	browserMarks = []struct{ mark, name string }{
		{"Edg", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"},
		{"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Version/", "Safari"},
	}
	systemMarks = []struct{ mark, name string }{
		{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"Macintosh", "macOS"},
		{"CrOS", "ChromeOS"}, {"Linux", "Linux"},
	}
)

// program matches the name of a program, such as curl, at the start of a User-Agent.
var program = regexp.MustCompile(`^[A-Za-z][A-Za-z -]{0,39}`)

// browserName returns a short name such as "Firefox on Windows" for a User-Agent header. It
// is only as true as the header.
func browserName(userAgent string) string {
	if !strings.HasPrefix(userAgent, "Mozilla/") {
		if name := strings.TrimSpace(program.FindString(userAgent)); name != "" {
			return name
		}
		return unknownBrowser
	}
	name := unknownBrowser
	for _, b := range browserMarks {
		if strings.Contains(userAgent, b.mark) {
			name = b.name
			break
		}
	}
	for _, s := range systemMarks {
		if strings.Contains(userAgent, s.mark) {
			return name + " on " + s.name
		}
	}
	return name
}

package mms

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestParseTypedPhoneNumber(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]PhoneNumber{
		"+14155550123": "+14155550123", "(415) 555-0123": "+14155550123", "415.555.0123": "+14155550123", "415-555-0123": "+14155550123",
		"4155550123": "+14155550123", "14155550123": "+14155550123", " 1 415 555 0123 ": "+14155550123", "1 (415) 555-0123": "+14155550123",
		"+1 (416) 555-0123": "+14165550123", "+44 20 7946 0958": "+442079460958", "\t+14155550123\r\n": "+14155550123",
		"tel:+14155550123": "+14155550123", "tel:4155550123": "+14155550123", "tel:+1-415-555-0123": "+14155550123", "sms:+14155550123": "+14155550123",
		"+1 800 411 7246": "+18004117246", "+1 415 411 7246": "",

		// invisible characters, unusual spaces, full-width forms and dashes
		"\u202a+14155550123\u202c": "+14155550123", "\u202d+1 415\u202c 555 0123\u202e": "+14155550123", "\u2066+14155550123\u2069": "+14155550123",
		"\ufeff+14155550123": "+14155550123", "+1415\u200b5550123": "+14155550123", "\u200e+14155550123\u200f": "+14155550123",
		"415\u00ad555\u00ad0123": "+14155550123", "415\u20605550123": "+14155550123", "+1\u00a0415\u00a0555\u00a00123": "+14155550123",
		"+1\u202f415\u2009555\u20070123": "+14155550123", "\u3000+14155550123": "+14155550123", "＋１４１５５５５０１２３": "+14155550123",
		"（４１５）５５５－０１２３": "+14155550123", "415‐555‐0123": "+14155550123", "415‑555‑0123": "+14155550123", "415–555–0123": "+14155550123",
		"415—555—0123": "+14155550123", "415−555−0123": "+14155550123", "+١٤١٥٥٥٥٠١٢٣": "+14155550123",

		// possible, though not in the compiled-in list
		"+16245550142": "+16245550142", "(565) 555-0142": "+15655550142", "4365550142": "+14365550142", "+1 457 555 0142": "+14575550142",
		"+14715550142": "+14715550142", "+14835550142": "+14835550142", "+16215550142": "+16215550142", "+16795550142": "+16795550142",
		"+17295550142": "+17295550142", "+18375550142": "+18375550142", "+19245550142": "+19245550142", "+18615550142": "+18615550142",

		"": "", "12": "", "415555012": "", "41555501234": "", "+1415555012": "", "+141555501234": "", "+1415555012345678": "", "call me": "", "+": "",
		"415-555-0123 ext. 5": "", "+1415555012a": "", "+04155550123": "", "4155550123 4155550124": "", "4155550123, 4165550123": "", "\u200b": "",
		"+1 999 555 0123": "", "+10155550123": "", "+11155550123": "", "+19115550123": "", "+14110550123": "",
		"+14150550123": "", "+14151550123": "", "+14159110123": "", "+14152110123": "", "442079460958": "",
		"1.41556E+10": "", "1,41556E+10": "", "4.155550123E9": "", "1.4155550123e+10": "", "14155550123.0": "", "+14155550123.00": "", "1415555012.0": "",
	} {
		got, err := ParseTypedPhoneNumber(typed)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseTypedPhoneNumber(%q) = %q, %v, want %q", typed, got, err, want)
		}
	}
}

// TestPhoneNumberErrors tests that an error says what is wrong with the number.
func TestPhoneNumberErrors(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"1.41556E+10": "spreadsheet", "1,41556e+10": "spreadsheet", "4.155550123E9": "spreadsheet", "＋1.41556E+10": "spreadsheet",
		"14155550123.0": "decimal number", "1415555012.0": "decimal number", "4155550123,00": "decimal number",
		"415555012": "has 9 digits", "41555501234": "has 11 digits", "5550123": "has 7 digits", "442079460958": "has 12 digits",
		"+10155550123": "no area code begins with 0", "+11155550123": "no area code begins with 1", "+19115550123": "911 is a service code", "+12995550123": "9 in the middle",
		"+14150550123": "never begin with 0", "+14151550123": "never begin with 1", "+14159110123": "cannot be 911",
		"415-555-0123 x5": "extension", "415-555-0123 / x5550124": "extension", "(415) 555-0123\\x6": "extension", "4155550123;isub=12": "extension", "call me": "must be a phone number", "+44 20": "country code", "+44": "must be a phone number", "+44207946095": "country code",
	} {
		if _, err := ParseTypedPhoneNumber(typed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseTypedPhoneNumber(%q): got error %v, want %q in it", typed, err, want)
		}
	}
}

func TestPhoneNumberWarning(t *testing.T) {
	t.Parallel()
	for n, warned := range map[PhoneNumber]bool{
		"+14155550123": false, "+14165550123": false, "+18005550199": false, "+17875550123": false, "+442079460958": false, "": false, "12345": false,
		"+16245550142": true, "+18615550142": true, "+13402345678": true,
	} {
		if got := n.Warning(); (got != "") != warned || (warned && !strings.Contains(got, string(n[2:5]))) {
			t.Errorf("%s: got warning %q, want one: %t", n, got, warned)
		}
	}
}

func TestFictionalNumbers(t *testing.T) {
	t.Parallel()
	for n, want := range map[PhoneNumber]bool{
		"+14155550100": true, "+14165550199": true, "+14155550200": false, "+14155551234": false, "+18005550123": false, "+442079460958": false, "": false,
	} {
		if got := n.IsFictional(); got != want {
			t.Errorf("%s: got %t, want %t", n, got, want)
		}
	}
}

// FuzzParseTypedPhoneNumber ensures that a number is read as itself again, also as it
// is shown to people and with invisible characters.
func FuzzParseTypedPhoneNumber(f *testing.F) {
	for _, seed := range []string{
		"+14155550123", "(415) 555-0123", "\u202a+1 415 555 0123\u202c", "tel:415-555-0123", "１４１５５５５０１２３", "1.41556E+10", "14155550123.0",
		"+442079460958", "+39 06 6982", "1-800-FLOWERS", "415-555-0123;ext=5", "+1 624 555 0142", "011 44 20 7946 0958", "tel:5550123;phone-context=+1415", "+49996969996083900",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseTypedPhoneNumber(s)
		if (err == nil) != e164.MatchString(string(n)) {
			t.Fatalf("ParseTypedPhoneNumber(%q) = %q, %v", s, n, err)
		}
		var spread strings.Builder
		for _, r := range s {
			spread.WriteString("\u202a" + string(r) + "\u200b")
		}
		if again, _ := ParseTypedPhoneNumber(spread.String()); again != n {
			t.Errorf("%q: got %q, and %q with invisible characters", s, n, again)
		}
		if err != nil {
			return
		}
		for _, shown := range []string{string(n), n.International(), " " + n.International() + "\u00a0"} {
			if again, err := ParseTypedPhoneNumber(shown); again != n {
				t.Errorf("%q, read as %q, is shown as %q, which is read as %q, %v", s, n, shown, again, err)
			}
		}
		_, _ = n.Warning(), n.IsFictional()
	})
}

// e164 is the form of a number: up to 15 digits (ITU-T E.164).
var e164 = regexp.MustCompile(`^\+[1-9][0-9]{5,14}$`)

func TestLogsMaskPhoneNumbers(t *testing.T) {
	t.Parallel()
	for n, want := range map[PhoneNumber]string{"+14155550123": "…23", "": "…"} {
		if got := n.LogValue().String(); got != want {
			t.Errorf("%q is logged as %q, want %q", n, got, want)
		}
	}
}

func TestDefaultInterval(t *testing.T) {
	t.Parallel()
	for n, want := range map[PhoneNumber]time.Duration{"+14155550100": 4 * time.Second, "+18005550100": 500 * time.Millisecond} {
		if got := n.DefaultInterval(); got < want || got > want+want/50 {
			t.Errorf("%s: got %v, want a little over %v", n, got, want)
		}
	}
	for rate, want := range map[float64]string{0: "no rate limit", 0.5: "0.5 messages a minute", 1: "1 message a minute", 15: "15 messages a minute", 120: "120 messages a minute", 7.25: "7.25 messages a minute"} {
		if got := DescribeRate(IntervalForRate(rate)); got != want {
			t.Errorf("DescribeRate of %v a minute = %q, want %q", rate, got, want)
		}
	}
	if got := IntervalForRate(0); got != 0 {
		t.Errorf("IntervalForRate(0) = %v, want 0", got)
	}
}

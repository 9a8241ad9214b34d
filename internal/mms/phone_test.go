package mms

import (
	"testing"
	"time"
)

func TestParseTypedPhoneNumber(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]PhoneNumber{
		"+14155550123": "+14155550123", "(415) 555-0123": "+14155550123", "415.555.0123": "+14155550123",
		" 1 415 555 0123 ": "+14155550123", "+1 (416) 555-0123": "+14165550123", "+44 20 7946 0958": "+442079460958",
		"": "", "12": "", "415555012": "", "+1415555012345678": "", "call me": "", "415-555-0123 ext. 5": "", "+1 999 555 0123": "",
	} {
		got, err := ParseTypedPhoneNumber(typed)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseTypedPhoneNumber(%q) = %q, %v, want %q", typed, got, err, want)
		}
	}
}

func TestParsePhoneNumberRequiresE164(t *testing.T) {
	t.Parallel()
	for _, typed := range []string{"4155550123", "+1 4155550123", "+1415555012a", "+04155550123", "", "+", "＋14155550123", "+١٤١٥٥٥٥٠١٢٣"} {
		if n, err := ParsePhoneNumber(typed); err == nil {
			t.Errorf("ParsePhoneNumber(%q) = %q, want an error", typed, n)
		}
	}
}

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
	if got := IntervalForRate(0); got != 0 {
		t.Errorf("IntervalForRate(0) = %v, want 0", got)
	}
}

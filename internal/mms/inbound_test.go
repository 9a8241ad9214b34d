package mms

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSuppressions(t *testing.T) {
	t.Parallel()
	senders := []PhoneNumber{"+14155550100", "+14155550101"}
	got, err := ParseSuppressions("\n (415) 555-0123 ;\r\n+14165550124,", "", senders)
	want := []Suppression{
		{Recipient: "+14155550123", Reason: SuppressedByAdmin}, // for every sender, also one that is added later
		{Recipient: "+14165550124", Reason: SuppressedByAdmin},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("ParseSuppressions() (-want +got):\n%s%v", diff, err)
	}
	if got, err := ParseSuppressions("4155550123", string(senders[1]), senders); err != nil || len(got) != 1 || got[0].Sender != senders[1] {
		t.Errorf("for one sender: got %+v, %v; want only %s", got, err, senders[1])
	}
	for name, tt := range map[string][3]string{
		"no number":          {"", "", "numbers are missing"},
		"unknown sender":     {"4155550123", "+14155550199", "sender is not one"},
		"invalid line":       {"4155550123\nx", "", "numbers line 2"},
		"many invalid lines": {strings.Repeat("x\n", 5000), "", "line 10 "},
	} {
		_, err := ParseSuppressions(tt[0], tt[1], senders)
		if err == nil || !strings.Contains(err.Error(), tt[2]) || strings.Count(fmt.Sprint(err), "line") > maxLineErrors {
			t.Errorf("%s: got %v, want %q in at most %d lines", name, err, tt[2], maxLineErrors)
		}
	}
}

package mms

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
)

var (
	noon      = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	testRules = Rules{Countries: []string{"US", "CA"}, Senders: []PhoneNumber{"+14155550100", "+14155550101"}}
	goodDraft = CreateParams{To: "+14155550123", From: "+14155550100", Text: "Hi", MediaURL: "https://example.com/a.jpg"}
)

func check(d CreateParams) (Message, []string) {
	m, err := testRules.Validate(d, uuid.UUID{15: 1}, uuid.UUID{15: 2}, noon)
	var faults invalid.Fields
	errors.As(err, &faults)
	var list []string
	for _, f := range faults {
		list = append(list, f.Name+" "+f.Rule)
	}
	return m, list
}

func TestHowLongAMessageMayWait(t *testing.T) {
	t.Parallel()
	rules := Rules{Countries: []string{"US"}, Senders: []PhoneNumber{"+14155550100"}}
	for seconds, want := range map[int]time.Duration{
		59: 0, 60: MinValidFor, 7200: 2 * time.Hour, 2_592_000: MaxValidFor, 2_592_001: 0, 0: 0, -1: 0, math.MaxInt: 0, math.MinInt: 0,
	} {
		m, err := rules.Validate(CreateParams{To: "+14155550123", MediaURL: "https://example.com/a.jpg", ValidFor: &seconds}, uuid.Nil, uuid.Nil, noon)
		if m.ValidFor != want || (err == nil) != (want != 0) || err != nil && !strings.Contains(err.Error(), "validFor") {
			t.Errorf("valid for %d seconds = %v, %v; want %v", seconds, m.ValidFor, err, want)
		}
	}
}

func TestCheckMakesAMessage(t *testing.T) {
	t.Parallel()
	d := goodDraft
	d.Text = "a\r\nb"
	got, faults := check(d)
	want := Message{
		ID: uuid.UUID{15: 1}, Owner: uuid.UUID{15: 2}, Sender: "+14155550100", Recipient: "+14155550123",
		Text: "a\nb", MediaURLs: []string{"https://example.com/a.jpg"}, Status: Queued, Priority: Normal, Version: 1, ValidFor: DefaultValidFor,
	}
	if diff := cmp.Diff(want, got); diff != "" || faults != nil {
		t.Errorf("Check() (-want +got):\n%s%v", diff, faults)
	}
}

func TestCheckListsEveryFault(t *testing.T) {
	t.Parallel()
	many := slices.Repeat([]string{"https://example.com/a.jpg"}, MaxMedia+1)
	tests := map[string]struct {
		change func(*CreateParams)
		want   []string
	}{
		"nothing at all":           {func(d *CreateParams) { *d = CreateParams{} }, []string{"to required", "mediaUrl required"}},
		"everything wrong":         {func(d *CreateParams) { *d = CreateParams{To: "123", From: "+1", Text: "\x00", MediaURL: "ftp://x"} }, []string{"to e164", "from sender", "text control", "mediaUrl media_url"}},
		"another country":          {func(d *CreateParams) { d.To = "+442079460958" }, []string{"to country"}},
		"Puerto Rico":              {func(d *CreateParams) { d.To = "+17875550123" }, []string{"to country"}},
		"Jamaica":                  {func(d *CreateParams) { d.To = "+18765550123" }, []string{"to country"}},
		"not E.164":                {func(d *CreateParams) { d.To = "(415) 555-0123" }, []string{"to e164"}},
		"the sender itself":        {func(d *CreateParams) { d.To = "+14155550100" }, []string{"to not_sender"}},
		"a sender that is no ours": {func(d *CreateParams) { d.From = "+14155550199" }, []string{"from sender"}},
		"the longest text":         {func(d *CreateParams) { d.Text = strings.Repeat("é", MaxText) }, nil},
		"a text too long":          {func(d *CreateParams) { d.Text = strings.Repeat("é", MaxText+1) }, []string{"text max_length"}},
		"a tab":                    {func(d *CreateParams) { d.Text = "a\tb" }, []string{"text control"}},
		"no UTF-8":                 {func(d *CreateParams) { d.Text = "\xff" }, []string{"text utf8"}},
		"no text":                  {func(d *CreateParams) { d.Text = "" }, nil},
		"one and several pictures": {func(d *CreateParams) { d.MediaURLs = many[:1] }, []string{"mediaUrls one_of"}},
		"ten pictures":             {func(d *CreateParams) { d.MediaURL, d.MediaURLs = "", many[:MaxMedia] }, nil},
		"eleven pictures":          {func(d *CreateParams) { d.MediaURL, d.MediaURLs = "", many }, []string{"mediaUrls max_items"}},
		"the second picture":       {func(d *CreateParams) { d.MediaURL, d.MediaURLs = "", []string{many[0], "x", many[0], ""} }, []string{"mediaUrls[1] media_url", "mediaUrls[3] media_url"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := goodDraft
			tt.change(&d)
			m, faults := check(d)
			if diff := cmp.Diff(tt.want, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if len(faults) > 0 && m.ID != uuid.Nil {
				t.Error("a message was made in spite of faults")
			}
		})
	}
}

func TestTheChosenSender(t *testing.T) {
	t.Parallel()
	used := map[PhoneNumber]int{}
	for i := range 100 {
		d := goodDraft
		d.From, d.To = "", fmt.Sprintf("+1416555%04d", i)
		first, faults := check(d)
		again, _ := check(d)
		if faults != nil || first.Sender != again.Sender {
			t.Fatalf("%s: %v; sender %s, then %s", d.To, faults, first.Sender, again.Sender)
		}
		used[first.Sender]++
	}
	if len(used) != 2 || used["+14155550100"] < 25 || used["+14155550101"] < 25 {
		t.Errorf("the senders were used %v times", used)
	}
	d := goodDraft
	d.From, d.To = "", "+14155550101"
	if m, faults := check(d); faults != nil || m.Sender != "+14155550100" {
		t.Errorf("to a sender of ours: from %s, %v", m.Sender, faults)
	}
}

func TestReadNumber(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]PhoneNumber{
		"+14155550123": "+14155550123", "(415) 555-0123": "+14155550123", "415.555.0123": "+14155550123",
		" 1 415 555 0123 ": "+14155550123", "+1 (416) 555-0123": "+14165550123", "+44 20 7946 0958": "+442079460958",
		"": "", "12": "", "415555012": "", "+1415555012345678": "", "call me": "", "415-555-0123 ext. 5": "", "+1 999 555 0123": "",
	} {
		got, err := ParseTypedPhoneNumber(typed)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ReadNumber(%q) = %q, %v, want %q", typed, got, err, want)
		}
	}
	for _, typed := range []string{"4155550123", "+1 4155550123", "+1415555012a", "+04155550123", "", "+", "＋14155550123", "+١٤١٥٥٥٥٠١٢٣"} {
		if n, err := ParsePhoneNumber(typed); err == nil {
			t.Errorf("ParseNumber(%q) = %q, want an error", typed, n)
		}
	}
}

func TestANumberIsMaskedInLogs(t *testing.T) {
	t.Parallel()
	if got := PhoneNumber("+14155550123").LogValue().String(); strings.Contains(got, "415") || !strings.HasSuffix(got, "23") {
		t.Errorf("logged as %q", got)
	}
	if got := PhoneNumber("").LogValue().String(); got != "…" {
		t.Errorf("an empty number is logged as %q", got)
	}
}

func TestMediaURLs(t *testing.T) {
	t.Parallel()
	for raw, ok := range map[string]bool{
		"https://example.com/a.jpg": true, "HTTP://EXAMPLE.COM": true, "https://example.com:8443/a?b=c#d": true, "https://bücher.example/ü": true,
		"https://93.184.216.34/a": true, "https://[2606:2800:220:1::1]/a": true,
		"https://e.com/" + strings.Repeat("x", MaxMediaURL-14): true,
		"https://e.com/" + strings.Repeat("x", MaxMediaURL-13): false,

		"": false, "example.com/a.jpg": false, "//example.com/a": false, "https://": false, "https:///a": false, "ftp://example.com": false,
		"javascript:alert(1)": false, "data:image/png;base64,x": false, "https://user:pw@example.com/": false, "https://example.com/a b": false,
		"https://example.com/\n": false, "https://example.com/\xff": false, "https://exa mple.com": false,
		"http://localhost/": false, "http://localhost./": false, "http://printer/": false, "http://nas.local/": false, "http://db.internal/": false,
		"http://127.0.0.1/": false, "http://127.1/": false, "http://2130706433/": false, "http://0x7f.1/": false, "http://0177.0.0.1/": false,
		"http://10.0.0.1/": false, "http://192.168.1.1/": false, "http://172.31.0.1/": false, "http://169.254.169.254/": false, "http://100.64.0.1/": false,
		"http://0.0.0.0/": false, "http://224.0.0.1/": false, "http://255.255.255.255/": false,
		"http://[::1]/": false, "http://[::]/": false, "http://[::ffff:10.0.0.1]/": false, "http://[fd00::1]/": false, "http://[fe80::1]/": false,
		"http://[fe80::1%25eth0]/": false, "http://[64:ff9b::a00:1]/": false,
	} {
		if err := validateMediaURL(raw, false); (err == nil) != ok {
			t.Errorf("checkMediaURL(%.60q) = %v, want ok %v", raw, err, ok)
		}
	}
	if err := validateMediaURL("http://localhost/a.jpg", true); err != nil {
		t.Errorf("a private host where it is allowed: %v", err)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("+14155550123", "+14155550100", "Hi", "https://example.com/a.jpg")
	f.Add("(415) 555-0123", "", "\x00\xff", "http://[::1%25]/")
	f.Fuzz(func(t *testing.T, to, from, text, media string) {
		_, _ = ParseTypedPhoneNumber(to)
		m, faults := check(CreateParams{To: to, From: from, Text: text, MediaURL: media})
		if faults == nil && (!e164.MatchString(string(m.Recipient)) || m.Sender == m.Recipient ||
			!utf8.ValidString(m.Text) || !utf8.ValidString(m.MediaURLs[0]) || utf8.RuneCountInString(m.Text) > MaxText) {
			t.Errorf("accepted %+v", m)
		}
	})
}

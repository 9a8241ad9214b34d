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
	"github.com/postcard-mms/postcard/internal/pasted"
)

var (
	noon        = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	testRules   = Rules{Countries: []string{"US", "CA"}, Senders: []PhoneNumber{"+14155550100", "+14155550101"}}
	validParams = CreateParams{To: "+14155550123", From: "+14155550100", Text: "Hi", MediaURL: "https://example.com/a.jpg"}
)

// validate returns the message, and the violations as "field rule".
func validate(p CreateParams) (Message, []string) {
	m, err := testRules.Validate(p, uuid.UUID{15: 1}, uuid.UUID{15: 2}, noon)
	var violations invalid.Fields
	errors.As(err, &violations)
	var list []string
	for _, v := range violations {
		list = append(list, v.Name+" "+v.Rule)
	}
	return m, list
}

func TestValidateMakesAMessage(t *testing.T) {
	t.Parallel()
	params := validParams
	params.Text = "a\r\nb"
	got, violations := validate(params)
	want := Message{
		ID: uuid.UUID{15: 1}, Workspace: uuid.UUID{15: 2}, Sender: "+14155550100", Recipient: "+14155550123",
		Text: "a\nb", MediaURLs: []string{"https://example.com/a.jpg"}, Status: Queued, Priority: Normal, Version: 1, ValidFor: DefaultValidFor, Fit: FitAuto,
	}
	if diff := cmp.Diff(want, got); diff != "" || violations != nil {
		t.Errorf("Validate() (-want +got):\n%s%v", diff, violations)
	}
}

func TestTextsAsProgramsSaveThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a\r\nb\rc\n\r\nd":        "a\nb\nc\n\nd",
		"a\vb\u2028c\u2029d":      "a\nb\nc\nd",
		"a\tb":                    "a b",
		"\r":                      "\n",
		"José ’\u00a0\U0001f600 ": "José ’\u00a0\U0001f600 ",
	} {
		params := validParams
		params.Text = text
		if m, violations := validate(params); m.Text != want || violations != nil {
			t.Errorf("%q: got %q, %v, want %q", text, m.Text, violations, want)
		}
	}
}

func TestValidateListsEveryViolation(t *testing.T) {
	t.Parallel()
	tooMany := slices.Repeat([]string{"https://example.com/a.jpg"}, MaxMedia+1)
	tests := map[string]struct {
		change func(*CreateParams)
		want   []string
	}{
		"nothing given":          {func(p *CreateParams) { *p = CreateParams{} }, []string{"to required", "mediaUrl required"}},
		"everything wrong":       {func(p *CreateParams) { *p = CreateParams{To: "123", From: "+1", Text: "\x00", MediaURL: "ftp://x"} }, []string{"to e164", "from sender", "text control", "mediaUrl media_url"}},
		"other country":          {func(p *CreateParams) { p.To = "+442079460958" }, []string{"to country"}},
		"Jamaica":                {func(p *CreateParams) { p.To = "+18765550123" }, []string{"to country"}},
		"not E.164":              {func(p *CreateParams) { p.To = "(415) 555-0123" }, nil},
		"pasted":                 {func(p *CreateParams) { p.To = "\u202a+1 415 555 0123\u202c"; p.From = "\ufeff(415) 555-0100" }, nil},
		"only invisible":         {func(p *CreateParams) { p.To = "\u202a\u202c " }, []string{"to required"}},
		"new area code":          {func(p *CreateParams) { p.To = "+16245550123" }, nil},
		"premium rate":           {func(p *CreateParams) { p.To = "+19002345678" }, []string{"to unreachable"}},
		"sender as recipient":    {func(p *CreateParams) { p.To = "+14155550100" }, []string{"to not_sender"}},
		"unknown sender":         {func(p *CreateParams) { p.From = "+14155550199" }, []string{"from sender"}},
		"longest text":           {func(p *CreateParams) { p.Text = strings.Repeat("é", MaxText) }, nil},
		"too long text":          {func(p *CreateParams) { p.Text = strings.Repeat("é", MaxText+1) }, []string{"text max_length"}},
		"control in text":        {func(p *CreateParams) { p.Text = "a\x1bb" }, []string{"text control"}},
		"control beyond ASCII":   {func(p *CreateParams) { p.Text = "a\u0085b" }, []string{"text control"}}, // an ellipsis in Windows-1252
		"invalid UTF-8":          {func(p *CreateParams) { p.Text = "\xff" }, []string{"text utf8"}},
		"no text":                {func(p *CreateParams) { p.Text = "" }, nil},
		"mediaUrl and mediaUrls": {func(p *CreateParams) { p.MediaURLs = tooMany[:1] }, []string{"mediaUrls exclusive"}},
		"ten pictures":           {func(p *CreateParams) { p.MediaURL, p.MediaURLs = "", tooMany[:MaxMedia] }, nil},
		"an upload alone":        {func(p *CreateParams) { p.MediaURL, p.MediaIDs = "", []string{"0190A1B2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"} }, nil},
		"no id of an upload":     {func(p *CreateParams) { p.MediaIDs = []string{"x"} }, []string{"mediaIds[0] uuid"}},
		"ten uploads and a picture": {func(p *CreateParams) {
			p.MediaIDs = slices.Repeat([]string{"0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"}, 10)
		}, []string{"mediaUrls max_items"}},
		"a fit that does not exist": {func(p *CreateParams) { p.Fit = "yes" }, []string{"fit one_of"}},
		"eleven pictures":           {func(p *CreateParams) { p.MediaURL, p.MediaURLs = "", tooMany }, []string{"mediaUrls max_items"}},
		"second and fourth picture": {func(p *CreateParams) { p.MediaURL, p.MediaURLs = "", []string{tooMany[0], "x", tooMany[0], ""} }, []string{"mediaUrls[1] media_url", "mediaUrls[3] media_url"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			params := validParams
			tt.change(&params)
			m, violations := validate(params)
			if diff := cmp.Diff(tt.want, violations); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
			if len(violations) > 0 && m.ID != uuid.Nil {
				t.Errorf("got message %s, want none", m.ID)
			}
		})
	}
}

func TestValidFor(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int]time.Duration{
		59: 0, 60: MinValidFor, 7200: 2 * time.Hour, 2_592_000: MaxValidFor, 2_592_001: 0, 0: 0, -1: 0, math.MaxInt: 0, math.MinInt: 0,
	} {
		params := validParams
		params.ValidFor = &seconds
		m, violations := validate(params)
		var wantViolations []string
		if want == 0 {
			wantViolations = []string{"validFor range"}
		}
		if m.ValidFor != want || !slices.Equal(violations, wantViolations) {
			t.Errorf("%d seconds: got %v, %v; want %v, %v", seconds, m.ValidFor, violations, want, wantViolations)
		}
	}
}

func TestChosenSenderIsStablePerRecipient(t *testing.T) {
	t.Parallel()
	used := map[PhoneNumber]int{}
	for i := range 100 {
		params := validParams
		params.From, params.To = "", fmt.Sprintf("+1416555%04d", i)
		first, violations := validate(params)
		second, _ := validate(params)
		if violations != nil || first.Sender != second.Sender {
			t.Fatalf("%s: got senders %s and %s, %v; want the same one", params.To, first.Sender, second.Sender, violations)
		}
		used[first.Sender]++
	}
	if len(used) != 2 || used["+14155550100"] < 25 || used["+14155550101"] < 25 {
		t.Errorf("got senders %v, want both, at least 25 times each", used)
	}
	params := validParams
	params.From, params.To = "", "+14155550101"
	if m, violations := validate(params); violations != nil || m.Sender != "+14155550100" {
		t.Errorf("recipient is a sender: got sender %s, %v; want the other one", m.Sender, violations)
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("+14155550123", "+14155550100", "Hi", "https://example.com/a.jpg")
	f.Add("(415) 555-0123", "", "\x00\xff", "http://[::1%25]/")
	f.Add("\u202a+1 624 555 0123\u202c", "\ufeff+14155550100", "\u200b", "\u00a0https://example.com/\u200ba.jpg\u200b")
	f.Fuzz(func(t *testing.T, to, from, text, media string) {
		m, violations := validate(CreateParams{To: to, From: from, Text: text, MediaURL: media})
		if violations == nil && (!e164.MatchString(string(m.Recipient)) || m.Sender == m.Recipient ||
			!utf8.ValidString(m.Text) || !utf8.ValidString(m.MediaURLs[0]) || utf8.RuneCountInString(m.Text) > MaxText) {
			t.Errorf("an invalid message passed: %+v", m)
		}
		if violations == nil {
			_, invisible := pasted.Invisible(m.MediaURLs[0])
			_, again := parseMediaURL(pasted.Trim("\u202a "+m.MediaURLs[0]+" \u200b"), false)
			if invisible >= 0 || again != nil || pasted.Trim(m.MediaURLs[0]) != m.MediaURLs[0] {
				t.Errorf("got URL %q of %q, which is then read with %v", m.MediaURLs[0], media, again)
			}
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	params := validParams
	params.From, params.Metadata = "", map[string]string{"order": "1017"}
	for b.Loop() {
		if _, err := testRules.Validate(params, uuid.Nil, uuid.Nil, noon); err != nil {
			b.Fatal(err)
		}
	}
}

package mms

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
)

func TestValidateRowReplacesPlaceholders(t *testing.T) {
	t.Parallel()
	params := BatchParams{CreateParams: CreateParams{
		Text: "Hi {{name}}, {{ name }}! {{nobody} {{}}", MediaURLs: []string{"https://example.com/{{id}}.jpg", "https://example.com/b.jpg"},
		Metadata: map[string]string{"id": "no. {{id}}"},
	}}
	batch, err := testRules.ValidateBatch(params, uuid.UUID{1}, uuid.UUID{2}, noon)
	if err != nil {
		t.Fatal(err)
	}
	row := map[string]string{"to": "+14155550123", "name": "{{id}}", "id": "7", "": "?"}
	m, err := testRules.ValidateRow(params, row, batch, uuid.UUID{3}, noon)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Hi {{id}}, {{id}}! {{nobody} ?", "https://example.com/7.jpg", "no. 7", "bulk", "168h0m0s"}
	if diff := cmp.Diff(want, []string{m.Text, m.MediaURLs[0], m.Metadata["id"], m.Priority.String(), m.ValidFor.String()}); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	if params.MediaURLs[0] != "https://example.com/{{id}}.jpg" || params.Metadata["id"] != "no. {{id}}" {
		t.Errorf("the parameters were modified: %+v", params)
	}
	_, err = testRules.ValidateRow(params, map[string]string{"to": "123"}, batch, uuid.UUID{3}, noon)
	var violations invalid.Fields
	if !errors.As(err, &violations) || len(violations) != 6 || violations[0].Rule != "placeholder" || violations.Of("to") == "" {
		t.Errorf("row without the columns: got %v, want 5 placeholders without a column and a wrong number", err)
	}
}

func TestValidateBatchListsEveryViolation(t *testing.T) {
	t.Parallel()
	seconds := 5
	_, err := testRules.ValidateBatch(BatchParams{Name: "a\x00b", CreateParams: CreateParams{
		From: "+14155559999", SendAt: "x", Priority: "x", ValidFor: &seconds, Metadata: map[string]string{"": ""}, Idempotency: Idempotency{Key: "\n"},
	}}, uuid.Nil, uuid.Nil, noon)
	var violations invalid.Fields
	errors.As(err, &violations)
	var names []string
	for _, v := range violations {
		names = append(names, v.Name)
	}
	const want = "name from validFor sendAt priority metadata. Idempotency-Key mediaUrl"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("violations: got %q, want %q", got, want)
	}
}

func TestBatchColumns(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		columns   []string
		text, url string
		want      string
	}{
		"no names":          {nil, "", "https://example.com/a.jpg", ""},
		"no such column":    {[]string{"to", "name"}, "", "https://example.com/a.jpg", ""},
		"text is asked for": {[]string{"to", "Message"}, "{{Message}}", "https://example.com/a.jpg", ""},
		"two texts":         {[]string{"to", "Message", "Body"}, "", "https://example.com/a.jpg", `text is empty, and the columns "Message" and "Body" may both hold it: enter {{Message}} or {{Body}}`},
		"two pictures":      {[]string{"to", "Photo", "Image URL"}, "", "", "mediaUrl is missing: a picture message needs at least one picture; use {{Photo}}"},
		"no picture":        {[]string{"to"}, "", "", "mediaUrl is missing: a picture message needs at least one picture; use {{column}}"},
	} {
		_, err := testRules.ValidateBatch(BatchParams{Columns: tt.columns, CreateParams: CreateParams{Text: tt.text, MediaURL: tt.url}}, uuid.Nil, uuid.Nil, noon)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
	}
}

func TestFromColumns(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		columns           []string
		text, url         string
		wantText, wantURL string
	}{
		"given":        {[]string{"to", "Message", "Image"}, "Hello", "https://example.com/a.jpg", "Hello", "https://example.com/a.jpg"},
		"not given":    {[]string{"to", "Message", "Image URL"}, "", "", "{{Message}}", "{{Image URL}}"},
		"in any case":  {[]string{"to", "TEXT", "picture"}, "", "", "{{TEXT}}", "{{picture}}"},
		"several":      {[]string{"to", "Message", "Body"}, "", "https://example.com/a.jpg", "", "https://example.com/a.jpg"},
		"no columns":   {nil, "", "", "", ""},
		"other column": {[]string{"to", "name"}, "", "", "", ""},
	} {
		got := BatchParams{Columns: tt.columns, CreateParams: CreateParams{Text: tt.text, MediaURL: tt.url}}.FromColumns()
		if got.Text != tt.wantText || got.MediaURL != tt.wantURL {
			t.Errorf("%s: got text %q and picture %q, want %q and %q", name, got.Text, got.MediaURL, tt.wantText, tt.wantURL)
		}
	}
}

func TestPlaceholdersInAnyCase(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		row  map[string]string
		want string // empty: a violation
	}{
		"exact":        {map[string]string{"Name": "Ada", "name": "Bob"}, "Ada"},
		"another case": {map[string]string{"NAME": "Ada"}, "Ada"},
		"same values":  {map[string]string{"NAME": "Ada", "name": "Ada"}, "Ada"},
		"in doubt":     {map[string]string{"NAME": "Ada", "name": "Bob"}, ""},
		"none":         {map[string]string{"names": "Ada"}, ""},
	} {
		var violations invalid.Fields
		got := fillPlaceholders("text", "{{Name}}", tt.row, &violations)
		if got != tt.want || (violations == nil) != (tt.want != "") {
			t.Errorf("%s: got %q with %v, want %q", name, got, violations, tt.want)
		}
	}
}

// TestSeveralPicturesInOneColumn expects that the column media_urls of an export can be
// sent again.
func TestSeveralPicturesInOneColumn(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][]string{
		"https://example.com/a.jpg":                             {"https://example.com/a.jpg"},
		"https://example.com/a.jpg https://example.com/b.jpg":   {"https://example.com/a.jpg", "https://example.com/b.jpg"},
		"https://example.com/a.jpg\nhttps://example.com/b.jpg ": {"https://example.com/a.jpg", "https://example.com/b.jpg"},
		"https://example.com/a b.jpg":                           nil,
		"":                                                      nil,
	} {
		params := BatchParams{CreateParams: CreateParams{MediaURL: "{{media_urls}}"}}
		m, err := testRules.ValidateRow(params, map[string]string{"to": "+14155550123", "media_urls": value}, Batch{}, uuid.UUID{3}, noon)
		if diff := cmp.Diff(want, m.MediaURLs); diff != "" || (err == nil) != (want != nil) {
			t.Errorf("%q (-want +got):\n%s%v", value, diff, err)
		}
	}
}

package mms

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range MaxMetadata + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for name, tt := range map[string]struct {
		change func(*CreateParams)
		want   string
	}{
		"a time to come":          {func(d *CreateParams) { d.SendAt = "2026-03-01T12:00:01Z" }, ""},
		"30 days ahead":           {func(d *CreateParams) { d.SendAt = "2026-03-31T12:00:00Z" }, ""},
		"more than 30 days ahead": {func(d *CreateParams) { d.SendAt = "2026-03-31T12:00:01Z" }, "sendAt range"},
		"a moment ago":            {func(d *CreateParams) { d.SendAt = "2026-03-01T11:59:00Z" }, ""},
		"the past":                {func(d *CreateParams) { d.SendAt = "2026-03-01T11:58:59Z" }, "sendAt range"},
		"a time without a zone":   {func(d *CreateParams) { d.SendAt = "2026-03-01T13:00:00" }, "sendAt time"},
		"no time":                 {func(d *CreateParams) { d.SendAt = "tomorrow" }, "sendAt time"},
		"a priority":              {func(d *CreateParams) { d.Priority = "high" }, ""},
		"no priority":             {func(d *CreateParams) { d.Priority = "urgent" }, "priority one_of"},
		"the most metadata": {func(d *CreateParams) {
			d.Metadata = map[string]string{strings.Repeat("é", 40): strings.Repeat("é\n", 250)}
		}, ""},
		"too many entries":          {func(d *CreateParams) { d.Metadata = many }, "metadata max_items"},
		"a long key":                {func(d *CreateParams) { d.Metadata = map[string]string{strings.Repeat("k", 41): ""} }, "metadata." + strings.Repeat("k", 40) + " metadata_key"},
		"no key":                    {func(d *CreateParams) { d.Metadata = map[string]string{"": "x"} }, "metadata. metadata_key"},
		"a long value":              {func(d *CreateParams) { d.Metadata = map[string]string{"k": strings.Repeat("v", 501)} }, "metadata.k max_length"},
		"a value Postgres refuses":  {func(d *CreateParams) { d.Metadata = map[string]string{"k": "a\x00b"} }, "metadata.k control"},
		"an idempotency key":        {func(d *CreateParams) { d.Idempotency.Key = strings.Repeat("~", 255) }, ""},
		"a long idempotency key":    {func(d *CreateParams) { d.Idempotency.Key = strings.Repeat("k", 256) }, "Idempotency-Key idempotency_key"},
		"a foreign idempotency key": {func(d *CreateParams) { d.Idempotency.Key = "é" }, "Idempotency-Key idempotency_key"},
	} {
		d := goodDraft
		tt.change(&d)
		m, faults := check(d)
		if got := strings.Join(faults, ", "); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		if tt.want == "" && (m.SendAt != nil) != (m.Status == Scheduled) {
			t.Errorf("%s: %s at %v", name, m.Status, m.SendAt)
		}
	}
}

func TestRowsAreFilledIn(t *testing.T) {
	t.Parallel()
	d := BatchParams{CreateParams: CreateParams{
		Text: "Hi {{name}}, {{ name }}! {{nobody} {{}}", MediaURLs: []string{"https://example.com/{{id}}.jpg", "https://example.com/b.jpg"},
		Metadata: map[string]string{"id": "no. {{id}}"},
	}}
	b, err := testRules.ValidateBatch(d, uuid.UUID{1}, uuid.UUID{2}, noon)
	if err != nil {
		t.Fatal(err)
	}
	row := map[string]string{"to": "+14155550123", "name": "{{id}}", "id": "7", "": "?"}
	m, err := testRules.ValidateRow(d, row, b, uuid.UUID{3}, noon)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Hi {{id}}, {{id}}! {{nobody} ?", "https://example.com/7.jpg", "no. 7", "bulk", "168h0m0s"}
	if diff := cmp.Diff(want, []string{m.Text, m.MediaURLs[0], m.Metadata["id"], m.Priority.String(), m.ValidFor.String()}); diff != "" {
		t.Error(diff)
	}
	if d.MediaURLs[0] != "https://example.com/{{id}}.jpg" || d.Metadata["id"] != "no. {{id}}" {
		t.Error("the draft has changed")
	}
	_, err = testRules.ValidateRow(d, map[string]string{"to": "123"}, b, uuid.UUID{3}, noon)
	var faults invalid.Fields
	if !errors.As(err, &faults) || len(faults) != 6 || faults[0].Rule != "placeholder" || faults.Of("to") == "" {
		t.Errorf("%v", err)
	}
}

func TestCheckBatch(t *testing.T) {
	t.Parallel()
	seconds := 5
	_, err := testRules.ValidateBatch(BatchParams{Name: "a\nb", CreateParams: CreateParams{
		From: "+14155559999", SendAt: "x", Priority: "x", ValidFor: &seconds, Metadata: map[string]string{"": ""}, Idempotency: Idempotency{Key: "\n"},
	}}, uuid.Nil, uuid.Nil, noon)
	var faults invalid.Fields
	errors.As(err, &faults)
	var names []string
	for _, f := range faults {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "name from validFor sendAt priority metadata. Idempotency-Key mediaUrl" {
		t.Errorf("faults of %s", got)
	}
}

func TestCaps(t *testing.T) {
	t.Parallel()
	user, key := uuid.UUID{1}, uuid.UUID{2}
	for name, tt := range map[string]struct {
		by        Submitter
		byDefault int
		want      []Cap
	}{
		"none":               {Submitter{User: user}, 0, nil},
		"the installation's": {Submitter{User: user}, 9, []Cap{{user, 9, false}}},
		"the user's":         {Submitter{User: user, UserCap: 5}, 9, []Cap{{user, 5, false}}},
		"both":               {Submitter{User: user, Key: key, UserCap: 5, KeyCap: 3}, 9, []Cap{{user, 5, false}, {key, 3, true}}},
	} {
		if diff := cmp.Diff(tt.want, tt.by.Caps(tt.byDefault)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

package mms

import (
	"fmt"
	"strings"
	"testing"
)

func TestValidateOptions(t *testing.T) {
	t.Parallel()
	tooMany := map[string]string{}
	for i := range MaxMetadata + 1 {
		tooMany[fmt.Sprint(i)] = ""
	}
	for name, tt := range map[string]struct {
		change func(*CreateParams)
		want   string // field and rule of the violations
	}{
		"time in the future":      {func(p *CreateParams) { p.SendAt = "2026-03-01T12:00:01Z" }, ""},
		"30 days ahead":           {func(p *CreateParams) { p.SendAt = "2026-03-31T12:00:00Z" }, ""},
		"more than 30 days ahead": {func(p *CreateParams) { p.SendAt = "2026-03-31T12:00:01Z" }, "sendAt range"},
		"a minute ago":            {func(p *CreateParams) { p.SendAt = "2026-03-01T11:59:00Z" }, ""},
		"time in the past":        {func(p *CreateParams) { p.SendAt = "2026-03-01T11:58:59Z" }, "sendAt range"},
		"time without a zone":     {func(p *CreateParams) { p.SendAt = "2026-03-01T13:00:00" }, "sendAt time"},
		"year 0":                  {func(p *CreateParams) { p.SendAt = "0000-01-01T00:00:00Z" }, "sendAt range"},
		"year 9999":               {func(p *CreateParams) { p.SendAt = "9999-12-31T23:59:59-12:00" }, "sendAt range"},
		"lower-case letters":      {func(p *CreateParams) { p.SendAt = "2026-03-02t12:00:00z" }, ""},
		"offset of 24 hours":      {func(p *CreateParams) { p.SendAt = "2026-03-02T12:00:00+24:00" }, "sendAt time"},
		"not a time":              {func(p *CreateParams) { p.SendAt = "tomorrow" }, "sendAt time"},
		"valid priority":          {func(p *CreateParams) { p.Priority = "high" }, ""},
		"unknown priority":        {func(p *CreateParams) { p.Priority = "urgent" }, "priority one_of"},
		"longest metadata": {func(p *CreateParams) {
			p.Metadata = map[string]string{strings.Repeat("é", 40): strings.Repeat("é\n", 250)}
		}, ""},
		"too many metadata entries":     {func(p *CreateParams) { p.Metadata = tooMany }, "metadata max_items"},
		"too long metadata key":         {func(p *CreateParams) { p.Metadata = map[string]string{strings.Repeat("k", 41): ""} }, "metadata." + strings.Repeat("k", 40) + " metadata_key"},
		"empty metadata key":            {func(p *CreateParams) { p.Metadata = map[string]string{"": "x"} }, "metadata. metadata_key"},
		"too long metadata value":       {func(p *CreateParams) { p.Metadata = map[string]string{"k": strings.Repeat("v", 501)} }, "metadata.k max_length"},
		"metadata value with NUL":       {func(p *CreateParams) { p.Metadata = map[string]string{"k": "a\x00b"} }, "metadata.k control"},
		"longest idempotency key":       {func(p *CreateParams) { p.Idempotency.Key = strings.Repeat("~", 255) }, ""},
		"too long idempotency key":      {func(p *CreateParams) { p.Idempotency.Key = strings.Repeat("k", 256) }, "Idempotency-Key idempotency_key"},
		"idempotency key outside ASCII": {func(p *CreateParams) { p.Idempotency.Key = "é" }, "Idempotency-Key idempotency_key"},
	} {
		params := validParams
		tt.change(&params)
		m, violations := validate(params)
		if got := strings.Join(violations, ", "); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
		if tt.want == "" && (m.SendAt != nil) != (m.Status == Scheduled) {
			t.Errorf("%s: got status %s with SendAt %v", name, m.Status, m.SendAt)
		}
	}
}

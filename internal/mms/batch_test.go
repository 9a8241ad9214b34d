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
	_, err := testRules.ValidateBatch(BatchParams{Name: "a\nb", CreateParams: CreateParams{
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

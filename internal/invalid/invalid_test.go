package invalid_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/invalid"
)

func TestFields(t *testing.T) {
	t.Parallel()
	var violations invalid.Fields
	if err := violations.Err(); err != nil {
		t.Fatalf("no violations: got error %v, want nil", err)
	}
	violations.Add("to", "e164", "must be in E.164 form")
	violations.Add("text", "control", "must not contain control characters")
	violations.Add("to", "country", "must be in another country")

	err := fmt.Errorf("creating a message: %w", violations.Err())
	var got invalid.Fields
	if !errors.As(err, &got) {
		t.Fatalf("got error %v, want invalid.Fields", err)
	}
	if diff := cmp.Diff(violations, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
	want := "creating a message: invalid input: to must be in E.164 form; text must not contain control characters; to must be in another country"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if got := violations.Of("to"); got != "must be in E.164 form" {
		t.Errorf("Of(to): got %q, want the first message", got)
	}
	if got := violations.Of("from"); got != "" {
		t.Errorf("Of(from): got %q, want none", got)
	}
}

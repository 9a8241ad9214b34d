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
	var faults invalid.Fields
	if err := faults.Err(); err != nil {
		t.Fatalf("no fault, but error %v", err)
	}
	faults.Add("to", "e164", "must be in E.164 form")
	faults.Add("text", "control", "must not ring a bell")
	faults.Add("to", "country", "must be nearer")

	err := fmt.Errorf("accepting: %w", faults.Err())
	var got invalid.Fields
	if !errors.As(err, &got) {
		t.Fatalf("%v is not invalid.Fields", err)
	}
	if diff := cmp.Diff(faults, got); diff != "" {
		t.Error(diff)
	}
	want := "accepting: invalid input: to must be in E.164 form; text must not ring a bell; to must be nearer"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if got := faults.Of("to"); got != "must be in E.164 form" {
		t.Errorf("Of gives %q, want the first fault", got)
	}
	if got := faults.Of("from"); got != "" {
		t.Errorf("Of gives %q for a field without fault", got)
	}
}

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/operator"
)

// TestVerifyIsStored runs an audit that succeeds and one that does not finish.
func TestVerifyIsStored(t *testing.T) {
	f := newFixture(t)
	if out, err := f.verify(""); err != nil {
		t.Fatalf("verify: %v; output:\n%s", err, out)
	}
	if _, err := f.verify("--simulator http://127.0.0.1:1"); err == nil {
		t.Error("verify with a simulator that is not there: got no error")
	}
	runs, err := f.store.Verifications(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	type run struct {
		Source            operator.Source
		Findings, Problem bool
	}
	var got []run
	for _, r := range runs {
		got = append(got, run{r.Source, len(r.Findings) > 10, r.Problem != ""})
	}
	if diff := cmp.Diff([]run{{operator.ByCLI, false, true}, {operator.ByCLI, true, false}}, got); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
}

package mms

import (
	"strings"
	"testing"
)

func TestReportSummary(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]Report{
		"sent":                  {State: "sent", Code: "000"},
		"delivered":             {State: "delivered", Code: "0"},
		"failed, code 30":       {State: "failed", Code: "30"},
		"odd":                   {State: "o\x00d\xffd"},
		strings.Repeat("x", 32): {State: strings.Repeat("x", 99)},
	} {
		if got := r.Summary(); got != want {
			t.Errorf("%+v: got %q, want %q", r, got, want)
		}
	}
}

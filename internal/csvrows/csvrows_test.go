package csvrows_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/csvrows"
	"github.com/postcard-mms/postcard/internal/invalid"
)

// read reads to the end; a row that cannot be read is its faults.
func read(t *testing.T, text string) (list []map[string]string, faults []string, broken error) {
	t.Helper()
	r, err := csvrows.NewCSV(strings.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	for {
		row, err := r.Next()
		var fields invalid.Fields
		switch {
		case errors.Is(err, io.EOF):
			return list, faults, nil
		case errors.As(err, &fields):
			faults = append(faults, fields[0].Rule)
		case err != nil:
			return list, faults, err
		default:
			list = append(list, row)
		}
	}
}

func TestCSV(t *testing.T) {
	t.Parallel()
	list, faults, err := read(t, "\ufeffto, name \r\n+1,\"Ada, \"\"the\"\" first\nof all\"\r\n+2\n+3,\xff\n+4,Bob\n")
	want := []map[string]string{{"to": "+1", "name": "Ada, \"the\" first\nof all"}, {"to": "+4", "name": "Bob"}}
	if diff := cmp.Diff(want, list); diff != "" || err != nil || cmp.Diff([]string{"columns", "utf8"}, faults) != "" {
		t.Errorf("%s %v %v", diff, faults, err)
	}
	for text, want := range map[string]string{
		"": "csv", "name\nAda\n": "required", "to,to\n": "duplicate", "to" + strings.Repeat(",x", 3): "duplicate",
		"to\n\"+1": "quotes", "to\n\"" + strings.Repeat("x", 300<<10): "256 KiB", "to\n" + strings.Repeat("+", 300<<10) + "\n": "256 KiB",
	} {
		_, _, err := read(t, text)
		var fields invalid.Fields
		if errors.As(err, &fields) {
			err = errors.New(fields[0].Rule)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
}

// FuzzCSV reads anything to an end, and what it hands out can be stored.
func FuzzCSV(f *testing.F) {
	for _, seed := range []string{"to,name\n+1,Ada\n", "to\n\"", "\xff,to\n\xff,1\n", "to,a\n1\n2,3,4\n\n,\n", "\"to\"\r\n\"a\"\"b\"\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, _, _ := read(t, text)
		for _, row := range list {
			for column, value := range row {
				if !utf8.ValidString(value) || len(value) > csvrows.MaxRow {
					t.Errorf("%q has %q", column, value)
				}
			}
		}
	})
}

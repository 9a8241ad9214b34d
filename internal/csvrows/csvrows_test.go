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

// readAll returns the valid rows, the first violated rule of each other row, and the
// error that ended the reading early.
func readAll(t *testing.T, text string) (rows []map[string]string, rules []string, err error) {
	t.Helper()
	r, err := csvrows.NewCSV(strings.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	for {
		row, err := r.Next()
		var violations invalid.Fields
		switch {
		case errors.Is(err, io.EOF):
			return rows, rules, nil
		case errors.As(err, &violations):
			rules = append(rules, violations[0].Rule)
		case err != nil:
			return rows, rules, err
		default:
			rows = append(rows, row)
		}
	}
}

func TestCSV(t *testing.T) {
	t.Parallel()
	rows, rules, err := readAll(t, "\ufeffto, name \r\n+1,\"Ada, \"\"the\"\" first\nof all\"\r\n+2\n+3,\xff\n+4,Bob\n")
	want := []map[string]string{{"to": "+1", "name": "Ada, \"the\" first\nof all"}, {"to": "+4", "name": "Bob"}}
	if diff := cmp.Diff(want, rows); diff != "" || err != nil {
		t.Errorf("rows (-want +got):\n%s%v", diff, err)
	}
	if diff := cmp.Diff([]string{"columns", "utf8"}, rules); diff != "" {
		t.Errorf("violated rules (-want +got):\n%s", diff)
	}
}

func TestUnreadableCSV(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "csv", "name\nAda\n": "required", "to,to\n": "duplicate", "to" + strings.Repeat(",x", 3): "duplicate",
		"to\n\"+1": "quotes", "to\n\"" + strings.Repeat("x", 300<<10): "256 KiB", "to\n" + strings.Repeat("+", 300<<10) + "\n": "256 KiB",
	} {
		_, _, err := readAll(t, text)
		var violations invalid.Fields
		if errors.As(err, &violations) {
			err = errors.New(violations[0].Rule)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %s", text, err, want)
		}
	}
}

// FuzzCSV ensures that every value is bounded and valid UTF-8, whatever the input.
func FuzzCSV(f *testing.F) {
	for _, seed := range []string{"to,name\n+1,Ada\n", "to\n\"", "\xff,to\n\xff,1\n", "to,a\n1\n2,3,4\n\n,\n", "\"to\"\r\n\"a\"\"b\"\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rows, _, _ := readAll(t, text)
		for _, row := range rows {
			for column, value := range row {
				if !utf8.ValidString(value) || len(value) > csvrows.MaxRow {
					t.Errorf("column %q: got value %q, want at most %d bytes of valid UTF-8", column, value, csvrows.MaxRow)
				}
			}
		}
	})
}

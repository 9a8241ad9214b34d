package version

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "438bf5d2a1c0ffee438bf5d2a1c0ffee438bf5d2"}
	for name, tt := range map[string]struct {
		settings []debug.BuildSetting
		want     string
	}{
		"no version control": {nil, Number},
		"clean":              {[]debug.BuildSetting{revision, {Key: "vcs.modified", Value: "false"}}, Number + " (commit 438bf5d2a1c0)"},
		"modified":           {[]debug.BuildSetting{revision, {Key: "vcs.modified", Value: "true"}}, Number + " (commit 438bf5d2a1c0, modified)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := describe(tt.settings); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestStringStartsWithNumber(t *testing.T) {
	t.Parallel()
	if got := String(); !strings.HasPrefix(got, Number) {
		t.Errorf("got %q, want it to start with %q", got, Number)
	}
}

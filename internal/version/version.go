// Package version knows the version of this build. It must not import other packages
// of the project.
package version

import (
	"fmt"
	"runtime/debug"
)

// Number is the version in CHANGELOG.md, without a leading v.
const Number = "0.1.0"

// String returns the version and the commit it was built from, for example
// "0.1.0 (commit 438bf5d2a1c0)". Builds without version control information, such as
// tests and container images, have no commit.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Number
	}
	return describe(info.Settings)
}

func describe(settings []debug.BuildSetting) string {
	var commit, modified string
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ", modified"
		}
	}
	if commit == "" {
		return Number
	}
	return fmt.Sprintf("%s (commit %s%s)", Number, commit, modified)
}

package httpapi

import (
	"strconv"
	"strings"
)

// etag names a version of a message. It is weak: the version fixes what is
// said, but a new release may say it in other words.
func etag(version int64) string { return `W/"` + strconv.FormatInt(version, 10) + `"` }

// matches reports whether the value of If-None-Match covers the tag: by naming
// it, in either strength, or by *. What stands behind something that is no tag
// is not read.
func matches(ifNoneMatch, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	for rest := ifNoneMatch; ; {
		rest = strings.TrimLeft(rest, " \t,")
		if strings.HasPrefix(rest, "*") {
			return true
		}
		opaque, isTag := strings.CutPrefix(strings.TrimPrefix(rest, "W/"), `"`)
		end := strings.IndexByte(opaque, '"')
		if !isTag || end < 0 {
			return false
		}
		if `"`+opaque[:end+1] == tag {
			return true
		}
		rest = opaque[end+1:]
	}
}

package httpapi

import (
	"strconv"
	"strings"
)

// etag returns the entity tag of a message's version. It is weak because a release
// may change explanations without a new version.
func etag(version int64) string { return `W/"` + strconv.FormatInt(version, 10) + `"` }

// matches reports whether the value of If-None-Match contains the tag, weak or
// strong, or *. It stops at the first malformed tag.
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

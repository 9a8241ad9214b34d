// Package mediacheck looks at what is behind a media URL, as Plivo would fetch it, without
// reaching private hosts.
package mediacheck

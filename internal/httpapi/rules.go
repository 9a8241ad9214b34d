package httpapi

import (
	"fmt"
	"strings"
)

// rules are the codes of violations, each for one rule whatever the field. A test
// compares them with those that the program uses.
var rules = []struct{ code, meaning string }{
	{"required", "the value is missing or empty"},
	{"unknown", "no such field or query parameter"},
	{"duplicate", "given more than once"},
	{"exclusive", "not allowed together with another field"},
	{"type", "another type, for example a string instead of an integer"},
	{"one_of", "not one of the allowed values"},
	{"range", "a number or time that is too small or too large"},
	{"min_length", "too short"},
	{"max_length", "too long"},
	{"max_items", "too many entries"},
	{"control", "characters that are not allowed, such as NUL"},
	{"utf8", "not valid UTF-8, or an unpaired surrogate"},
	{"time", "not an RFC 3339 time with its zone"},
	{"e164", "not a phone number"},
	{"country", "a phone number of a country that is not allowed"},
	{"unreachable", "a phone number that receives no messages"},
	{"fictional", "a phone number reserved for films and examples"},
	{"sender", "not one of the senders of this installation"},
	{"not_sender", "the recipient is the sender itself"},
	{"media_url", "not the URL of a picture that Plivo can fetch"},
	{"picture_empty", "a file of 0 bytes"},
	{"picture_bytes", "a file that is too large"},
	{"picture_type", "not a JPEG, PNG, GIF or WebP picture, or also another kind of file"},
	{"picture_damaged", "a picture that is damaged or incomplete"},
	{"picture_pixels", "a picture with too many pixels"},
	{"picture_frames", "an animation with too many frames"},
	{"picture_memory", "a picture that takes too much memory"},
	{"picture_animated", "an animation that is too large to be sent; its first frame can be"},
	{"picture_budget", "a picture that cannot be made small enough"},
	{"url", "not a URL that webhooks can have"},
	{"email", "not an email address"},
	{"taken", "in use already"},
	{"common", "one of the most common passwords"},
	{"wrong_password", "not the current password"},
	{"time_zone", "not a time zone of the IANA database"},
	{"metadata_key", "not a key that metadata can have"},
	{"idempotency_key", "not a key that the header can have"},
	{"uuid", "not an ID"},
	{"cursor", "not a cursor of this list"},
	{"placeholder", "a placeholder names a column that the row does not have"},
	{"columns", "a row with more values than columns"},
	{"csv", "not CSV with a header row"},
	{"encoding", "not in an encoding that can be read"},
	{"json", "not valid JSON"},
	{"object", "not a JSON object"},
	{"gzip", "not gzip, although Content-Encoding says so"},
	{"syntax", "a malformed query"},
	{"read", "could not be read completely"},
}

func ruleCodes() []string {
	codes := make([]string, len(rules))
	for i, r := range rules {
		codes[i] = r.code
	}
	return codes
}

// describeRules lists the codes for the description.
func describeRules() string {
	var b strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&b, "- `%s`: %s\n", r.code, r.meaning)
	}
	return b.String()
}

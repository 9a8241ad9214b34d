package httpapi

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const defaultLimit = 25

// FilterInput documents the filters of a list. The query is parsed in this file
// instead: huma would ignore unknown parameters and all but the first value.
type FilterInput struct {
	Status   statusParam       `query:"status" doc:"Only return messages with this status."`
	To       string            `query:"to" doc:"Only return messages to this phone number, as in sendMms." example:"+14155550123"`
	From     string            `query:"from" doc:"Only return messages from this sender, written like to." example:"+14155550100"`
	Since    string            `query:"since" doc:"Only return messages created at or after this time (RFC 3339)." format:"date-time"`
	Until    string            `query:"until" doc:"Only return messages created before this time (RFC 3339)." format:"date-time"`
	Text     string            `query:"text" doc:"Only return messages whose text contains all of these words."`
	Batch    string            `query:"batch" doc:"Only return messages of this batch." format:"uuid"`
	Metadata map[string]string `query:"metadata,deepObject" doc:"Only return messages with these metadata entries, for example metadata[order]=1017."`
}

type listInput struct {
	Request
	FilterInput
	Limit  limitParam `query:"limit" doc:"The maximum number of messages to return."`
	Cursor string     `query:"cursor" doc:"The nextCursor of the previous page."`
}

var filterNames = []string{"status", "to", "from", "since", "until", "text", "batch", "metadata[...]"}

type statusParam string

// Schema implements huma.SchemaProvider.
func (statusParam) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, status := range mms.Statuses() {
		s.Enum = append(s.Enum, string(status))
	}
	return s
}

type limitParam string

// Schema implements huma.SchemaProvider.
func (limitParam) Schema(huma.Registry) *huma.Schema {
	least, most := 1.0, float64(mms.MaxPage)
	return &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Maximum: &most, Default: defaultLimit}
}

// page parses the query. A parameter with an empty value counts as absent.
func (in *listInput) page() (mms.Page, error) {
	var violations invalid.Fields
	query, err := queryOf(in.r.URL.RawQuery)
	if err != nil {
		return mms.Page{}, err
	}
	checkParameters(query, append([]string{"limit", "cursor"}, filterNames...), &violations)
	page := mms.Page{
		Filter: parseFilter(query, &violations),
		Limit:  parseLimit(query.Get("limit"), &violations),
		Before: parseCursor(query.Get("cursor"), &violations),
	}
	return page, withPlusHint(query, violations).Err()
}

// queryOf parses a query, and restores the plus signs that clients forgot to encode.
func queryOf(raw string) (url.Values, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, invalid.Fields{{Name: "query", Rule: "syntax", Message: "must have the form name=value&name=value with percent-encoded special characters"}}
	}
	restorePlus(query)
	return query, nil
}

// In a query, + stands for a space. A space at the start of a phone number or before the
// offset of a time can only have been a plus sign.
var (
	numberWithoutPlus = regexp.MustCompile(`^ ([1-9][0-9]*)$`)
	offsetWithoutPlus = regexp.MustCompile(`^([0-9-]+[Tt ][0-9:.]+) ([0-9]{2}:[0-9]{2})$`)
)

func restorePlus(query url.Values) {
	for name, values := range query {
		for i, value := range values {
			switch name {
			case "to", "from":
				values[i] = numberWithoutPlus.ReplaceAllString(value, "+$1")
			case "since", "until", "sendAt":
				values[i] = offsetWithoutPlus.ReplaceAllString(value, "$1+$2")
			}
		}
	}
}

const plusHint = " (in a URL, encode the plus sign as %2B)"

// withPlusHint adds a hint to the violations of values with a space: it may have been a
// plus sign.
func withPlusHint(query url.Values, violations invalid.Fields) invalid.Fields {
	for i, v := range violations {
		name, _, _ := strings.Cut(v.Name, "[") // of mediaUrls[2]
		hasSpace := slices.ContainsFunc(query[name], func(value string) bool { return strings.Contains(value, " ") })
		if hasSpace && !strings.HasSuffix(v.Message, plusHint) {
			violations[i].Message += plusHint
		}
	}
	return violations
}

// filterOnly parses a query that contains only filters.
func filterOnly(raw string) (mms.Filter, error) {
	var violations invalid.Fields
	query, err := queryOf(raw)
	if err != nil {
		return mms.Filter{}, err
	}
	checkParameters(query, filterNames, &violations)
	filter := parseFilter(query, &violations)
	return filter, withPlusHint(query, violations).Err()
}

func parseFilter(query url.Values, violations *invalid.Fields) mms.Filter {
	filter := mms.Filter{
		Status:    parseStatus(query.Get("status"), violations),
		Recipient: parseNumberParam("to", query.Get("to"), violations),
		Sender:    parseNumberParam("from", query.Get("from"), violations),
		Since:     parseTime("since", query.Get("since"), violations),
		Until:     parseTime("until", query.Get("until"), violations),
		Text:      query.Get("text"),
	}
	if len(filter.Text) > maxSearch {
		violations.Add("text", "max_length", fmt.Sprintf("must be at most %d bytes long", maxSearch))
	}
	if batch := query.Get("batch"); batch != "" {
		var ok bool
		if filter.Batch, ok = parseUUID(batch); !ok {
			violations.Add("batch", "uuid", "must be the ID of a batch")
		}
	}
	for name, values := range query {
		if key, ok := metadataKey(name); ok {
			if filter.Metadata == nil {
				filter.Metadata = map[string]string{}
			}
			filter.Metadata[key] = values[0]
		}
	}
	mms.ValidateMetadata(filter.Metadata, violations)
	return filter
}

// maxSearch is the longest search text in bytes.
const maxSearch = 200

// metadataKey returns the key of a parameter like metadata[order].
func metadataKey(name string) (string, bool) {
	key, ok := strings.CutPrefix(name, "metadata[")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(key, "]")
}

func parseNumberParam(name, value string, violations *invalid.Fields) mms.PhoneNumber {
	if value == "" {
		return ""
	}
	n, err := mms.ParseTypedPhoneNumber(value)
	if err != nil {
		violations.Add(name, "e164", err.Error()+plusHint)
	}
	return n
}

// Every message is created between these times. Times outside, such as the year 0 or 9999 of
// clients that mean no limit, are replaced by them: they match the same messages, and
// Postgres can compare them.
var (
	earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

func parseTime(name, value string, violations *invalid.Fields) time.Time {
	if value == "" {
		return time.Time{}
	}
	at, err := mms.ParseTime(value)
	switch {
	case err != nil:
		violations.Add(name, "time", err.Error())
	case at.Before(earliest):
		return earliest
	case at.After(latest):
		return latest
	}
	return at
}

// checkParameters rejects unknown parameters, which may be misspelled, duplicates, and
// values that no parameter can have. It removes such values from the query, so that they
// are reported only once.
func checkParameters(query url.Values, known []string, violations *invalid.Fields) {
	names := slices.Sorted(maps.Keys(query))
	for _, name := range names[:min(len(names), maxViolations)] {
		switch value := query.Get(name); {
		case !slices.Contains(known, name) && !isMetadata(name, known):
			violations.Add(clip(name), "unknown", unknownParameter(known))
		case len(query[name]) > 1:
			violations.Add(clip(name), "duplicate", "is given more than once")
		case !utf8.ValidString(name + value):
			violations.Add(clip(name), "utf8", "must be valid UTF-8")
			query.Del(name)
		case strings.ContainsRune(value, 0):
			violations.Add(clip(name), "control", noNUL)
			query.Del(name)
		}
	}
}

func unknownParameter(known []string) string {
	if len(known) == 0 {
		return "is not a known parameter: this operation has none"
	}
	return "is not a known parameter; the known parameters are " + strings.Join(known, ", ")
}

func isMetadata(name string, known []string) bool {
	_, ok := metadataKey(name)
	return ok && slices.Contains(known, "metadata[...]")
}

func parseStatus(value string, violations *invalid.Fields) mms.Status {
	status := mms.Status(value)
	if value != "" && !status.Known() {
		names := make([]string, 0, len(mms.Statuses()))
		for _, s := range mms.Statuses() {
			names = append(names, string(s))
		}
		violations.Add("status", "one_of", "must be one of "+strings.Join(names, ", "))
	}
	return status
}

func parseLimit(value string, violations *invalid.Fields) int {
	if value == "" {
		return defaultLimit
	}
	limit, ok := parseInteger(strings.TrimSpace(value))
	if !ok || limit < 1 || limit > mms.MaxPage {
		violations.Add("limit", "range", fmt.Sprintf("must be an integer from 1 to %d", mms.MaxPage))
	}
	return limit
}

// cursorAfter returns the cursor of the page after the message. It is opaque to
// clients, so that its format can change.
func cursorAfter(id uuid.UUID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func parseCursor(value string, violations *invalid.Fields) uuid.UUID {
	if value == "" {
		return uuid.Nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err == nil {
		id, err := uuid.FromBytes(raw)
		if err == nil && id != uuid.Nil {
			return id
		}
	}
	violations.Add("cursor", "cursor", "must be the nextCursor of a previous page")
	return uuid.Nil
}

// cursorAfterNumber is cursorAfter for lists that are numbered.
func cursorAfterNumber(n int) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return cursorAfter(id)
}

// numberInCursor returns the number of a cursor of cursorAfterNumber; 0 if there is
// no cursor.
func numberInCursor(cursor uuid.UUID) int {
	return int(min(binary.BigEndian.Uint64(cursor[8:]), math.MaxInt32))
}

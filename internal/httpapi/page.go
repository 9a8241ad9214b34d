package httpapi

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

const defaultLimit = 25

// FilterInput describes the filters of a list. Its fields stay unread: huma keeps
// the first of several values and drops parameters that it does not know, so the
// query is read here.
type FilterInput struct {
	Status   statusParam       `query:"status" doc:"Only messages with this status."`
	To       string            `query:"to" doc:"Only messages to this number, in E.164 form." example:"+14155550123"`
	From     string            `query:"from" doc:"Only messages from this sender number." example:"+14155550100"`
	Since    string            `query:"since" doc:"Only messages taken on at this time or later (RFC 3339)." format:"date-time"`
	Until    string            `query:"until" doc:"Only messages taken on before this time (RFC 3339)." format:"date-time"`
	Text     string            `query:"text" doc:"Only messages in whose text all of these words stand."`
	Batch    string            `query:"batch" doc:"Only messages of this batch." format:"uuid"`
	Metadata map[string]string `query:"metadata,deepObject" doc:"Only messages with these entries, like metadata[order]=1017."`
}

type listInput struct {
	Request
	FilterInput
	Limit  limitParam `query:"limit" doc:"How many messages at most."`
	Cursor string     `query:"cursor" doc:"The nextCursor of the page before."`
}

var filterNames = []string{"status", "to", "from", "since", "until", "text", "batch", "metadata[...]"}

type statusParam string

// Schema lists the statuses.
func (statusParam) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, status := range mms.Statuses() {
		s.Enum = append(s.Enum, string(status))
	}
	return s
}

type limitParam string

// Schema is that of the number that the parameter must be.
func (limitParam) Schema(huma.Registry) *huma.Schema {
	least, most := 1.0, float64(mms.MaxPage)
	return &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Maximum: &most, Default: defaultLimit}
}

// page reads the query. A parameter without a value counts as not given.
func (in *listInput) page() (mms.Page, error) {
	var faults invalid.Fields
	query, err := queryOf(in.r.URL.RawQuery)
	if err != nil {
		return mms.Page{}, err
	}
	checkNames(query, append([]string{"limit", "cursor"}, filterNames...), &faults)
	page := mms.Page{
		Filter: parseFilter(query, &faults),
		Limit:  parseLimit(query.Get("limit"), &faults),
		Before: parseCursor(query.Get("cursor"), &faults),
	}
	return page, faults.Err()
}

func queryOf(raw string) (url.Values, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, invalid.Fields{{Name: "query", Rule: "syntax", Message: "must be of the form name=value&name=value, with special characters percent-encoded"}}
	}
	return query, nil
}

// filterOnly reads a query that holds nothing but filters.
func filterOnly(raw string) (mms.Filter, error) {
	var faults invalid.Fields
	query, err := queryOf(raw)
	if err != nil {
		return mms.Filter{}, err
	}
	checkNames(query, filterNames, &faults)
	filter := parseFilter(query, &faults)
	return filter, faults.Err()
}

func parseFilter(query url.Values, faults *invalid.Fields) mms.Filter {
	filter := mms.Filter{
		Status:    parseStatus(query.Get("status"), faults),
		Recipient: parseNumberParam("to", query.Get("to"), faults),
		Sender:    parseNumberParam("from", query.Get("from"), faults),
		Since:     parseTime("since", query.Get("since"), faults),
		Until:     parseTime("until", query.Get("until"), faults),
		Text:      query.Get("text"),
	}
	if len(filter.Text) > maxSearch || !utf8.ValidString(filter.Text) || strings.ContainsRune(filter.Text, 0) {
		faults.Add("text", "max_length", fmt.Sprintf("must be at most %d bytes of words", maxSearch))
	}
	if batch := query.Get("batch"); batch != "" {
		var err error
		if filter.Batch, err = uuid.Parse(batch); err != nil {
			faults.Add("batch", "uuid", "must be the id of a batch")
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
	mms.ValidateMetadata(filter.Metadata, faults)
	return filter
}

// maxSearch is the longest search, in bytes; our own limit.
const maxSearch = 200

// metadataKey is the key in a parameter like metadata[order].
func metadataKey(name string) (string, bool) {
	key, ok := strings.CutPrefix(name, "metadata[")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(key, "]")
}

func parseNumberParam(name, value string, faults *invalid.Fields) mms.PhoneNumber {
	if value == "" {
		return ""
	}
	n, err := mms.ParsePhoneNumber(value)
	if err != nil {
		faults.Add(name, "e164", err.Error()+" (in a URL, a plus sign is written %2B)")
	}
	return n
}

func parseTime(name, value string, faults *invalid.Fields) time.Time {
	if value == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, value)
	if err != nil || at.Year() < 2000 || at.Year() > 2200 {
		faults.Add(name, "time", "must be a time in RFC 3339 form, like 2026-12-24T18:00:00Z")
	}
	return at
}

// checkNames refuses parameters that are not known, which may be misspelt, and
// ones that are given twice.
func checkNames(query url.Values, known []string, faults *invalid.Fields) {
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names[:min(len(names), maxViolations)] {
		switch {
		case !slices.Contains(known, name) && !isMetadata(name, known):
			faults.Add(clip(name), "unknown", "is not known here; known are "+strings.Join(known, ", "))
		case len(query[name]) > 1:
			faults.Add(name, "duplicate", "is given more than once")
		}
	}
}

func isMetadata(name string, known []string) bool {
	_, ok := metadataKey(name)
	return ok && slices.Contains(known, "metadata[...]")
}

func parseStatus(value string, faults *invalid.Fields) mms.Status {
	status := mms.Status(value)
	if value != "" && !status.Known() {
		words := make([]string, 0, len(mms.Statuses()))
		for _, s := range mms.Statuses() {
			words = append(words, string(s))
		}
		faults.Add("status", "one_of", "must be one of "+strings.Join(words, ", "))
	}
	return status
}

func parseLimit(value string, faults *invalid.Fields) int {
	if value == "" {
		return defaultLimit
	}
	limit, err := strconv.Atoi(value)
	if err != nil || limit < 1 || limit > mms.MaxPage {
		faults.Add("limit", "range", fmt.Sprintf("must be a whole number from 1 to %d", mms.MaxPage))
	}
	return limit
}

// cursorAfter makes the cursor of the page behind the message. Clients are to
// pass it on, not to read it, so that it may change its form.
func cursorAfter(id uuid.UUID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func parseCursor(value string, faults *invalid.Fields) uuid.UUID {
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
	faults.Add("cursor", "cursor", "must be the nextCursor of an earlier page")
	return uuid.Nil
}

// cursorAfterNumber is cursorAfter for what has numbers instead of ids.
func cursorAfterNumber(n int) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return cursorAfter(id)
}

// numberInCursor is the number in a cursor of cursorAfterNumber; 0 for none.
func numberInCursor(cursor uuid.UUID) int {
	return int(min(binary.BigEndian.Uint64(cursor[8:]), math.MaxInt32))
}

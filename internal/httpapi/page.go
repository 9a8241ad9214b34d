package httpapi

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"postcard/internal/invalid"
	"postcard/internal/mms"
)

const defaultLimit = 25

// listInput describes the query of a list. Its fields stay unread: huma keeps
// the first of several values and drops parameters that it does not know, so
// page reads the query itself.
type listInput struct {
	Request
	Status statusParam `query:"status" doc:"Only messages with this status."`
	Limit  limitParam  `query:"limit" doc:"How many messages at most."`
	Cursor string      `query:"cursor" doc:"The nextCursor of the page before."`
}

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
	query, err := url.ParseQuery(in.r.URL.RawQuery)
	if err != nil {
		return mms.Page{}, invalid.Fields{{Name: "query", Rule: "syntax", Message: "must be of the form name=value&name=value, with special characters percent-encoded"}}
	}
	var faults invalid.Fields
	checkNames(query, []string{"status", "limit", "cursor"}, &faults)
	page := mms.Page{
		Status: statusIn(query.Get("status"), &faults),
		Limit:  limitIn(query.Get("limit"), &faults),
		Before: cursorIn(query.Get("cursor"), &faults),
	}
	return page, faults.Err()
}

// checkNames refuses parameters that are not known, which may be misspelt, and
// ones that are given twice.
func checkNames(query url.Values, known []string, faults *invalid.Fields) {
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names[:min(len(names), maxFaults)] {
		switch {
		case !slices.Contains(known, name):
			faults.Add(clip(name), "unknown", "is not known here; known are "+strings.Join(known, ", "))
		case len(query[name]) > 1:
			faults.Add(name, "duplicate", "is given more than once")
		}
	}
}

func statusIn(value string, faults *invalid.Fields) mms.Status {
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

func limitIn(value string, faults *invalid.Fields) int {
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

func cursorIn(value string, faults *invalid.Fields) uuid.UUID {
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

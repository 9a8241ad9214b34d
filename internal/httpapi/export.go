package httpapi

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/csvrows"
	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
)

// exportPage is how many messages are read at a time.
const exportPage = 500

func (a *api) registerExport() {
	registerFor(a, identity.Read, huma.Operation{
		OperationID: "exportMessages", Method: http.MethodGet, Path: messagesPath + "/export", Tags: []string{"messages"},
		Summary: "Export messages",
		Description: "Returns all messages that match the filters as CSV (RFC 4180) in UTF-8 with a header row, newest first. " +
			"Texts and values from Plivo that a spreadsheet would evaluate as a formula are prefixed with an apostrophe, which a batch from CSV removes again.",
		Responses: map[string]*huma.Response{"200": {Description: "The messages as CSV.", Content: map[string]*huma.MediaType{"text/csv": {Schema: &huma.Schema{Type: huma.TypeString}}}}},
		Errors:    []int{http.StatusBadRequest},
		Metadata:  readsQuery,
	}, a.export)
}

type exportInput struct {
	Request
	FilterInput
}

func (a *api) export(ctx context.Context, principal identity.Principal, in *exportInput) (*huma.StreamResponse, error) {
	filter, err := filterOnly(in.r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	// The first page is read before the response starts, so that an error can still be answered.
	page := mms.Page{Filter: filter, Limit: exportPage}
	list, next, err := a.Messages.Messages(ctx, principal.WorkspaceID, page)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		header := in.w.Header()
		header.Set("Content-Type", "text/csv; charset=utf-8; header=present")
		header.Set("Content-Disposition", `attachment; filename="messages.csv"`)
		if in.r.Method == http.MethodHead {
			return
		}
		w := csv.NewWriter(in.w)
		_ = w.Write(exportColumns) // w.Error reports it below
		for {
			for _, m := range list {
				_ = w.Write(exportRow(m))
			}
			w.Flush()
			if w.Error() != nil || extendWriteDeadline(in.w, writeTimeout) != nil {
				return // the client has disconnected
			}
			if next == uuid.Nil {
				return
			}
			page.Before = next
			if list, next, err = a.exportPage(ctx, principal.WorkspaceID, page); err != nil {
				a.Logger.ErrorContext(ctx, "export failed", "error", err)
				panic(http.ErrAbortHandler) // the client must not mistake a part for the whole
			}
		}
	}}, nil
}

// exportPage reads a page after the first: the export as a whole has no deadline.
func (a *api) exportPage(ctx context.Context, workspace uuid.UUID, page mms.Page) ([]mms.Message, uuid.UUID, error) {
	ctx, cancel := httpkit.WithDeadline(ctx, httpkit.RequestTimeout)
	defer cancel()
	return a.Messages.Messages(ctx, workspace, page)
}

var exportColumns = []string{
	"id", "status", "to", "from", "text", "media_urls", "explanation", "reason", "plivo_code", "plivo_uuid", "units", "cost",
	"priority", "created_at", "send_at", "updated_at", "final_at", "batch_id", "resend_of", "metadata", "media_ids",
}

func exportRow(m mms.Message) []string {
	units, metadata := "", ""
	if m.Units != nil {
		units = strconv.Itoa(*m.Units)
	}
	if m.Metadata != nil {
		object, _ := json.Marshal(m.Metadata) // a map of strings can always be encoded
		metadata = string(object)
	}
	return []string{
		m.ID.String(), string(m.Status), string(m.Recipient), string(m.Sender), csvrows.EscapeFormula(m.Text), strings.Join(m.MediaURLs, " "),
		m.Explain(), string(m.Reason), csvrows.EscapeFormula(m.PlivoCode), csvrows.EscapeFormula(m.PlivoUUID), units, csvrows.EscapeFormula(m.Cost), m.Priority.String(),
		m.CreatedAt.UTC().Format(time.RFC3339Nano), timeOrEmpty(m.SendAt), m.UpdatedAt.UTC().Format(time.RFC3339Nano), timeOrEmpty(m.FinalAt),
		idOrEmpty(m.BatchID), idOrEmpty(m.ResendOf), metadata, strings.Join(uploadIDs(m.Uploads), " "),
	}
}

func uploadIDs(uploads []mms.MessageUpload) []string {
	ids := make([]string, len(uploads))
	for i, u := range uploads {
		ids[i] = u.ID.String()
	}
	return ids
}

func timeOrEmpty(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func idOrEmpty(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

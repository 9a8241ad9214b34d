package intake_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

// noUploads are the uploads of a user who has deleted all.
type noUploads struct{}

func (noUploads) Resolve(context.Context, uuid.UUID, []uuid.UUID, mms.Fit) ([]mms.MessageUpload, error) {
	return nil, invalid.Fields{{Name: "mediaIds[0]", Rule: "unknown"}}
}

// TestRepetitionThatIsInvalid repeats requests that have become invalid since they were
// carried out.
func TestRepetitionThatIsInvalid(t *testing.T) {
	t.Parallel()
	deleted := mms.CreateParams{MediaIDs: []string{uuid.NewString()}}
	late := mms.CreateParams{MediaURL: "https://example.com/a.jpg", SendAt: now.Add(-time.Hour).Format(time.RFC3339)}
	for name, tt := range map[string]struct {
		params mms.CreateParams
		key    string
		under  error // of the store
		lookUp bool
		want   string
	}{
		"upload deleted":        {deleted, "k", nil, true, "stored"},
		"sendAt has passed":     {late, "k", nil, true, "stored"},
		"not carried out":       {deleted, "k", mms.ErrNotFound, true, "unknown"},
		"key of another":        {late, "k", mms.ErrKeyReused, true, "range"},
		"in progress":           {deleted, "k", mms.ErrInFlight, true, "progress"},
		"database unavailable":  {deleted, "k", errUnavailable, true, "not stored"},
		"without a key":         {deleted, "", nil, false, "unknown"},
		"key that is malformed": {deleted, "\x00", nil, false, "idempotency_key"},
	} {
		params := tt.params
		params.Idempotency.Key = tt.key
		s := &fakeStore{under: tt.under}
		in, _ := newIntake(s)
		in.Uploads = noUploads{}
		by := mms.Submitter{Workspace: uuid.New()}
		batch, batchErr := in.CreateBatch(t.Context(), by, mms.BatchParams{CreateParams: params}, &numberedRows{fakeRows: fakeRows{"+14155550123"}})
		params.To = "+14155550123"
		message, err := in.CreateMessage(t.Context(), by, params)
		for what, got := range map[string]struct {
			replayed bool
			err      error
		}{"message": {message.Replayed, err}, "batch": {batch.Replayed, batchErr}} {
			result := firstRule(got.err)
			if result == "" {
				result = outcome(got.err, uuid.Nil)
			}
			if result != tt.want || got.replayed != (tt.want == "stored") {
				t.Errorf("%s, %s: got %s, replayed %t, want %s", name, what, result, got.replayed, tt.want)
			}
		}
		want := ""
		if tt.lookUp {
			want = "look up look up"
		}
		if calls := strings.Join(s.calls, " "); calls != want {
			t.Errorf("%s: got calls %q, want %q", name, calls, want)
		}
	}
}

// firstRule returns the first rule that is violated, and "" if err has no violations.
func firstRule(err error) string {
	var violations invalid.Fields
	if !errors.As(err, &violations) {
		return ""
	}
	return violations[0].Rule
}

// Package media keeps uploaded pictures and copies of those behind URLs: it makes them fit
// and stores them. It knows neither HTTP nor SQL.
package media

import (
	"context"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// Store keeps contents and uploads.
type Store interface {
	// SaveUploads stores a user's uploads and their contents, all or none, and returns them
	// with their times. The error may be an mms.QuotaError.
	SaveUploads(ctx context.Context, uploads []mms.Upload, contents []mms.Content, quota int64) ([]mms.Upload, error)
	// Upload returns mms.ErrNoUpload for one that does not exist, has expired or belongs
	// to another workspace, and so does DeleteUpload.
	Upload(ctx context.Context, workspace, id uuid.UUID) (mms.Upload, error)
	DeleteUpload(ctx context.Context, workspace, id uuid.UUID) error
	// SaveContent stores a content, unless it is stored already.
	SaveContent(ctx context.Context, c mms.Content) error
	Content(ctx context.Context, hash mms.ContentHash) (mms.Content, error)
	// Fitted returns a smaller version of a content that was made before.
	Fitted(ctx context.Context, hash mms.ContentHash, budget int) (fitted mms.Content, ok bool, err error)
	SaveFitted(ctx context.Context, hash mms.ContentHash, budget int, fitted mms.Content) error
}

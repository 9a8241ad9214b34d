package media_test

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeStore keeps everything in memory, without quotas.
type fakeStore struct {
	mu       sync.Mutex
	contents map[mms.ContentHash]mms.Content
	uploads  map[uuid.UUID]mms.Upload
	fitted   map[fittedKey]mms.ContentHash
}

type fittedKey struct {
	hash   mms.ContentHash
	budget int
}

func newFakeStore() *fakeStore {
	return &fakeStore{contents: map[mms.ContentHash]mms.Content{}, uploads: map[uuid.UUID]mms.Upload{}, fitted: map[fittedKey]mms.ContentHash{}}
}

func (f *fakeStore) SaveUploads(ctx context.Context, uploads []mms.Upload, contents []mms.Content, _ int64) ([]mms.Upload, error) {
	for _, c := range contents {
		_ = f.SaveContent(ctx, c)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range uploads {
		uploads[i].CreatedAt = time.Now()
		uploads[i].ExpiresAt = uploads[i].CreatedAt.Add(mms.UploadLifetime)
		f.uploads[uploads[i].ID] = uploads[i]
	}
	return uploads, nil
}

func (f *fakeStore) Upload(_ context.Context, workspace, id uuid.UUID) (mms.Upload, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok := f.uploads[id]
	if !ok || u.Workspace != workspace {
		return mms.Upload{}, mms.ErrNoUpload
	}
	return u, nil
}

func (f *fakeStore) DeleteUpload(ctx context.Context, workspace, id uuid.UUID) error {
	if _, err := f.Upload(ctx, workspace, id); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.uploads, id)
	return nil
}

func (f *fakeStore) SaveContent(_ context.Context, c mms.Content) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.contents[c.Hash] = c
	return nil
}

func (f *fakeStore) Content(_ context.Context, hash mms.ContentHash) (mms.Content, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.contents[hash]
	if !ok {
		return mms.Content{}, mms.ErrNoUpload
	}
	return c, nil
}

func (f *fakeStore) Fitted(ctx context.Context, hash mms.ContentHash, budget int) (mms.Content, bool, error) {
	f.mu.Lock()
	fitted, ok := f.fitted[fittedKey{hash, budget}]
	f.mu.Unlock()
	if !ok {
		return mms.Content{}, false, nil
	}
	c, err := f.Content(ctx, fitted)
	return c, err == nil, err
}

func (f *fakeStore) SaveFitted(ctx context.Context, hash mms.ContentHash, budget int, fitted mms.Content) error {
	f.mu.Lock()
	f.fitted[fittedKey{hash, budget}] = fitted.Hash
	f.mu.Unlock()
	return f.SaveContent(ctx, fitted)
}

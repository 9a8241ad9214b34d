package media

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/picture"
)

// previewSide is the longest side of a preview in pixels: twice what lists show, for
// screens with a high density.
const previewSide = 240

// Service reads, fits and stores pictures, one at a time. Create it with New.
type Service struct {
	store  Store
	budget int   // bytes of all pictures of a message
	memory int64 // bytes that working on a picture may take
	quota  int64 // bytes that a user's uploads may take
	slot   chan struct{}
}

// Options configure a Service.
type Options struct {
	Store  Store
	Budget int   // bytes that the pictures of a message may take together
	Memory int64 // bytes that working on one picture may take
	Quota  int64 // bytes that the uploads of a user may take
}

// New returns a service.
func New(o Options) *Service {
	return &Service{store: o.Store, budget: o.Budget, memory: o.Memory, quota: o.Quota, slot: make(chan struct{}, 1)}
}

// Fitted is a picture that is ready to be stored as an upload.
type Fitted struct {
	upload   mms.Upload
	contents []mms.Content
}

// Fit makes a file ready. It returns the rule that the file violates as invalid.Fields;
// field is the name of the violated field.
func (s *Service) Fit(ctx context.Context, workspace uuid.UUID, field string, f File) (Fitted, error) {
	release, err := s.acquire(ctx)
	if err != nil {
		return Fitted{}, err
	}
	defer release()
	data, err := f.read()
	if err != nil {
		return Fitted{}, err
	}
	info, err := picture.Inspect(data)
	if err != nil {
		return Fitted{}, violation(field, f.Name, err)
	}
	options := picture.Options{Budget: s.budget, Memory: s.memory}
	fitted, err := picture.Fit(data, options)
	if violated := (*picture.Error)(nil); f.FirstFrame && errors.As(err, &violated) && violated.Rule == picture.RuleAnimated {
		options.FirstFrame = true
		fitted, err = picture.Fit(data, options)
	}
	if err != nil {
		return Fitted{}, violation(field, f.Name, err)
	}
	sent, contents, err := s.contents(fitted)
	if err != nil {
		return Fitted{}, violation(field, f.Name, err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Fitted{}, fmt.Errorf("making the id of an upload: %w", err)
	}
	upload := mms.Upload{ID: id, Workspace: workspace, Uploaded: pictureInfo(info), Sent: sent.Hash, SentInfo: sent.PictureInfo, Changed: names(fitted.Changed)}
	if original, ok := s.original(data, sent); ok {
		upload.Original, contents = original.Hash, append(contents, original)
	}
	return Fitted{upload: upload, contents: contents}, nil
}

// original returns the picture as it was uploaded, without metadata. It reports false if
// Plivo would not take it like that.
func (s *Service) original(data []byte, sent mms.Content) (mms.Content, bool) {
	stripped, err := picture.Strip(data, s.memory)
	if err != nil || len(stripped.Data) > mms.MaxPlivoMedia {
		return mms.Content{}, false
	}
	return content(stripped, sent.Preview), true
}

// contents returns a fitted picture as a content, with its preview before it.
func (s *Service) contents(fitted picture.Fitted) (mms.Content, []mms.Content, error) {
	if max(fitted.Width, fitted.Height) <= previewSide {
		c := content(fitted, mms.ContentHash{})
		return c, []mms.Content{c}, nil
	}
	small, err := picture.Preview(fitted.Data, previewSide, s.memory)
	if err != nil {
		return mms.Content{}, nil, err
	}
	preview := content(small, mms.ContentHash{})
	c := content(fitted, preview.Hash)
	return c, []mms.Content{preview, c}, nil
}

func content(p picture.Fitted, preview mms.ContentHash) mms.Content {
	return mms.Content{Hash: sha256.Sum256(p.Data), PictureInfo: pictureInfo(p.Info), Data: p.Data, Preview: preview}
}

func pictureInfo(i picture.Info) mms.PictureInfo {
	return mms.PictureInfo{Type: string(i.Type), Bytes: i.Bytes, Width: i.Width, Height: i.Height}
}

func names(changes []picture.Change) []string {
	list := make([]string, len(changes))
	for i, c := range changes {
		list[i] = string(c)
	}
	return list
}

// violation turns the error of a picture into a violation of a field. The name of the file
// is in the message, because people know the file by it.
func violation(field, name string, err error) error {
	var violated *picture.Error
	if !errors.As(err, &violated) {
		return fmt.Errorf("working on a picture: %w", err)
	}
	message := violated.Message
	if name != "" {
		message = fmt.Sprintf("%s (%s)", message, name)
	}
	return invalid.Fields{{Name: field, Rule: string(violated.Rule), Message: message}}
}

// ErrBusy says that a picture had to wait for others until the end of its request. Nothing
// was stored.
var ErrBusy = fmt.Errorf("%w: other pictures are being worked on", mms.ErrNotStored)

// acquire waits until no other picture is being worked on: two at a time would take twice
// the memory. It returns ErrBusy when ctx ends, also if no other picture is left: there is no
// time for this one.
func (s *Service) acquire(ctx context.Context) (release func(), err error) {
	select {
	case s.slot <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
	if err := ctx.Err(); err != nil {
		<-s.slot
		return nil, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return func() { <-s.slot }, nil
}

// Save stores the pictures of one user: all, or none of them. The error may be an
// mms.QuotaError.
func (s *Service) Save(ctx context.Context, fitted []Fitted) ([]mms.Upload, error) {
	uploads := make([]mms.Upload, len(fitted))
	var contents []mms.Content
	for i, f := range fitted {
		uploads[i] = f.upload
		contents = append(contents, f.contents...)
	}
	return s.store.SaveUploads(ctx, uploads, contents, s.quota)
}

// Upload returns a user's upload, or mms.ErrNoUpload.
func (s *Service) Upload(ctx context.Context, workspace, id uuid.UUID) (mms.Upload, error) {
	return s.store.Upload(ctx, workspace, id)
}

// Delete deletes a user's upload, or returns mms.ErrNoUpload. Messages keep their pictures.
func (s *Service) Delete(ctx context.Context, workspace, id uuid.UUID) error {
	return s.store.DeleteUpload(ctx, workspace, id)
}

// Picture returns what would be sent of a user's upload, or mms.ErrNoUpload.
func (s *Service) Picture(ctx context.Context, workspace, id uuid.UUID) (mms.Content, error) {
	u, err := s.store.Upload(ctx, workspace, id)
	if err != nil {
		return mms.Content{}, err
	}
	return s.store.Content(ctx, u.Sent)
}

// Resolve returns what a message sends of a user's uploads, in their order. If they exceed
// the budget together, each is made smaller. It returns invalid.Fields for ids that cannot
// be used.
func (s *Service) Resolve(ctx context.Context, workspace uuid.UUID, ids []uuid.UUID, fit mms.Fit) ([]mms.MessageUpload, error) {
	var violations invalid.Fields
	uploads := make([]mms.MessageUpload, len(ids))
	sizes := make([]int, len(ids))
	for i, id := range ids {
		field := fmt.Sprintf("mediaIds[%d]", i)
		u, err := s.store.Upload(ctx, workspace, id)
		switch {
		case errors.Is(err, mms.ErrNoUpload):
			violations.Add(field, "unknown", "is not one of your uploads, or has expired: upload the picture again")
		case err != nil:
			return nil, err
		case fit == mms.FitNever && u.Original.IsZero():
			violations.Add(field, string(picture.RuleBytes), "cannot be sent as it is: it is larger than 2 MB, or must be rotated or converted. Set fit to auto or always")
		case fit == mms.FitNever:
			uploads[i] = mms.MessageUpload{ID: id, Content: u.Original}
		default:
			uploads[i], sizes[i] = mms.MessageUpload{ID: id, Content: u.Sent}, u.SentInfo.Bytes
		}
	}
	if err := violations.Err(); err != nil || fit == mms.FitNever || sum(sizes) <= s.budget {
		return uploads, err
	}
	for i, share := range picture.Share(s.budget, sizes) {
		if share >= sizes[i] {
			continue
		}
		fitted, err := s.Refit(ctx, uploads[i].Content, share)
		if err != nil {
			return nil, violation(fmt.Sprintf("mediaIds[%d]", i), "", err)
		}
		uploads[i].Content = fitted.Hash
	}
	return uploads, nil
}

func sum(sizes []int) int {
	var n int
	for _, size := range sizes {
		n += size
	}
	return n
}

// budgetSteps divide budgets into few steps, so that a version made for one message serves
// others.
const budgetSteps = 1000 // bytes

// Refit returns a version of a stored picture that has at most budget bytes. It makes each
// version once.
func (s *Service) Refit(ctx context.Context, hash mms.ContentHash, budget int) (mms.Content, error) {
	budget -= budget % budgetSteps
	if fitted, ok, err := s.store.Fitted(ctx, hash, budget); err != nil || ok {
		return fitted, err
	}
	release, err := s.acquire(ctx)
	if err != nil {
		return mms.Content{}, err
	}
	defer release()
	whole, err := s.store.Content(ctx, hash)
	if err != nil {
		return mms.Content{}, err
	}
	smaller, err := picture.Fit(whole.Data, picture.Options{Budget: budget, Memory: s.memory, FirstFrame: true})
	if err != nil {
		return mms.Content{}, err
	}
	fitted := content(smaller, whole.Preview)
	return fitted, s.store.SaveFitted(ctx, hash, budget, fitted)
}

// Copied is our copy of a picture behind a URL.
type Copied struct {
	mms.Content
	Changed []string
}

// Copy fits a fetched picture to a budget and stores it. The error is a *picture.Error if
// it cannot be made to fit.
func (s *Service) Copy(ctx context.Context, data []byte, budget int) (Copied, error) {
	release, err := s.acquire(ctx)
	if err != nil {
		return Copied{}, err
	}
	defer release()
	fitted, err := picture.Fit(data, picture.Options{Budget: budget, Memory: s.memory})
	if err != nil {
		return Copied{}, err
	}
	c, contents, err := s.contents(fitted)
	if err != nil {
		return Copied{}, err
	}
	return Copied{Content: c, Changed: names(fitted.Changed)}, s.saveAll(ctx, contents)
}

// Preview stores a small version of a fetched picture, and returns the zero hash for what
// is no picture.
func (s *Service) Preview(ctx context.Context, data []byte) (mms.ContentHash, error) {
	c, err := s.Thumbnail(ctx, data)
	if err != nil || c.Data == nil {
		return mms.ContentHash{}, err
	}
	return c.Hash, s.store.SaveContent(ctx, c)
}

// Thumbnail returns a small version of a fetched picture without storing it, and the zero
// value for what is no picture.
func (s *Service) Thumbnail(ctx context.Context, data []byte) (mms.Content, error) {
	release, err := s.acquire(ctx)
	if err != nil {
		return mms.Content{}, err
	}
	defer release()
	small, err := picture.Preview(data, previewSide, s.memory)
	var violated *picture.Error
	if errors.As(err, &violated) {
		return mms.Content{}, nil
	}
	if err != nil {
		return mms.Content{}, fmt.Errorf("making a thumbnail: %w", err)
	}
	return content(small, mms.ContentHash{}), nil
}

func (s *Service) saveAll(ctx context.Context, contents []mms.Content) error {
	for _, c := range contents {
		if err := s.store.SaveContent(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

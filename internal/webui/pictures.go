package webui

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/picture"
)

// Uploads keeps uploaded pictures. Fit returns the rule that a file violates as
// invalid.Fields, and Save an mms.QuotaError; an upload of another workspace is mms.ErrNoUpload.
type Uploads interface {
	Fit(ctx context.Context, workspace uuid.UUID, field string, f media.File) (media.Fitted, error)
	Save(ctx context.Context, fitted []media.Fitted) ([]mms.Upload, error)
	Upload(ctx context.Context, workspace, id uuid.UUID) (mms.Upload, error)
	Picture(ctx context.Context, workspace, id uuid.UUID) (mms.Content, error)
}

const (
	// maxPictureForm bounds a form with pictures: the files, and a little around each.
	maxPictureForm = mms.MaxUploads*(picture.MaxBytes+10_000) + maxForm

	fittingTimeout = 90 * time.Second // for all files of a form, which wait for those of others
	sharingTimeout = 40 * time.Second // for the uploads of a message that are made smaller together
)

// Links checks links to pictures, and returns a small version of the picture if there is one.
// Errors are invalid.Fields and media.TooManyChecksError.
type Links interface {
	CheckAndShow(ctx context.Context, user uuid.UUID, url string) (mms.MediaCheck, mms.Content, error)
}

// Fields of a form with pictures. A field after the files has no effect on them.
const (
	formFile       = "file"
	formFirstFrame = "firstFrame" // whether to use the first frame of an animation that does not fit
)

// chosenUpload is an upload that a form will send.
type chosenUpload struct {
	ID     string `json:"id"`
	Src    string `json:"src"` // the path of the picture
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Note   string `json:"note"` // what was done to it
}

func (p *Pages) chosen(u mms.Upload) chosenUpload {
	return chosenUpload{ID: u.ID.String(), Src: p.base + "/uploads/" + u.ID.String(), Width: u.SentInfo.Width, Height: u.SentInfo.Height, Note: describeUpload(u)}
}

// describeUpload says what was done to a picture, like "4.3 MB → 260 kB, location removed".
func describeUpload(u mms.Upload) string {
	parts := []string{mms.FormatBytes(u.SentInfo.Bytes)}
	if slices.Contains(u.Changed, string(picture.Recompressed)) {
		parts[0] = mms.FormatBytes(u.Uploaded.Bytes) + " → " + parts[0]
	}
	for _, c := range []struct {
		change picture.Change
		words  string
	}{
		{picture.LocationRemoved, "location removed"}, {picture.Rotated, "turned upright"}, {picture.FirstFrame, "first frame only"},
	} {
		if slices.Contains(u.Changed, string(c.change)) {
			parts = append(parts, c.words)
		}
	}
	return strings.Join(parts, ", ")
}

// readPictureForm parses a form that may have files, and stores them as uploads, whose ids
// it adds to the values of mediaId. It returns the violations of the files. Without a user
// the files are dropped, and a violation says of each to choose it again. If the form cannot
// be read, it answers the request and returns false.
func (p *Pages) readPictureForm(w http.ResponseWriter, r *http.Request, user uuid.UUID) (violations invalid.Fields, ok bool) {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		return nil, p.readForm(w, r)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxPictureForm)
	parts, err := r.MultipartReader()
	if err != nil {
		err = fmt.Errorf("%w: %w", errFormParts, err)
	} else {
		control := http.NewResponseController(w)
		received := time.Now().Add(uploadTimeout)
		if err := errors.Join(control.SetReadDeadline(received), control.SetWriteDeadline(received.Add(fittingTimeout+sharingTimeout+writeTimeout))); err != nil && !errors.Is(err, http.ErrNotSupported) {
			p.fail(w, r, fmt.Errorf("extending the deadlines for pictures: %w", err))
			return nil, false
		}
		r.PostForm = url.Values{}
		violations, err = p.readParts(r, parts, user)
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		p.renderError(w, r, http.StatusRequestEntityTooLarge, "Form too large", fmt.Sprintf("The pictures are larger than %d MB together. Nothing was changed. Go back and choose fewer.", maxPictureForm/1_000_000))
	case errors.Is(err, errFormParts):
		p.renderError(w, r, http.StatusBadRequest, "Invalid form", "The form could not be read. Nothing was changed. Go back and submit it again.")
	case err != nil:
		p.fail(w, r, err)
	}
	return violations, err == nil && p.checkWorkspace(w, r)
}

var errFormParts = errors.New("the form cannot be read")

// readParts receives all files before the first one is worked on.
func (p *Pages) readParts(r *http.Request, parts *multipart.Reader, user uuid.UUID) (invalid.Fields, error) {
	var received []media.File
	defer func() {
		for _, f := range received {
			f.Close()
		}
	}()
	var dropped invalid.Fields
	left := int64(maxForm)
	for {
		part, err := parts.NextPart()
		switch {
		case errors.Is(err, io.EOF):
			violations, err := p.saveReceived(r, user, received)
			return append(dropped, violations...), err
		case err != nil:
			return nil, fmt.Errorf("%w: %w", errFormParts, err)
		case part.FormName() != formFile:
			value, err := io.ReadAll(io.LimitReader(part, left+1))
			if left -= int64(len(value)); err != nil || left < 0 {
				return nil, fmt.Errorf("%w: %w", errFormParts, err)
			}
			r.PostForm.Add(part.FormName(), string(value))
		case user == uuid.Nil:
			if name := part.FileName(); name != "" && len(dropped) < mms.MaxUploads {
				dropped.Add(formFile, "required", fmt.Sprintf("must be chosen again (%s)", name))
			}
		case len(received) > mms.MaxUploads: // one too many is a violation already
		default:
			f, err := media.ReadFile(part.FileName(), part)
			if errors.Is(err, media.ErrNoSpace) {
				return nil, err
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errFormParts, err)
			}
			f.FirstFrame = r.PostForm.Has(formFirstFrame)
			received = append(received, f)
		}
	}
}

// saveReceived stores received files as uploads and adds their ids to the form.
func (p *Pages) saveReceived(r *http.Request, user uuid.UUID, received []media.File) (invalid.Fields, error) {
	ctx, cancel := httpkit.WithDeadline(r.Context(), fittingTimeout)
	defer cancel()
	files := fittedFiles{uploads: p.Uploads, user: user}
	for _, f := range received {
		if err := files.add(ctx, f); err != nil {
			return nil, err
		}
	}
	ids, err := files.save(ctx)
	r.PostForm["mediaId"] = append(r.PostForm["mediaId"], ids...)
	return files.violations, err
}

// fittedFiles are the pictures of one form.
type fittedFiles struct {
	uploads    Uploads
	user       uuid.UUID
	fitted     []media.Fitted
	violations invalid.Fields
}

// add makes a file ready. What is wrong with it becomes a violation. Browsers send an empty
// file without a name if none was chosen.
func (f *fittedFiles) add(ctx context.Context, file media.File) error {
	switch {
	case file.Name == "" && file.Size == 0:
		return nil
	case len(f.fitted) == mms.MaxUploads:
		f.violations.Add(formFile, "max_items", fmt.Sprintf("must be at most %d pictures", mms.MaxUploads))
		return nil
	}
	one, err := f.uploads.Fit(ctx, f.user, formFile, file)
	if more := (invalid.Fields)(nil); errors.As(err, &more) {
		f.violations = append(f.violations, more...)
		return nil
	}
	if err == nil {
		f.fitted = append(f.fitted, one)
	}
	return err
}

// save stores the pictures, also when others of the form are refused: nobody should have to
// choose them again. It returns their ids.
func (f *fittedFiles) save(ctx context.Context) ([]string, error) {
	if len(f.fitted) == 0 {
		return nil, nil
	}
	uploads, err := f.uploads.Save(ctx, f.fitted)
	var quota mms.QuotaError
	if errors.As(err, &quota) {
		f.violations.Add(formFile, "range", "cannot be stored: "+quota.Error())
		return nil, nil
	}
	ids := make([]string, len(uploads))
	for i, u := range uploads {
		ids[i] = u.ID.String()
	}
	return ids, err
}

// savePictures stores the pictures of a form that has been parsed. The error may be
// invalid.Fields, while other pictures were stored.
func (p *Pages) savePictures(ctx context.Context, user uuid.UUID, form *multipart.Form) (ids []string, err error) {
	files := fittedFiles{uploads: p.Uploads, user: user}
	for _, header := range form.File["picture"] {
		content, err := header.Open()
		if err != nil {
			return nil, fmt.Errorf("opening an uploaded picture: %w", err)
		}
		err = files.add(ctx, media.File{Name: header.Filename, Content: content, Size: int(header.Size), FirstFrame: form.Value[formFirstFrame] != nil})
		content.Close()
		if err != nil {
			return nil, err
		}
	}
	ids, err = files.save(ctx)
	if err == nil {
		err = files.violations.Err()
	}
	return ids, err
}

// asksFirstFrame reports whether an animation is too large, whose first frame can be sent.
func asksFirstFrame(violations invalid.Fields) bool {
	return slices.ContainsFunc(violations, func(v invalid.Field) bool { return v.Rule == string(picture.RuleAnimated) })
}

// chosenUploads returns the user's uploads with these ids. It leaves out those that have
// expired or do not exist. One that cannot be read stays, by its id alone: a form without it
// would send the message without its picture.
func (p *Pages) chosenUploads(ctx context.Context, user uuid.UUID, ids []string) []chosenUpload {
	var list []chosenUpload
	for _, id := range ids[:min(len(ids), mms.MaxUploads)] {
		parsed, err := uuid.Parse(id)
		if err != nil {
			continue
		}
		u, err := p.Uploads.Upload(ctx, user, parsed)
		switch {
		case err == nil:
			list = append(list, p.chosen(u))
		case !errors.Is(err, mms.ErrNoUpload):
			p.Logger.WarnContext(ctx, "an upload shown without its picture", slog.Any("error", err))
			list = append(list, chosenUpload{ID: parsed.String()})
		}
	}
	return list
}

// fingerprint identifies a submitted form for mms.Idempotency. It has the contents of uploads
// in place of their ids: each submission of a form with files makes uploads of its own.
func (p *Pages) fingerprint(ctx context.Context, user uuid.UUID, operation string, params mms.CreateParams, extra ...string) ([32]byte, error) {
	pictures := make([]string, len(params.MediaIDs))
	for i, id := range params.MediaIDs {
		pictures[i] = id
		parsed, err := uuid.Parse(id)
		if err != nil {
			continue // a violation
		}
		u, err := p.Uploads.Upload(ctx, user, parsed)
		if err != nil && !errors.Is(err, mms.ErrNoUpload) {
			return [32]byte{}, err
		}
		if err == nil {
			pictures[i] = u.Sent.String()
		}
	}
	params.MediaIDs = nil
	return intake.Fingerprint(operation, params, append(extra, pictures...)...), nil
}

// upload stores the pictures that a script sends while the form is filled in.
func (p *Pages) upload(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	violations, ok := p.readPictureForm(w, r, principal.WorkspaceID)
	if !ok {
		return
	}
	answering, cancel := httpkit.WithDeadline(r.Context(), httpkit.RequestTimeout)
	defer cancel()
	answer := struct {
		Uploads []chosenUpload `json:"uploads"`
		Errors  []string       `json:"errors"`
		// AskFirstFrame says that the first frame of the animation could be sent.
		AskFirstFrame bool `json:"askFirstFrame"`
	}{p.chosenUploads(answering, principal.WorkspaceID, r.PostForm["mediaId"]), []string{}, asksFirstFrame(violations)}
	for _, v := range violations {
		answer.Errors = append(answer.Errors, "The picture "+v.Message+".")
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the browser may have gone
}

// uploadedPicture serves the picture of an upload.
func (p *Pages) uploadedPicture(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		p.NotFound(w, r)
		return
	}
	content, err := p.Uploads.Picture(r.Context(), principal.WorkspaceID, id)
	p.servePicture(w, r, content, err)
}

// messagePicture serves our copy of a picture of a message, or its preview.
func (p *Pages) messagePicture(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	position, positionErr := strconv.Atoi(chi.URLParam(r, "position"))
	if err != nil || positionErr != nil || position < 1 || position > mms.MaxMedia {
		p.NotFound(w, r)
		return
	}
	content, err := p.Messages.MessagePicture(r.Context(), principal.WorkspaceID, id, position, r.URL.Query().Has("preview"))
	p.servePicture(w, r, content, err)
}

func (p *Pages) servePicture(w http.ResponseWriter, r *http.Request, content mms.Content, err error) {
	switch {
	case errors.Is(err, mms.ErrNoUpload):
		p.NotFound(w, r)
	case err != nil:
		p.fail(w, r, err)
	default:
		httpkit.ServePicture(w, r, content.Type, content.Hash.String(), content.Data)
	}
}

// checkLink tells a script what is behind a link, while the form is filled in.
func (p *Pages) checkLink(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	if p.Links == nil {
		p.NotFound(w, r)
		return
	}
	if !p.readForm(w, r) {
		return
	}
	control := http.NewResponseController(w)
	if err := control.SetWriteDeadline(time.Now().Add(checkTimeout + writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		p.fail(w, r, fmt.Errorf("extending the deadline for a check: %w", err))
		return
	}
	ctx, cancel := httpkit.WithDeadline(r.Context(), checkTimeout)
	defer cancel()
	check, thumbnail, err := p.Links.CheckAndShow(ctx, principal.WorkspaceID, r.PostForm.Get("url"))
	answer := struct {
		Good    bool   `json:"good"`
		Text    string `json:"text"`
		Picture string `json:"picture"` // a data: URL, so that the browser does not call the host
	}{Good: check.Result == mms.CheckPassed, Text: check.Describe()}
	if thumbnail.Data != nil {
		answer.Picture = "data:" + thumbnail.Type + ";base64," + base64.StdEncoding.EncodeToString(thumbnail.Data)
	}
	var violations invalid.Fields
	var tooMany media.TooManyChecksError
	switch {
	case errors.As(err, &violations):
		answer.Text = "The link " + violations[0].Message + "."
	case errors.As(err, &tooMany):
		answer.Good, answer.Text = true, "" // nothing is known to be wrong with the link
	case err != nil:
		p.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the browser may have gone
}

// checkTimeout is how long the host of a link may take, and a little more.
const checkTimeout = 20 * time.Second

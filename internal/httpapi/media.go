package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/httpkit"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/picture"
)

const (
	mediaPath = "/api/media"

	// maxMediaUpload bounds a whole request: its files, and a little around each.
	maxMediaUpload = mms.MaxUploads * (picture.MaxBytes + 10_000)

	fittingTimeout = 90 * time.Second // for all files of a request, which wait for those of others

	// sharingTimeout is how long the uploads of a message may take to be made smaller together.
	// It is below the server's write timeout.
	sharingTimeout = 40 * time.Second
)

// Media keeps uploads. Fit returns the rule that a file violates as invalid.Fields, and Save
// an mms.QuotaError; an upload of another workspace is mms.ErrNoUpload.
type Media interface {
	Fit(ctx context.Context, workspace uuid.UUID, field string, f media.File) (media.Fitted, error)
	Save(ctx context.Context, fitted []media.Fitted) ([]mms.Upload, error)
	Upload(ctx context.Context, workspace, id uuid.UUID) (mms.Upload, error)
	Picture(ctx context.Context, workspace, id uuid.UUID) (mms.Content, error)
	Delete(ctx context.Context, workspace, id uuid.UUID) error
}

// Links checks links to pictures. Errors are invalid.Fields and media.TooManyChecksError.
type Links interface {
	Check(ctx context.Context, user uuid.UUID, url string) (mms.MediaCheck, error)
}

// CheckRequest is the body of checkMedia.
type CheckRequest struct {
	URL string `json:"url" doc:"The URL of a picture." format:"uri" maxLength:"2000" example:"https://example.com/picture.jpg"`
}

// TransformSchema implements huma.SchemaTransformer.
func (CheckRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

// MediaCheck is what is behind a URL.
type MediaCheck struct {
	URL         string          `json:"url" doc:"The URL as messages store it." format:"uri"`
	Result      mms.CheckResult `json:"result" enum:"passed,failed,retry" doc:"passed: Plivo can use it; failed: it cannot, and a message with it would fail; retry: the host does not answer as it should, and a message would wait and try again." example:"passed"`
	Reason      mms.Reason      `json:"reason,omitempty" doc:"Why it failed, as a stable code."`
	Explanation string          `json:"explanation" doc:"What was found, in plain language." example:"A picture of 4032 × 3024 pixels, 1.2 MB. It is made smaller before it is sent."`
	Type        string          `json:"type,omitempty" doc:"The media type, by the content." example:"image/jpeg"`
	Bytes       int             `json:"bytes,omitempty" doc:"The size in bytes." example:"1200000"`
	Width       int             `json:"width,omitempty" doc:"The width in pixels, if it is a picture." example:"4032"`
	Height      int             `json:"height,omitempty" doc:"The height in pixels, if it is a picture." example:"3024"`
	Redirected  bool            `json:"redirected" doc:"Whether the host answered with a redirect: it is uncertain whether Plivo follows it, so Postcard sends a copy unless fit is never."`
	Fits        bool            `json:"fits" doc:"Whether it can be sent as it is."`
}

// SentPicture is what messages send of an upload.
type SentPicture struct {
	Type   string `json:"type" doc:"The media type: image/jpeg, image/png or image/gif." example:"image/jpeg"`
	Bytes  int    `json:"bytes" doc:"The size in bytes." example:"262144"`
	Width  int    `json:"width" doc:"The width in pixels." example:"1600"`
	Height int    `json:"height" doc:"The height in pixels." example:"1200"`
}

// Upload is an uploaded picture.
type Upload struct {
	ID        uuid.UUID   `json:"id" format:"uuid" doc:"The ID of the upload: use it in mediaIds."`
	Type      string      `json:"type" doc:"The media type of the file, by its content." example:"image/jpeg"`
	Bytes     int         `json:"bytes" doc:"The size of the file in bytes." example:"4300000"`
	Width     int         `json:"width" doc:"The width in pixels, as people see the picture." example:"4032"`
	Height    int         `json:"height" doc:"The height in pixels, as people see the picture." example:"3024"`
	Sent      SentPicture `json:"sent" doc:"What messages send of it, unless they have several pictures, which share the budget, or their own fit."`
	Changed   []string    `json:"changed" nullable:"false" doc:"What was done to the picture: rotated, metadata_removed, location_removed, scaled, recompressed, first_frame. New values may be added." example:"[\"metadata_removed\",\"location_removed\",\"scaled\",\"recompressed\"]"`
	ExpiresAt time.Time   `json:"expiresAt" doc:"Until when new messages can use the upload. Messages that use it keep it for longer."`
}

func uploadOf(u mms.Upload) Upload {
	return Upload{
		ID: u.ID, Type: u.Uploaded.Type, Bytes: u.Uploaded.Bytes, Width: u.Uploaded.Width, Height: u.Uploaded.Height,
		Sent:    SentPicture{Type: u.SentInfo.Type, Bytes: u.SentInfo.Bytes, Width: u.SentInfo.Width, Height: u.SentInfo.Height},
		Changed: append([]string{}, u.Changed...), ExpiresAt: u.ExpiresAt.UTC(),
	}
}

func (a *api) registerMedia() {
	registerFor(a, identity.Send, huma.Operation{
		OperationID: "uploadMedia", Method: http.MethodPost, Path: mediaPath, Tags: []string{"media"},
		Summary: "Upload pictures",
		Description: "Stores up to 10 pictures, all or none of them, to be sent with mediaIds. Takes JPEG, PNG, GIF and WebP files of up to 25 MB, 50 megapixels and 300 frames, each as a part named file. " +
			"Location and other metadata are removed, and a picture that is too large for phones and carriers is made smaller. " +
			"An animation that is too large is refused; with firstFrame=true, as a part before the files, its first frame is used.",
		DefaultStatus: http.StatusCreated,
		Responses: map[string]*huma.Response{"201": {Description: "The uploads, in the order of the files.", Content: map[string]*huma.MediaType{
			mediaType: {Schema: &huma.Schema{Type: huma.TypeArray, Items: a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Upload](), true, "")}},
		}}},
		Errors:   bodyErrors(http.StatusConflict),
		Metadata: readsQuery,
	}, a.uploadMedia)
	a.describeFiles()
	registerFor(a, identity.Send, huma.Operation{
		OperationID: "getMedia", Method: http.MethodGet, Path: mediaPath + "/{id}", Tags: []string{"media"},
		Summary:     "Get an upload",
		Description: "Returns an upload of yours that new messages can still use.",
		Responses:   map[string]*huma.Response{"200": {Description: "The upload."}},
		Errors:      []int{http.StatusNotFound},
	}, a.getMedia)
	registerFor(a, identity.Send, huma.Operation{
		OperationID: "getMediaContent", Method: http.MethodGet, Path: mediaPath + "/{id}/content", Tags: []string{"media"},
		Summary:     "Get the picture of an upload",
		Description: "Returns the picture as messages send it.",
		Responses: map[string]*huma.Response{"200": {Description: "The picture.", Content: map[string]*huma.MediaType{
			"image/*": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}}},
		Errors: []int{http.StatusNotFound},
	}, a.getMediaContent)
	registerFor(a, identity.Send, huma.Operation{
		OperationID: "deleteMedia", Method: http.MethodDelete, Path: mediaPath + "/{id}", Tags: []string{"media"},
		Summary:     "Delete an upload",
		Description: "Deletes an upload. Messages that use it keep their picture.",
		Responses:   map[string]*huma.Response{"204": {Description: "The upload was deleted."}},
		Errors:      []int{http.StatusNotFound},
	}, a.deleteMedia)
}

func (a *api) registerMediaCheck() {
	registerFor(a, identity.Send, huma.Operation{
		OperationID: "checkMedia", Method: http.MethodPost, Path: mediaPath + "/check", Tags: []string{"media"},
		Summary:     "Check a link",
		Description: "Checks what is behind a URL now, as Postcard does before it sends a message with it. Limited to 30 checks a minute, 10 of them at once. 404 if the installation checks no links (MEDIA_CHECK=off).",
		Responses:   map[string]*huma.Response{"200": {Description: "What was found."}},
		Errors:      bodyErrors(http.StatusNotFound),
	}, a.checkMedia)
	describeBody(a, mediaPath+"/check", CheckRequest{URL: "https://example.com/picture.jpg"})
}

type mediaCheckOutput struct{ Body MediaCheck }

// checkTimeout is how long a host may take, and a little more.
const checkTimeout = 20 * time.Second

func (a *api) checkMedia(ctx context.Context, principal identity.Principal, in *bodyInput) (*mediaCheckOutput, error) {
	var body CheckRequest
	if err := readObject(in.Request, &body); err != nil {
		return nil, err
	}
	if a.Links == nil {
		return nil, newProblem(http.StatusNotFound, "This installation checks no links to pictures (MEDIA_CHECK=off).")
	}
	if err := extendWriteDeadline(in.w, checkTimeout+writeTimeout); err != nil {
		return nil, err
	}
	ctx, cancel := httpkit.WithDeadline(ctx, checkTimeout)
	defer cancel()
	c, err := a.Links.Check(ctx, principal.WorkspaceID, body.URL)
	if err != nil {
		return nil, err
	}
	return &mediaCheckOutput{Body: MediaCheck{
		URL: c.URL, Result: c.Result, Reason: c.Reason, Explanation: c.Describe(), Type: c.Type, Bytes: c.Bytes, Width: c.Width, Height: c.Height,
		Redirected: c.Redirected, Fits: c.Fits,
	}}, nil
}

// describeFiles documents the body of uploadMedia, which huma must not decode.
func (a *api) describeFiles() {
	a.huma.OpenAPI().Paths[mediaPath].Post.RequestBody = &huma.RequestBody{
		Required: true,
		Content: map[string]*huma.MediaType{"multipart/form-data": {Schema: &huma.Schema{
			Type: huma.TypeObject, Required: []string{"file"},
			Properties: map[string]*huma.Schema{
				"file":       {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, Format: "binary"}, Description: "The pictures: 1 to 10 parts with this name."},
				"firstFrame": {Type: huma.TypeString, Enum: []any{"true", "false"}, Description: "Use the first frame of an animation that is too large. Must stand before the files."},
			},
		}}},
	}
}

type uploadMediaOutput struct{ Body []Upload }

func (a *api) uploadMedia(_ context.Context, principal identity.Principal, in *bodyInput) (*uploadMediaOutput, error) {
	parts, err := multipartReader(in.Request)
	if err != nil {
		return nil, err
	}
	files, err := receiveFiles(parts)
	defer closeFiles(files)
	if err != nil {
		return nil, err
	}
	ctx, cancel := httpkit.WithDeadline(in.r.Context(), fittingTimeout)
	defer cancel()
	fitted, err := a.fitFiles(ctx, principal.WorkspaceID, files)
	if err != nil {
		return nil, err
	}
	uploads, err := a.Media.Save(ctx, fitted)
	if err != nil {
		return nil, err
	}
	out := &uploadMediaOutput{Body: make([]Upload, len(uploads))}
	for i, u := range uploads {
		out.Body[i] = uploadOf(u)
	}
	return out, nil
}

func closeFiles(files []media.File) {
	for _, f := range files {
		f.Close()
	}
}

// multipartReader returns the parts of the body, and gives the client time to send them.
func multipartReader(q Request) (*multipart.Reader, error) {
	declared, params, err := mime.ParseMediaType(q.r.Header.Get("Content-Type"))
	if err != nil || declared != "multipart/form-data" || params["boundary"] == "" {
		return nil, newProblem(http.StatusUnsupportedMediaType, "The Content-Type must be multipart/form-data (with curl: -F file=@picture.jpg).")
	}
	query, err := queryOf(q.r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	var violations invalid.Fields
	checkParameters(query, nil, &violations)
	if err := violations.Err(); err != nil {
		return nil, err
	}
	body, err := httpkit.Body(q.w, q.r, maxMediaUpload)
	if err != nil {
		return nil, bodyError(err, "")
	}
	control := http.NewResponseController(q.w)
	if err := errors.Join(control.SetReadDeadline(time.Now().Add(uploadTimeout)), extendWriteDeadline(q.w, uploadTimeout+fittingTimeout+writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("extending the upload deadlines: %w", err)
	}
	return multipart.NewReader(body, params["boundary"]), nil
}

// receiveFiles receives all files before the first one is worked on. The caller closes them,
// also after an error.
func receiveFiles(parts *multipart.Reader) (files []media.File, err error) {
	firstFrame := false
	for {
		part, err := parts.NextPart()
		switch {
		case errors.Is(err, io.EOF) && len(files) == 0:
			return nil, invalid.Fields{{Name: "file", Rule: "required", Message: "is missing: send 1 to 10 pictures as parts named file"}}
		case errors.Is(err, io.EOF):
			return files, nil
		case err != nil:
			return files, partError(err)
		}
		switch name := part.FormName(); {
		case name == "firstFrame":
			if firstFrame, err = readFlag(part); err != nil {
				return files, err
			}
		case name != "file":
			return files, invalid.Fields{{Name: clip(name), Rule: "unknown", Message: "is not a known part: name the pictures file"}}
		case len(files) == mms.MaxUploads:
			return files, invalid.Fields{{Name: "file", Rule: "max_items", Message: fmt.Sprintf("must be at most %d files", mms.MaxUploads)}}
		default:
			f, err := media.ReadFile(clip(part.FileName()), part)
			if err != nil {
				return files, partError(err)
			}
			f.FirstFrame = firstFrame
			files = append(files, f)
		}
	}
}

// fitFiles returns the violations of all files.
func (a *api) fitFiles(ctx context.Context, workspace uuid.UUID, files []media.File) ([]media.Fitted, error) {
	var fitted []media.Fitted
	var violations invalid.Fields
	for i, f := range files {
		one, err := a.Media.Fit(ctx, workspace, "file["+strconv.Itoa(i)+"]", f)
		if more := (invalid.Fields)(nil); errors.As(err, &more) {
			violations = append(violations, more...)
		} else if err != nil {
			return nil, err
		}
		fitted = append(fitted, one)
	}
	return fitted, violations.Err()
}

// readFlag reads a part that is true or false.
func readFlag(part io.Reader) (bool, error) {
	value, err := io.ReadAll(io.LimitReader(part, maxName))
	if err != nil {
		return false, partError(err)
	}
	flag, err := strconv.ParseBool(string(value))
	if err != nil {
		return false, invalid.Fields{{Name: "firstFrame", Rule: "type", Message: "must be true or false"}}
	}
	return flag, nil
}

func partError(err error) error {
	if errors.Is(err, media.ErrNoSpace) {
		return err
	}
	return bodyError(err, fmt.Sprintf("The request body exceeds %d MB.", maxMediaUpload/1_000_000))
}

var errNoUpload = newProblem(http.StatusNotFound, "The upload does not exist, or has expired.")

type mediaInput struct {
	ID string `path:"id" format:"uuid" doc:"The ID of the upload."`
}

type mediaOutput struct{ Body Upload }

func (a *api) getMedia(ctx context.Context, principal identity.Principal, in *mediaInput) (*mediaOutput, error) {
	id, err := parseID(in.ID, errNoUpload)
	if err != nil {
		return nil, err
	}
	u, err := a.Media.Upload(ctx, principal.WorkspaceID, id)
	if err != nil {
		return nil, err
	}
	return &mediaOutput{Body: uploadOf(u)}, nil
}

type mediaContentInput struct {
	Request
	ID string `path:"id" format:"uuid" doc:"The ID of the upload."`
}

func (a *api) getMediaContent(ctx context.Context, principal identity.Principal, in *mediaContentInput) (*huma.StreamResponse, error) {
	id, err := parseID(in.ID, errNoUpload)
	if err != nil {
		return nil, err
	}
	content, err := a.Media.Picture(ctx, principal.WorkspaceID, id)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		httpkit.ServePicture(in.w, in.r, content.Type, content.Hash.String(), content.Data)
	}}, nil
}

func (a *api) deleteMedia(ctx context.Context, principal identity.Principal, in *mediaInput) (*noBody, error) {
	id, err := parseID(in.ID, errNoUpload)
	if err != nil {
		return nil, err
	}
	return nil, a.Media.Delete(ctx, principal.WorkspaceID, id)
}

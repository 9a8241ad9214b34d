package plivo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/postcard-mms/postcard/internal/mms"
)

// uploader uploads pictures. The SDK's way takes files by their paths, loses all but the
// first, does not notice one that failed, and races with other requests.
type uploader struct {
	url       string // of the Media API
	authID    string
	authToken string
	http      *http.Client
}

// maxUploads bounds simultaneous uploads, so that they leave connections to messages.
const maxUploads = 4

func newUploader(o Options, base *url.URL) uploader {
	return uploader{
		url:    base.Scheme + "://" + base.Host + "/v1/Account/" + url.PathEscape(o.AuthID) + "/Media/",
		authID: o.AuthID, authToken: o.AuthToken,
		http: &http.Client{
			Transport: newTransport(maxUploads),
			// A redirect would get the credentials.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// UploadMedia uploads a picture under a name that recipients may see, and returns Plivo's
// media id. The error is an mms.PlivoMediaError if Plivo will never take the picture;
// otherwise another upload may succeed, and cannot do harm.
func (c *Client) UploadMedia(ctx context.Context, name, mediaType string, data []byte) (string, error) {
	const doing = "uploading a picture to Plivo"
	body, contentType, err := singleFile(name, mediaType, data)
	if err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.uploads.url, bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("%s: %w", doing, withoutURL(err))
	}
	request.SetBasicAuth(c.uploads.authID, c.uploads.authToken)
	request.Header.Set("Content-Type", contentType)
	response, err := c.uploads.http.Do(request)
	if err != nil {
		return "", fmt.Errorf("%s: %w", doing, withoutURL(err))
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxResponse+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", doing, err)
	case len(answer) > maxResponse:
		return "", fmt.Errorf("%s: %w", doing, errResponseTooLong)
	case response.StatusCode/100 == 2:
		return uploadedID(answer)
	}
	_, text := errorText(answer)
	return "", uploadError(response.StatusCode, text)
}

// singleFile returns a multipart body with one file. Plivo takes up to ten in a request
// (Plivo docs, media upload), but then some may fail while others are stored.
func singleFile(name, mediaType string, data []byte) (body []byte, contentType string, err error) {
	var out bytes.Buffer
	form := multipart.NewWriter(&out)
	part, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {multipart.FileContentDisposition("file", name)},
		"Content-Type":        {mediaType},
	})
	if err != nil {
		return nil, "", err
	}
	_, _ = part.Write(data) // writes into memory
	err = form.Close()
	return out.Bytes(), form.FormDataContentType(), err
}

// uploadedFile is a file in a 2xx response. A file may have failed even so (Plivo docs,
// media upload).
type uploadedFile struct {
	MediaID      string     `json:"media_id"`
	Status       anyLiteral `json:"status"`
	StatusCode   anyLiteral `json:"status_code"`
	ErrorCode    anyLiteral `json:"error_code"`
	ErrorMessage anyLiteral `json:"error_message"`
}

func uploadedID(body []byte) (string, error) {
	var answer struct {
		Objects []uploadedFile `json:"objects"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Objects) != 1 {
		return "", errors.New("uploading a picture to Plivo: got a 2xx response without one file")
	}
	file := answer.Objects[0]
	status, _ := strconv.Atoi(string(file.StatusCode))
	switch {
	case status != 0 && status/100 != 2, file.failed():
		return "", uploadError(cmp.Or(status, http.StatusBadRequest), file.text())
	case !plausibleID(file.MediaID):
		return "", errors.New("uploading a picture to Plivo: got a 2xx response without a media id")
	}
	return file.MediaID, nil
}

// failed reports whether the file has an error although its status code does not say so.
func (f uploadedFile) failed() bool {
	return f.MediaID == "" && f.text() != ""
}

func (f uploadedFile) text() string {
	for _, text := range []anyLiteral{f.ErrorMessage, f.Status, f.ErrorCode} {
		if text != "" && text != "null" {
			return string(text)
		}
	}
	return ""
}

func plausibleID(id string) bool {
	return id != "" && len(id) <= 100 && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
}

// rejections are statuses that mean this picture and not the account or the moment.
var rejections = []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity}

// uploadError judges an error as mms.Judge does one of a message.
func uploadError(status int, text string) error {
	verdict := mms.Judge(mms.Answer{Written: true, Status: status, Text: text})
	if verdict.Outcome == mms.PermanentFailure && slices.Contains(rejections, status) {
		return mms.PlivoMediaError{Text: cmp.Or(verdict.Detail, fmt.Sprintf("status %d", status))}
	}
	return fmt.Errorf("uploading a picture to Plivo: got status %d: %s", status, verdict.Detail)
}

package plivosim

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"

	"github.com/go-chi/chi/v5"
)

const (
	maxFiles      = 10       // of one upload request, documented
	maxUploadBody = 64 << 20 // bytes of an upload request; our choice
)

// UploadFailed is a scenario of uploads alone: the response is a success that says that
// every file has failed. Nothing is stored.
const UploadFailed Scenario = "upload-failed"

// uploadScenarios lists the scenarios that uploads know. The accept scenarios store the
// files.
func uploadScenarios() []Scenario {
	return []Scenario{
		UploadFailed,
		RefusedUnauthorized, RefusedForbidden, RefusedEmptyBody, RateLimited, RateLimitedNoHint, RateLimitedEmptyBody,
		ServerError, ServerErrorEmptyBody, Unavailable, TemporaryFailure, DropBeforeAccept, StallBeforeHeaders, HugeError,
		EmptyNotAccepted, EmptyObjectNotAccepted,
		AcceptThen500, AcceptThen502, AcceptThen504, AcceptThenDrop, AcceptThenCut, AcceptThenStall,
	}
}

// mediaObject is a file as the Media API describes it.
type mediaObject struct {
	APIID       string `json:"api_id,omitempty"` // GET only
	ContentType string `json:"content_type"`
	FileName    string `json:"file_name"`
	MediaID     string `json:"media_id,omitempty"`
	Size        int    `json:"size"`
	UploadTime  string `json:"upload_time,omitempty"`
	MediaURL    string `json:"media_url,omitempty"`

	// Of uploads only.
	Status       string `json:"status,omitempty"`
	StatusCode   int    `json:"status_code,omitempty"`
	ErrorCode    int    `json:"error_code,omitempty"`
	ErrorMessage string `json:"error_message,omitempty"`
}

// sentFile is one part of an upload request.
type sentFile struct {
	name     string
	declared string // type
	data     []byte
}

// upload serves POST /v1/Account/{id}/Media/. The same file uploaded twice gets two ids.
func (s *Simulator) upload(x *exchange) {
	files, violation := readFiles(x.r)
	if violation != "" {
		s.answer(x, refusal(http.StatusBadRequest, violation), reply{})
		return
	}
	name, hit := x.epoch.chooseForUpload()
	x.scenario = name
	switch {
	case !hit:
		s.answer(x, uploaded(s.storeFiles(x, files)), reply{})
	case name == UploadFailed:
		s.answer(x, uploaded(failAll(files)), reply{})
	case name == AcceptThenCut:
		s.answer(x, uploaded(s.storeFiles(x, files)).over(cut), reply{})
	default:
		sc := s.scripts[name]
		if sc.accept {
			s.storeFiles(x, files)
		}
		s.answer(x, sc.answer, reply{})
	}
}

// readFiles returns the parts named file, or the error text of a response with status
// 400, which is ours.
func readFiles(r *http.Request) ([]sentFile, string) {
	const malformed = "the body must be multipart/form-data"
	r.Body = http.MaxBytesReader(nil, r.Body, maxUploadBody)
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, malformed
	}
	var files []sentFile
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, malformed
		}
		if part.FormName() != "file" {
			continue
		}
		f, err := readFile(part)
		if err != nil {
			return nil, malformed
		}
		files = append(files, f)
	}
	switch {
	case len(files) == 0:
		return nil, "file is required"
	case len(files) > maxFiles:
		return nil, fmt.Sprintf("an upload can have at most %d files", maxFiles)
	}
	return files, ""
}

func readFile(part *multipart.Part) (sentFile, error) {
	data, err := io.ReadAll(part)
	return sentFile{name: part.FileName(), declared: part.Header.Get("Content-Type"), data: data}, err
}

// storeFiles stores the files that are valid. A request can succeed although some of its
// files fail (documented).
func (s *Simulator) storeFiles(x *exchange, files []sentFile) []mediaObject {
	objects := make([]mediaObject, len(files))
	for i, f := range files {
		mediaType, problem := checkFile(f.declared, f.data)
		if f.name == "" {
			problem = &mediaError{codeUnusable, "the file has no name"}
		}
		if problem != nil {
			objects[i] = failedFile(f, *problem)
			continue
		}
		stored := x.epoch.addUpload(f.name, newFile(mediaType, f.data), f.data, s.cfg.Now())
		objects[i] = newObject(x.r, stored)
		objects[i].Status, objects[i].StatusCode = "success", http.StatusCreated
	}
	return objects
}

func failAll(files []sentFile) []mediaObject {
	objects := make([]mediaObject, len(files))
	for i, f := range files {
		objects[i] = failedFile(f, mediaError{codeUnusable, "the file could not be processed"})
	}
	return objects
}

func failedFile(f sentFile, problem mediaError) mediaObject {
	code, _ := strconv.Atoi(problem.code)
	return mediaObject{
		ContentType: f.declared, FileName: f.name, Size: len(f.data),
		Status: "failed", StatusCode: http.StatusBadRequest, ErrorCode: code, ErrorMessage: problem.text,
	}
}

func newObject(r *http.Request, u Upload) mediaObject {
	return mediaObject{
		ContentType: u.Type, FileName: u.FileName, MediaID: u.MediaID, Size: u.Bytes,
		UploadTime: u.UploadedAt.UTC().Format("2006-01-02T15:04:05.000000Z"),
		MediaURL:   "http://" + r.Host + "/sim/contents/" + u.SHA256,
	}
}

// uploaded is the answer to an upload. Plivo does not document its status; the status of
// each file is documented.
func uploaded(objects []mediaObject) answer {
	return answer{status: http.StatusCreated, contentType: jsonType, body: func(r reply) string {
		return jsonText(map[string]any{"api_id": r.apiID, "objects": objects})
	}}
}

// getMedia serves GET /v1/Account/{id}/Media/{media id}/.
func (s *Simulator) getMedia(x *exchange) {
	object, ok := s.findObject(x, chi.URLParam(x.r, "mediaID"))
	if !ok {
		s.answer(x, refusal(http.StatusNotFound, "not found"), reply{})
		return
	}
	s.answer(x, answer{status: http.StatusOK, contentType: jsonType, body: func(r reply) string {
		object.APIID = r.apiID
		return jsonText(object)
	}}, reply{})
}

func (s *Simulator) findObject(x *exchange, mediaID string) (mediaObject, bool) {
	x.epoch.mu.Lock()
	defer x.epoch.mu.Unlock()
	u := x.epoch.liveUpload(mediaID, s.cfg.Now())
	if u == nil {
		return mediaObject{}, false
	}
	return newObject(x.r, *u), true
}

// listMedia serves GET /v1/Account/{id}/Media/, newest first.
func (s *Simulator) listMedia(x *exchange) {
	limit, offset, err := paging(x.r.URL.Query())
	if err != nil {
		s.answer(x, refusal(http.StatusBadRequest, err.Error()), reply{})
		return
	}
	found := s.liveObjects(x)
	page := map[string]any{
		"meta":    newMeta(x.r.URL, limit, offset, len(found)),
		"objects": found[min(offset, len(found)):min(offset+limit, len(found))],
	}
	s.answer(x, answer{status: http.StatusOK, contentType: jsonType, body: func(r reply) string {
		page["api_id"] = r.apiID
		return jsonText(page)
	}}, reply{})
}

func (s *Simulator) liveObjects(x *exchange) []mediaObject {
	now := s.cfg.Now()
	x.epoch.mu.Lock()
	defer x.epoch.mu.Unlock()
	found := []mediaObject{}
	for _, u := range slices.Backward(x.epoch.uploads) {
		if now.Before(u.ExpiresAt) {
			found = append(found, newObject(x.r, *u))
		}
	}
	return found
}

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/failpoint"
	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// pictureBudget is the default of MMS_BUDGET.
const pictureBudget = 500_000

// mediaRig is a rig whose intake takes uploads, and whose workers check media URLs, also
// on this machine.
type mediaRig struct {
	*rig
	media *media.Service
}

func newMediaRig(t *testing.T, config plivosim.Config) mediaRig {
	t.Helper()
	r := newRig(t, config)
	r.store.UseMedia(authID, true)
	service := media.New(media.Options{Store: r.store, Budget: pictureBudget, Memory: 400 << 20, Quota: 200_000_000})
	r.intake.Uploads, r.intake.Rules.AllowPrivateMedia = service, true
	return mediaRig{r, service}
}

func (r mediaRig) checkingWorker(at string, vars ...string) *process {
	r.t.Helper()
	return r.worker(at, append([]string{"MEDIA_CHECK=on", "ALLOW_PRIVATE_MEDIA=true"}, vars...)...)
}

// samplePicture returns one of the simulator's pictures.
func (r *rig) samplePicture(name string) []byte {
	r.t.Helper()
	status, body, err := get(r.t.Context(), r.plivoURL+"/sim/pictures/"+name)
	if err != nil || status != http.StatusOK {
		r.t.Fatalf("reading %s: status %d (error %v)", name, status, err)
	}
	return []byte(body)
}

// upload uploads a sample picture without the api.
func (r mediaRig) upload(name string) uuid.UUID {
	r.t.Helper()
	fitted, err := r.media.Fit(r.t.Context(), r.workspace, "file", media.File{Name: name, Content: bytes.NewReader(r.samplePicture(name))})
	if err != nil {
		r.t.Fatal(err)
	}
	uploads, err := r.media.Save(r.t.Context(), []media.Fitted{fitted})
	if err != nil {
		r.t.Fatal(err)
	}
	return uploads[0].ID
}

func (r mediaRig) createWith(params mms.CreateParams) mms.Message {
	r.t.Helper()
	m, err := r.intake.CreateMessage(r.t.Context(), mms.Submitter{Workspace: r.workspace}, params)
	if err != nil {
		r.t.Fatal(err)
	}
	return m.Message
}

func (r mediaRig) createOf(recipient string, upload uuid.UUID) mms.Message {
	r.t.Helper()
	return r.createWith(mms.CreateParams{To: recipient, MediaIDs: []string{upload.String()}})
}

// wantUploads checks how often the only picture was uploaded to Plivo.
func (r *rig) wantUploads(want int) {
	r.t.Helper()
	contents := r.sim.Contents()
	if len(contents) != 1 || contents[0].Uploads != want {
		r.t.Errorf("got contents %+v at Plivo, want one that was uploaded %d times", contents, want)
	}
}

// uploadFile uploads a picture through the api.
func (c *caller) uploadFile(name string, data []byte) (id string) {
	c.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", name)
	if err != nil {
		c.t.Fatal(err)
	}
	_, _ = part.Write(data) // into memory
	if err := form.Close(); err != nil {
		c.t.Fatal(err)
	}
	response, err := c.http.Post(c.url+"/api/media", form.FormDataContentType(), &body)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	var uploads []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(text, &uploads); err != nil || response.StatusCode != http.StatusCreated || len(uploads) != 1 {
		c.t.Fatalf("uploading %s: got %d %s (error %v), want 201 and one upload", name, response.StatusCode, text, err)
	}
	return uploads[0].ID
}

// privateParts are parts of the photo's metadata: the header of Exif, the camera, and the
// latitude.
var privateParts = []string{"Exif", "Postcard Camera", "\x00\x00\x00\x25\x00\x00\x00\x01\x00\x00\x00\x2e\x00\x00\x00\x01"}

// TestPhotoArrivesWithoutItsPlace uploads a photo through the api and sends it: Plivo gets
// it upright, small enough, and without its metadata.
func TestPhotoArrivesWithoutItsPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	c := loggedIn(t, url)
	photo := r.samplePicture("photo.jpg")
	for _, private := range privateParts {
		if !bytes.Contains(photo, []byte(private)) {
			t.Fatalf("the sample photo lacks %q", private)
		}
	}
	id := c.uploadFile("photo.jpg", photo)
	if status, body, err := c.post("/api/send-mms", fmt.Sprintf(`{"to":"+14165551000","mediaIds":[%q]}`, id)); err != nil || status != http.StatusAccepted {
		t.Fatalf("sending: got %d %s (error %v), want 202", status, body, err)
	}
	r.worker("")
	r.awaitFinal()
	r.verify(1)
	r.wantUploads(1)
	sent := r.sim.Ledger()[0]
	if len(sent.Media) != 1 || len(sent.MediaURLs) != 0 {
		t.Fatalf("got media %+v and URLs %v, want one upload", sent.Media, sent.MediaURLs)
	}
	file := sent.Media[0].File
	if file.Type != "image/jpeg" || file.Bytes > pictureBudget || file.Width >= file.Height {
		t.Errorf("got %+v, want an upright JPEG of at most %d bytes", file, pictureBudget)
	}
	_, data, _ := r.sim.Data(file.SHA256)
	for _, private := range privateParts {
		if bytes.Contains(data, []byte(private)) {
			t.Errorf("the picture at Plivo contains %q", private)
		}
	}
}

// TestBatchUploadsItsPictureOnce sends one picture to many recipients. The soak test has
// more.
func TestBatchUploadsItsPictureOnce(t *testing.T) {
	t.Parallel()
	testBatchOfPicture(t, 2000)
}

// testBatchOfPicture sends a batch through the api and two workers.
func testBatchOfPicture(t *testing.T, messages int) {
	t.Helper()
	r := newRig(t, plivosim.Config{})
	_, url := r.api()
	c := loggedIn(t, url)
	id := c.uploadFile("small-photo.jpg", r.samplePicture("small-photo.jpg"))
	rows := make([]string, messages)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"to":"+1%d555%04d"}`, 416+i%2*188, 2000+i/2) // area codes 416 and 604
	}
	body := fmt.Sprintf(`{"mediaIds":[%q],"rows":[%s]}`, id, strings.Join(rows, ","))
	if status, text, err := c.post("/api/batches", body); err != nil || status != http.StatusAccepted {
		t.Fatalf("creating the batch: got %d %s (error %v), want 202", status, text, err)
	}
	r.worker("")
	r.worker("")
	testkit.EventuallyWithin(t, drainTimeout, "all messages are at Plivo", func() bool { return len(r.sim.Ledger()) == messages })
	r.awaitFinal()
	r.verify(messages)
	r.wantUploads(1)
}

// TestKilledMediaPreparer kills a worker after Plivo has answered an upload, before and
// after its record: at worst the picture is uploaded again, and the message is sent once.
func TestKilledMediaPreparer(t *testing.T) {
	t.Parallel()
	for point, uploads := range map[string]int{failpoint.MediaUploaded: 2, failpoint.MediaRecorded: 1} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			r := newMediaRig(t, plivosim.Config{})
			m := r.createOf("+14165551000", r.upload("drawing.png"))
			r.checkingWorker(point).awaitKilled()
			if n := len(r.sim.Requests()); n != 0 {
				t.Errorf("got %d requests to send before the picture was ready, want none", n)
			}
			r.checkingWorker("")
			r.awaitFinal()
			r.wantStatus(m, mms.Delivered)
			r.verify(1)
			r.wantUploads(uploads)
		})
	}
}

// TestLostUploads has Plivo lose the answer to an upload, or fail: the upload is made again.
func TestLostUploads(t *testing.T) {
	t.Parallel()
	for scenario, uploads := range map[plivosim.Scenario]int{
		plivosim.AcceptThenDrop: 2, plivosim.AcceptThen500: 2, plivosim.ServerError: 1, plivosim.RateLimited: 1,
	} {
		t.Run(string(scenario), func(t *testing.T) {
			t.Parallel()
			r := newMediaRig(t, plivosim.Config{})
			if err := r.sim.SetFault(plivosim.Fault{Scenario: scenario, Count: 1, Upload: true}); err != nil {
				t.Fatal(err)
			}
			m := r.createOf("+14165551000", r.upload("drawing.png"))
			r.checkingWorker("")
			r.awaitFinal()
			r.wantStatus(m, mms.Delivered)
			r.verify(1)
			r.wantUploads(uploads)
		})
	}
}

// TestRejectedUpload has Plivo refuse a picture inside a success.
func TestRejectedUpload(t *testing.T) {
	t.Parallel()
	r := newMediaRig(t, plivosim.Config{})
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.UploadFailed, Upload: true}); err != nil {
		t.Fatal(err)
	}
	m := r.createOf("+14165551000", r.upload("drawing.png"))
	r.checkingWorker("")
	r.awaitFinal()
	if h := r.wantStatus(m, mms.Failed); h.Reason != mms.ReasonMediaRejected {
		t.Errorf("got reason %q, want %q", h.Reason, mms.ReasonMediaRejected)
	}
	r.verify(0)
}

// TestPlivoDropsUpload has Plivo drop an upload after six hours, without our knowledge: it
// refuses the message, and the picture is uploaded again.
func TestPlivoDropsUpload(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64 // of the simulator's clock
	r := newMediaRig(t, plivosim.Config{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	m := r.createOf("+14165551000", r.upload("drawing.png"))
	r.checkingWorker(failpoint.MediaRecorded).awaitKilled()
	ahead.Store(int64(6 * time.Hour))
	r.checkingWorker("")
	r.awaitFinal()
	if h := r.wantStatus(m, mms.Delivered); h.Attempts != 2 {
		t.Errorf("got %d attempts, want a refused one and another: %s", h.Attempts, eventLog(h))
	}
	r.verify(1)
	r.wantUploads(2)
}

// TestUploadIsRepeatedInTime has an upload that Plivo may have dropped by now: it is made
// again before Plivo is asked to send it.
func TestUploadIsRepeatedInTime(t *testing.T) {
	t.Parallel()
	r := newMediaRig(t, plivosim.Config{})
	upload := r.upload("drawing.png")
	messages := []mms.Message{r.createOf("+14165551000", upload)}
	r.checkingWorker("")
	r.awaitFinal()
	if _, err := r.store.DB().Exec(`UPDATE plivo_media SET usable_until = now()`); err != nil {
		t.Fatal(err)
	}
	messages = append(messages, r.createOf("+14165551001", upload))
	r.awaitFinal()
	for _, m := range messages {
		if h := r.wantStatus(m, mms.Delivered); h.Attempts != 1 {
			t.Errorf("got %d attempts, want 1: %s", h.Attempts, eventLog(h))
		}
	}
	r.verify(2)
	r.wantUploads(2)
}

// mediaHost serves a picture, also behind a redirect, and counts requests.
type mediaHost struct {
	*httptest.Server
	requests atomic.Int32
	broken   atomic.Bool // answers 503
}

func newMediaHost(t *testing.T, picture []byte) *mediaHost {
	t.Helper()
	h := &mediaHost{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		h.requests.Add(1)
		switch {
		case h.broken.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case request.URL.Path == "/moved":
			http.Redirect(w, request, "/picture", http.StatusFound)
		case request.URL.Path == "/picture":
			w.Header().Set("Content-Type", "image/png")
			w.Header().Set("Content-Length", strconv.Itoa(len(picture)))
			_, _ = w.Write(picture)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

// TestMissingPictureIsNotPaidFor has nothing behind the URL.
func TestMissingPictureIsNotPaidFor(t *testing.T) {
	t.Parallel()
	r := newMediaRig(t, plivosim.Config{})
	host := newMediaHost(t, nil)
	m := r.createWith(mms.CreateParams{To: "+14165551000", MediaURL: host.URL + "/missing"})
	r.checkingWorker("")
	r.awaitFinal()
	if h := r.wantStatus(m, mms.Failed); h.Reason != mms.ReasonMediaNotFound || h.Attempts != 0 {
		t.Errorf("got reason %q and %d attempts, want %q and none", h.Reason, h.Attempts, mms.ReasonMediaNotFound)
	}
	r.verify(0)
}

// TestCheckedPictureIsSentAsURL has Plivo fetch what was checked once for all messages.
func TestCheckedPictureIsSentAsURL(t *testing.T) {
	t.Parallel()
	r := newMediaRig(t, plivosim.Config{FetchMedia: plivosim.FetchAtDequeue})
	host := newMediaHost(t, r.samplePicture("drawing.png"))
	const messages = 3
	for i := range messages {
		r.createWith(mms.CreateParams{To: fmt.Sprintf("+1416555100%d", i), MediaURL: host.URL + "/picture"})
	}
	r.checkingWorker("")
	r.awaitFinal()
	r.verify(messages)
	for _, e := range r.sim.Ledger() {
		if e.State != plivosim.StateDelivered || len(e.Media) != 1 || e.Media[0].URL != host.URL+"/picture" {
			t.Errorf("got state %s (%s) with %+v, want the picture delivered by its URL", e.State, e.MediaError, e.Media)
		}
	}
	if checks := int(host.requests.Load()) - messages; checks != 1 {
		t.Errorf("got %d checks of the URL, want 1", checks)
	}
}

// TestRedirectedPictureIsCopied has a URL that redirects, and a Plivo that does not follow.
// With fit=never the URL is sent in spite of that.
func TestRedirectedPictureIsCopied(t *testing.T) {
	t.Parallel()
	r := newMediaRig(t, plivosim.Config{FetchMedia: plivosim.FetchAtDequeue})
	host := newMediaHost(t, r.samplePicture("drawing.png"))
	copied := r.createWith(mms.CreateParams{To: "+14165551000", MediaURL: host.URL + "/moved"})
	asURL := r.createWith(mms.CreateParams{To: "+14165551001", MediaURL: host.URL + "/moved", Fit: string(mms.FitNever)})
	r.checkingWorker("")
	r.awaitFinal()
	r.wantStatus(copied, mms.Delivered)
	if h := r.wantStatus(asURL, mms.Failed); h.PlivoCode != "140" {
		t.Errorf("got code %q for the URL, want 140", h.PlivoCode)
	}
	r.verify(2)
	for _, e := range r.sim.Ledger() {
		switch {
		case e.To == "14165551001":
			if len(e.MediaURLs) != 1 {
				t.Errorf("fit=never: got URLs %v, want the URL", e.MediaURLs)
			}
		case len(e.MediaURLs) != 0 || len(e.Media) != 1 || e.Media[0].Width != 800 || e.Media[0].Height != 600:
			t.Errorf("got URLs %v and %+v, want an upload of the picture", e.MediaURLs, e.Media)
		}
	}
}

// TestBrokenMediaHostRecovers has a host that fails for a while: the message waits and costs
// no attempt.
func TestBrokenMediaHostRecovers(t *testing.T) {
	t.Parallel()
	r := newMediaRig(t, plivosim.Config{FetchMedia: plivosim.FetchAtDequeue})
	host := newMediaHost(t, r.samplePicture("drawing.png"))
	host.broken.Store(true)
	m := r.createWith(mms.CreateParams{To: "+14165551000", MediaURL: host.URL + "/picture"})
	r.checkingWorker("")
	testkit.Eventually(t, "the check was postponed", func() bool {
		return host.requests.Load() > 0 && r.count(`SELECT count(*) FROM messages WHERE backlog_state = 'preparing' AND prepare_at > now()`) == 1
	})
	host.broken.Store(false)
	r.awaitFinal()
	if h := r.wantStatus(m, mms.Delivered); h.Attempts != 1 {
		t.Errorf("got %d attempts, want 1: %s", h.Attempts, eventLog(h))
	}
	r.verify(1)
}

// TestTooLargePictureIsRefitted has a carrier that takes small pictures only: Postcard sends
// the message again with a smaller one, once.
func TestTooLargePictureIsRefitted(t *testing.T) {
	t.Parallel()
	r := newMediaRig(t, plivosim.Config{})
	const recipient = "+14165551000"
	if err := r.sim.SetFault(plivosim.Fault{Scenario: plivosim.SmallMediaOnly, Recipient: recipient}); err != nil {
		t.Fatal(err)
	}
	m := r.createOf(recipient, r.upload("noise.png"))
	r.checkingWorker("")
	testkit.EventuallyWithin(t, drainTimeout, "a smaller version is delivered", func() bool {
		return r.count(`SELECT count(*) FROM messages WHERE resend_of = $1 AND status = 'delivered'`, m.ID) == 1
	})
	if h := r.wantStatus(m, mms.Failed); h.PlivoCode != "120" {
		t.Errorf("got code %q, want 120", h.PlivoCode)
	}
	r.verify(2)
	var sizes []int
	for _, e := range r.sim.Ledger() {
		for _, m := range e.Media {
			sizes = append(sizes, m.Bytes)
		}
	}
	if len(sizes) != 2 || sizes[0] <= 300_000 || sizes[1] > pictureBudget/2 {
		t.Errorf("got pictures of %v bytes, want one above 300000 and then one of at most %d", sizes, pictureBudget/2)
	}
	if n := r.count(`SELECT count(*) FROM message_events WHERE kind = 'refitted'`); n != 2 {
		t.Errorf("got %d events of the refit, want one for each of the two messages", n)
	}
}

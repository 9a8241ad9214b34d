package maintenance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/media"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/picture"
)

// fakeMedia is the store, the checker, the copier and Plivo of the media preparer. It
// records what happens to messages, and calls of the others, as text.
type fakeMedia struct {
	callLog
	pages   [][]mms.Preparation
	known   map[string]mms.MediaCheck
	behind  map[string]mms.MediaCheck // by URL
	atPlivo map[mms.ContentHash]bool
	hang    map[string]bool // URLs that are not answered before the check times out
	uploads func(hash string) error
	storeOK bool // false: MarkPrepared fails

	active, most atomic.Int32 // checks
	mu           sync.Mutex
}

func newFakeMedia(page ...mms.Preparation) *fakeMedia {
	return &fakeMedia{pages: [][]mms.Preparation{page}, atPlivo: map[mms.ContentHash]bool{}, storeOK: true, uploads: func(string) error { return nil }}
}

func (f *fakeMedia) Preparations(context.Context, int) ([]mms.Preparation, error) {
	if len(f.pages) == 0 {
		return nil, nil
	}
	page := f.pages[0]
	f.pages = f.pages[1:]
	return page, nil
}

func (f *fakeMedia) MarkPrepared(_ context.Context, prepared []mms.Prepared) ([]mms.Task, error) {
	if !f.storeOK {
		return nil, errStoreDown
	}
	var tasks []mms.Task
	for _, p := range prepared {
		call := "prepared " + shortID(p.MessageID)
		for _, position := range slices.Sorted(maps.Keys(p.Contents)) {
			call += fmt.Sprintf(", content %d: %s", position, hashName(p.Contents[position]))
		}
		for _, position := range slices.Sorted(maps.Keys(p.Previews)) {
			call += fmt.Sprintf(", preview %d: %s", position, hashName(p.Previews[position]))
		}
		if p.Note != "" {
			call += ", note: " + p.Note
		}
		f.add("%s", call)
		tasks = append(tasks, mms.Task{MessageID: p.MessageID, Generation: 2})
	}
	return tasks, nil
}

func (f *fakeMedia) PostponePreparation(_ context.Context, ids []uuid.UUID, wait time.Duration) error {
	for _, id := range ids {
		f.add("postponed %s by %v", shortID(id), wait)
	}
	return nil
}

func (f *fakeMedia) FailPreparation(_ context.Context, ids []uuid.UUID, reason mms.Reason, detail string) error {
	for _, id := range ids {
		f.add("failed %s: %s: %s", shortID(id), reason, detail)
	}
	return nil
}

func (f *fakeMedia) MediaChecks(context.Context, []string) (map[string]mms.MediaCheck, error) {
	return f.known, nil
}

func (f *fakeMedia) SaveMediaCheck(_ context.Context, c mms.MediaCheck) error {
	f.add("saved %s of %s", c.Result, c.URL)
	return nil
}

func (f *fakeMedia) Content(_ context.Context, hash mms.ContentHash) (mms.Content, error) {
	if hashName(hash) == "lost" {
		return mms.Content{}, mms.ErrNoUpload
	}
	return mms.Content{Hash: hash, PictureInfo: mms.PictureInfo{Type: "image/jpeg"}, Data: []byte(hashName(hash))}, nil
}

func (f *fakeMedia) AtPlivo(_ context.Context, hash mms.ContentHash) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.atPlivo[hash], nil
}

func (f *fakeMedia) SavePlivoMedia(_ context.Context, hash mms.ContentHash, mediaID string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.atPlivo[hash] = true
	f.add("recorded %s", mediaID)
	return nil
}

func (f *fakeMedia) ReserveGetCall(context.Context) (time.Duration, error) { return 0, nil }

// Check takes up to 15 seconds, as the real one does.
func (f *fakeMedia) Check(ctx context.Context, url string) (mms.MediaCheck, []byte, error) {
	f.most.Store(max(f.most.Load(), f.active.Add(1)))
	defer f.active.Add(-1)
	f.add("asked %s", url)
	if f.hang[url] {
		if err := sleep(ctx, 15*time.Second); err != nil {
			return mms.MediaCheck{}, nil, err
		}
		return mms.MediaCheck{URL: url, Result: mms.CheckRetry, Reason: mms.ReasonMediaUnreachable, Detail: "slow"}, nil, nil
	}
	check, ok := f.behind[url]
	if !ok {
		return mms.MediaCheck{}, nil, errors.New("the resolver is broken")
	}
	check.URL = url
	if !strings.HasPrefix(check.Type, "image/") {
		return check, nil, nil
	}
	return check, []byte(url), nil
}

// Copy fails for animations.
func (f *fakeMedia) Copy(_ context.Context, data []byte, _ int) (media.Copied, error) {
	if strings.Contains(string(data), "animated") {
		return media.Copied{}, &picture.Error{Rule: picture.RuleAnimated, Message: "must have at most 500 kB as an animation"}
	}
	f.add("copied %s", data)
	return media.Copied{Content: mms.Content{Hash: hashOf("copy " + nameOf(string(data)))}}, nil
}

func (f *fakeMedia) Refit(_ context.Context, hash mms.ContentHash, budget int) (mms.Content, error) {
	switch name := hashName(hash); name {
	case "animation":
		return mms.Content{}, &picture.Error{Rule: picture.RuleAnimated, Message: "must have at most 250 kB as an animation"}
	case "lost":
		return mms.Content{}, mms.ErrNoUpload
	default:
		f.add("refitted %s to %d", name, budget)
		return mms.Content{Hash: hashOf("small " + name), PictureInfo: mms.PictureInfo{Bytes: budget - 1}}, nil
	}
}

func (f *fakeMedia) Preview(_ context.Context, data []byte) (mms.ContentHash, error) {
	return hashOf("view " + nameOf(string(data))), nil
}

func (f *fakeMedia) UploadMedia(_ context.Context, _, mediaType string, data []byte) (string, error) {
	f.add("uploaded %s as %s", data, mediaType)
	return "m-" + string(data), f.uploads(string(data))
}

func (f *fakeMedia) Enqueue(_ context.Context, t mms.Task) error {
	f.add("enqueued %s", taskName(t))
	return nil
}

// hashOf puts a name into a hash, which hashName reads.
func hashOf(name string) mms.ContentHash {
	var h mms.ContentHash
	copy(h[:], name)
	return h
}

func hashName(h mms.ContentHash) string { return strings.TrimRight(string(h[:]), "\x00") }

func nameOf(url string) string { return url[strings.LastIndex(url, "/")+1:] }

func (f *fakeMedia) job(checks bool) Job {
	o := MediaPreparerOptions{
		Store: f, Pictures: f, Plivo: f, Queue: f, Budget: 500_000,
		WithLease: func(ctx context.Context, _ string, work func(context.Context) error) error { return work(ctx) },
		OnCheck:   func(mms.MediaCheck) {}, OnUpload: func(error) {},
	}
	if checks {
		o.Checker = f
	}
	return MediaPreparer(o)
}

// message returns a message with URLs and, as "upload:bytes", pictures that are stored.
func message(n byte, fit mms.Fit, media ...string) mms.Preparation {
	m := mms.Preparation{MessageID: uuid.UUID{15: n}, Fit: fit}
	for i, text := range media {
		medium := mms.MessageMedium{Position: i + 1, URL: text}
		if name, bytes, ok := strings.Cut(text, ":"); ok && !strings.HasPrefix(bytes, "//") {
			medium.URL, medium.Content = "", hashOf(name)
			_, _ = fmt.Sscan(bytes, &medium.Bytes)
		}
		m.Media = append(m.Media, medium)
	}
	return m
}

func passedCheck(mediaType string, bytes int, fits bool) mms.MediaCheck {
	return mms.MediaCheck{Result: mms.CheckPassed, PictureInfo: mms.PictureInfo{Type: mediaType, Bytes: bytes}, Fits: fits}
}

func TestMediaPreparerDecides(t *testing.T) {
	t.Parallel()
	const a, b, big, huge, video, webp, moved, gone, down, animated = "https://a.example.com/a", "https://b.example.com/b", "https://a.example.com/big", "https://a.example.com/huge",
		"https://a.example.com/video", "https://a.example.com/webp", "https://a.example.com/moved", "https://a.example.com/gone", "https://down.example.com/x", "https://a.example.com/animated"
	behind := map[string]mms.MediaCheck{
		a: passedCheck("image/jpeg", 300_000, true), b: passedCheck("image/png", 300_000, true), big: passedCheck("image/jpeg", 900_000, false),
		huge: passedCheck("image/jpeg", 3_000_000, false), video: passedCheck("video/mp4", 1_900_000, true), webp: passedCheck("image/webp", 1000, false),
		moved:    {Result: mms.CheckPassed, Redirected: true, PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: 1000}},
		gone:     {Result: mms.CheckFailed, Reason: mms.ReasonMediaGone, Detail: "a.example.com answered 410: the file was removed."},
		down:     {Result: mms.CheckRetry, Reason: mms.ReasonMediaUnreachable, Detail: "down.example.com answered 503."},
		animated: passedCheck("image/gif", 900_000, false),
	}
	for name, tt := range map[string]struct {
		message mms.Preparation
		want    []string // without what was asked, saved and enqueued
	}{
		"URL that fits":            {message(1, mms.FitAuto, a), []string{"prepared 1, preview 1: view a"}},
		"too large":                {message(1, mms.FitAuto, big), []string{"copied " + big, "prepared 1, content 1: copy big, preview 1: view big, note: The picture is too large to be sent as it is, so a copy is sent.", "recorded m-copy big", "uploaded copy big as image/jpeg"}},
		"too large, never":         {message(1, mms.FitNever, big), []string{"prepared 1, preview 1: view big"}},
		"fits, always":             {message(1, mms.FitAlways, a), []string{"copied " + a, "prepared 1, content 1: copy a, preview 1: view a, note: The picture is always made to fit, so a copy is sent.", "recorded m-copy a", "uploaded copy a as image/jpeg"}},
		"redirect":                 {message(1, mms.FitAuto, moved), []string{"copied " + moved, "prepared 1, content 1: copy moved, preview 1: view moved, note: The picture is behind a redirect, which Plivo may not follow, so a copy is sent.", "recorded m-copy moved", "uploaded copy moved as image/jpeg"}},
		"redirect, never":          {message(1, mms.FitNever, moved), []string{"prepared 1, preview 1: view moved, note: The link redirects, and Plivo may not follow it."}},
		"WebP":                     {message(1, mms.FitAuto, webp), []string{"copied " + webp, "prepared 1, content 1: copy webp, preview 1: view webp, note: The picture is a WebP picture, which phones often cannot show, so a copy is sent.", "recorded m-copy webp", "uploaded copy webp as image/jpeg"}},
		"WebP, never":              {message(1, mms.FitNever, webp), []string{"failed 1: media_unsupported_type: The picture is a WebP picture, which phones often cannot show. Let Postcard make it fit, or use a JPEG picture."}},
		"above 2 MB, never":        {message(1, mms.FitNever, huge), []string{"failed 1: media_too_large: The file is 3.0 MB: Plivo allows 2 MB at most."}},
		"video":                    {message(1, mms.FitAuto, video), []string{"prepared 1"}},
		"video, always":            {message(1, mms.FitAlways, video), []string{"prepared 1"}},
		"above 5 MB together":      {message(1, mms.FitAuto, video, video, video), []string{"failed 1: media_total_too_large: The attachments are 5.7 MB together: Plivo allows 5 MB at most."}},
		"gone":                     {message(1, mms.FitAuto, gone), []string{"failed 1: media_gone: a.example.com answered 410: the file was removed."}},
		"one of two gone":          {message(1, mms.FitAuto, down, gone), []string{"failed 1: media_gone: Attachment 2: a.example.com answered 410: the file was removed."}},
		"host down":                {message(1, mms.FitAuto, down), []string{"postponed 1 by 5s"}},
		"animation":                {message(1, mms.FitAuto, animated), []string{"failed 1: media_unusable: The picture must have at most 500 kB as an animation."}},
		"animation, never":         {message(1, mms.FitNever, animated), []string{"prepared 1, preview 1: view animated"}},
		"upload":                   {message(1, mms.FitAuto, "cat:1000"), []string{"prepared 1", "recorded m-cat", "uploaded cat as image/jpeg"}},
		"upload twice":             {message(1, mms.FitAuto, "cat:1000", "cat:1000"), []string{"prepared 1", "recorded m-cat", "uploaded cat as image/jpeg"}},
		"upload that is lost":      {message(1, mms.FitAuto, "lost:1000"), []string{"failed 1: media_missing: A picture of the message is no longer stored."}},
		"two URLs above budget":    {message(1, mms.FitAuto, a, b), []string{"copied " + a, "copied " + b, "prepared 1, content 1: small copy a, content 2: small copy b, preview 1: view a, preview 2: view b, note: Attachment 1: The picture is too large beside the others, so a copy is sent. Attachment 2: The picture is too large beside the others, so a copy is sent.", "recorded m-small copy a", "recorded m-small copy b", "refitted copy a to 250000", "refitted copy b to 250000", "uploaded small copy a as image/jpeg", "uploaded small copy b as image/jpeg"}},
		"URL and upload":           {message(1, mms.FitAuto, a, "cat:400000"), []string{"copied " + a, "prepared 1, content 1: small copy a, content 2: small cat, preview 1: view a, note: Attachment 1: The picture is too large beside the others, so a copy is sent.", "recorded m-small cat", "recorded m-small copy a", "refitted cat to 250000", "refitted copy a to 250000", "uploaded small cat as image/jpeg", "uploaded small copy a as image/jpeg"}},
		"URL and small upload":     {message(1, mms.FitAuto, a, "cat:400"), []string{"copied " + a, "prepared 1, preview 1: view a", "recorded m-cat", "uploaded cat as image/jpeg"}},
		"animated upload too many": {message(1, mms.FitAuto, "cat:400000", "animation:400000"), []string{"failed 1: media_unusable: Attachment 2: The picture must have at most 250 kB as an animation.", "refitted cat to 250000"}},
		"two URLs, never":          {message(1, mms.FitNever, a, big), []string{"prepared 1, preview 1: view a, preview 2: view big"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeMedia(tt.message)
			f.behind = behind
			runOnce(t, f.job(true))
			var calls callLog
			for _, call := range f.sorted().calls {
				if !strings.HasPrefix(call, "asked ") && !strings.HasPrefix(call, "saved ") && !strings.HasPrefix(call, "enqueued ") {
					calls.add("%s", call)
				}
			}
			calls.check(t, tt.want...)
		})
	}
}

func TestMediaPreparerWithoutChecksUploadsOnly(t *testing.T) {
	t.Parallel()
	f := newFakeMedia(message(1, mms.FitAlways, "https://a.example.com/a", "cat:1000"))
	runOnce(t, f.job(false))
	f.check(t, "uploaded cat as image/jpeg", "recorded m-cat", "prepared 1", "enqueued 1:2")
}

func TestMediaPreparerSharesCalls(t *testing.T) {
	t.Parallel()
	const url = "https://a.example.com/a"
	f := newFakeMedia(message(1, mms.FitAuto, url), message(2, mms.FitAuto, url), message(3, mms.FitAuto, "cat:1"), message(4, mms.FitAuto, "cat:1"), message(5, mms.FitAuto, "dog:1"))
	f.behind = map[string]mms.MediaCheck{url: passedCheck("image/jpeg", 1, true)}
	f.atPlivo[hashOf("dog")] = true
	runOnce(t, f.job(true))
	f.sorted().check(t, "asked "+url, "enqueued 1:2", "enqueued 2:2", "enqueued 3:2", "enqueued 4:2", "enqueued 5:2",
		"prepared 1, preview 1: view a", "prepared 2, preview 1: view a", "prepared 3", "prepared 4", "prepared 5", "recorded m-cat", "saved passed of "+url, "uploaded cat as image/jpeg")
}

func TestMediaPreparerUsesRecentChecks(t *testing.T) {
	t.Parallel()
	const url = "https://a.example.com/a"
	copied := passedCheck("image/jpeg", 900_000, false)
	copied.Copy = hashOf("copy")
	unusable := passedCheck("image/gif", 900_000, false)
	unusable.Detail = "the picture is animated"
	for name, tt := range map[string]struct {
		known mms.MediaCheck
		fit   mms.Fit
		asks  bool
	}{
		"fits":                          {passedCheck("image/jpeg", 1, true), mms.FitAuto, false},
		"fits, but is to be copied":     {passedCheck("image/jpeg", 1, true), mms.FitAlways, true},
		"does not fit, and was copied":  {copied, mms.FitAuto, false},
		"does not fit, without a copy":  {passedCheck("image/jpeg", 900_000, false), mms.FitAuto, true},
		"does not fit, and need not":    {passedCheck("image/jpeg", 900_000, false), mms.FitNever, false},
		"could not be copied":           {unusable, mms.FitAuto, false},
		"video":                         {passedCheck("video/mp4", 1, true), mms.FitAlways, false},
		"failed":                        {mms.MediaCheck{Result: mms.CheckFailed, Reason: mms.ReasonMediaGone}, mms.FitAuto, false},
		"host did not answer last time": {mms.MediaCheck{Result: mms.CheckRetry}, mms.FitAuto, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeMedia(message(1, tt.fit, url))
			f.known, f.behind = map[string]mms.MediaCheck{url: tt.known}, map[string]mms.MediaCheck{url: passedCheck("image/jpeg", 1, true)}
			runOnce(t, f.job(true))
			if asked := slices.Contains(f.calls, "asked "+url); asked != tt.asks {
				t.Errorf("asked: got %v, want %v; calls %q", asked, tt.asks, f.calls)
			}
		})
	}
}

// A host that does not answer takes few slots, is asked a few times, and delays no message but
// its own.
func TestMediaPreparerIsNotHeldUpByABadHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const good = "https://good.example.com/a"
		var page []mms.Preparation
		f := newFakeMedia()
		f.hang = map[string]bool{}
		for i := range 200 {
			url := fmt.Sprintf("https://bad.example.com/%d", i)
			page, f.hang[url] = append(page, message(1, mms.FitAuto, url)), true
		}
		f.pages = [][]mms.Preparation{append(page, message(2, mms.FitAuto, good))}
		f.behind = map[string]mms.MediaCheck{good: passedCheck("image/jpeg", 1, true)}
		var released time.Duration
		start := time.Now()
		done := make(chan struct{})
		go func() { defer close(done); runOnce(t, f.job(true)) }()
		for released == 0 {
			time.Sleep(50 * time.Millisecond)
			f.callLog.mu.Lock()
			if slices.Contains(f.calls, "enqueued 2:2") {
				released = time.Since(start)
			}
			f.callLog.mu.Unlock()
		}
		<-done
		if took := time.Since(start); released > time.Second || took > roundLimit+16*time.Second {
			t.Errorf("the good message was released after %v, and the round took %v", released, took)
		}
		asked, postponed := 0, 0
		for _, call := range f.calls {
			if strings.HasPrefix(call, "asked https://bad") {
				asked++
			}
			if call == "postponed 1 by 5s" {
				postponed++
			}
		}
		if asked > maxChecksOfHost+1 || postponed != 200 || f.most.Load() > maxChecksOfHost+1 {
			t.Errorf("got %d requests to the bad host, %d at a time, and %d postponed messages", asked, f.most.Load(), postponed)
		}
	})
}

// Many hosts that do not answer end the round by its limit; what was not asked is due
// again soon.
func TestMediaPreparerEndsARound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeMedia()
		f.pages, f.hang = [][]mms.Preparation{nil}, map[string]bool{}
		for i := range 200 {
			url := fmt.Sprintf("https://bad%d.example.com/", i)
			f.hang[url], f.pages[0] = true, append(f.pages[0], message(1, mms.FitAuto, url))
		}
		start := time.Now()
		runOnce(t, f.job(true))
		if took := time.Since(start); took > roundLimit+16*time.Second {
			t.Errorf("the round took %v", took)
		}
		if n := f.most.Load(); n != maxConcurrentChecks {
			t.Errorf("got %d checks at a time, want %d", n, maxConcurrentChecks)
		}
	})
}

func TestMediaPreparerWaitsLonger(t *testing.T) {
	t.Parallel()
	const url = "https://down.example.com/x"
	f := newFakeMedia()
	f.behind = map[string]mms.MediaCheck{url: {Result: mms.CheckRetry}}
	job := f.job(true)
	var want []string
	for _, wait := range []string{"5s", "10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"} {
		f.pages = [][]mms.Preparation{{message(1, mms.FitAuto, url)}}
		runOnce(t, job)
		want = append(want, "asked "+url, "saved retry of "+url, "postponed 1 by "+wait)
	}
	f.behind[url] = passedCheck("image/jpeg", 1, true)
	f.pages = [][]mms.Preparation{{message(1, mms.FitAuto, url)}}
	runOnce(t, job)
	want = append(want, "asked "+url, "saved passed of "+url, "prepared 1, preview 1: view x", "enqueued 1:2")
	f.behind[url] = mms.MediaCheck{Result: mms.CheckRetry}
	f.pages = [][]mms.Preparation{{message(1, mms.FitAuto, url)}}
	runOnce(t, job)
	f.check(t, append(want, "asked "+url, "saved retry of "+url, "postponed 1 by 5s")...)
}

func TestMediaPreparerWhenPlivoFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"down":     {errPlivoDown, "postponed 1 by 5s"},
		"rejected": {mms.PlivoMediaError{Text: "wrong type"}, "failed 1: media_rejected: Plivo said: wrong type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeMedia(message(1, mms.FitAuto, "cat:1"))
			f.uploads = func(string) error { return tt.err }
			err := f.job(true).Run(t.Context())
			if failing := errors.Is(err, errPlivoDown); failing != errors.Is(tt.err, errPlivoDown) {
				t.Errorf("Run() = %v", err)
			}
			f.check(t, "uploaded cat as image/jpeg", tt.want)
		})
	}
}

// After two failures, the other uploads of a round are not tried.
func TestMediaPreparerLeavesPlivoAlone(t *testing.T) {
	t.Parallel()
	var page []mms.Preparation
	for i := range 100 {
		page = append(page, message(1, mms.FitAuto, fmt.Sprintf("p%d:1", i)))
	}
	f := newFakeMedia(page...)
	var uploads atomic.Int32
	f.uploads = func(string) error { uploads.Add(1); return errPlivoDown }
	if err := f.job(true).Run(t.Context()); !errors.Is(err, errPlivoDown) {
		t.Errorf("Run() = %v, want %v", err, errPlivoDown)
	}
	if n := uploads.Load(); n > maxChecksOfHost+1 {
		t.Errorf("got %d uploads while Plivo was down", n)
	}
	if n := len(slices.DeleteFunc(f.calls, func(call string) bool { return call != "postponed 1 by 5s" })); n != 100 {
		t.Errorf("got %d postponed messages, want 100", n)
	}
}

func TestMediaPreparerReportsErrors(t *testing.T) {
	t.Parallel()
	f := newFakeMedia(message(1, mms.FitAuto, "https://a.example.com/a"), message(2, mms.FitAuto, "cat:1"))
	if err := f.job(true).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "resolver") {
		t.Errorf("Run() = %v, want the checker's error", err)
	}
	f.sorted().check(t, "asked https://a.example.com/a", "enqueued 2:2", "postponed 1 by 5s", "prepared 2", "recorded m-cat", "uploaded cat as image/jpeg")

	f = newFakeMedia(message(1, mms.FitAuto, "cat:1"))
	f.storeOK = false
	if err := f.job(true).Run(t.Context()); !errors.Is(err, errStoreDown) {
		t.Errorf("Run() = %v, want %v", err, errStoreDown)
	}
}

func TestMediaPreparerTakesAllPages(t *testing.T) {
	t.Parallel()
	f := newFakeMedia(slices.Repeat([]mms.Preparation{message(1, mms.FitAuto, "cat:1")}, preparationPage)...)
	f.pages = append(f.pages, []mms.Preparation{message(2, mms.FitAuto, "cat:1")})
	runOnce(t, f.job(true))
	uploads := 0
	for _, call := range f.calls {
		if strings.HasPrefix(call, "uploaded") {
			uploads++
		}
	}
	if uploads != 1 || !slices.Contains(f.calls, "prepared 2") {
		t.Errorf("got %d uploads for two pages, want 1", uploads)
	}
}

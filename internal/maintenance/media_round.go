package maintenance

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postcard-mms/postcard/internal/failpoint"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/picture"
)

// Limits of one round. A picture has up to 5 MB while it is checked.
const (
	maxConcurrentChecks = 16
	maxChecksOfHost     = 4
	maxHostFailures     = 2 // after which the host is skipped
	uploadTimeout       = time.Minute
)

// mediaRound prepares messages side by side. Messages with the same URL or picture share
// the calls for it.
type mediaRound struct {
	*mediaPreparer
	known   map[string]mms.MediaCheck // by URL
	closing <-chan struct{}           // closed when no more calls are to be started
	slots   chan struct{}
	hosts   once[string, *host]
	checks  once[checkKey, checked]
	smaller once[smallerKey, fitted]
	uploads once[mms.ContentHash, error]
	waits   once[string, time.Duration]
}

type checkKey struct {
	url  string
	copy copyRule
}

// copyRule says when a copy of a picture behind a URL is needed.
type copyRule int

const (
	copyNever copyRule = iota
	copyUnfit          // if it cannot be sent as it is
	copyAlways
)

func copyRuleOf(m mms.Preparation) copyRule {
	switch {
	case m.Fit == mms.FitNever:
		return copyNever
	case m.Fit == mms.FitAlways, len(m.Media) > 1: // several may not fit together
		return copyAlways
	default:
		return copyUnfit
	}
}

func (c copyRule) needs(check mms.MediaCheck) bool {
	return c == copyAlways || c == copyUnfit && !check.Fits
}

type checked struct {
	mms.MediaCheck
	err error
}

type smallerKey struct {
	hash   mms.ContentHash
	budget int
}

type fitted struct {
	mms.Content
	err error
}

func newMediaRound(p *mediaPreparer, known map[string]mms.MediaCheck, closing <-chan struct{}) *mediaRound {
	return &mediaRound{mediaPreparer: p, known: known, closing: closing, slots: make(chan struct{}, maxConcurrentChecks)}
}

// medium is an attachment and what is known about it.
type medium struct {
	mms.MessageMedium
	check mms.MediaCheck // zero for an upload or a copy
	err   error
}

func (m medium) stored() bool { return !m.Content.IsZero() }

// size is what the medium takes as it is.
func (m medium) size() int {
	if m.stored() {
		return m.Bytes
	}
	return m.check.Bytes
}

// fits reports whether the medium can be sent as it is when it is alone.
func (m medium) fits(fit mms.Fit) bool {
	return m.stored() || m.check.Fits && fit != mms.FitAlways
}

func (m medium) isPicture() bool {
	return m.stored() || strings.HasPrefix(m.check.Type, "image/") && m.check.Type != "image/x-xcf"
}

// prepare makes the media of one message ready.
func (r *mediaRound) prepare(ctx context.Context, m mms.Preparation) preparationResult {
	p := preparation{mediaRound: r, Preparation: m, media: r.checkURLs(ctx, m)}
	p.result.MessageID = m.MessageID
	p.result.Contents, p.result.Previews = map[int]mms.ContentHash{}, map[int]mms.ContentHash{}
	for _, step := range []func(context.Context) bool{p.judgeChecks, p.fitBudget, p.judgeTotal, p.upload} {
		if !step(ctx) {
			break
		}
	}
	return p.result
}

// checkURLs checks the URLs of a message side by side.
func (r *mediaRound) checkURLs(ctx context.Context, m mms.Preparation) []medium {
	media := make([]medium, len(m.Media))
	var checks sync.WaitGroup
	for i, attachment := range m.Media {
		media[i].MessageMedium = attachment
		if media[i].stored() {
			continue
		}
		if r.Checker == nil {
			media[i].check = mms.MediaCheck{Result: mms.CheckPassed, Fits: true}
			continue
		}
		checks.Go(func() {
			result := r.check(ctx, attachment.URL, copyRuleOf(m))
			media[i].check, media[i].err = result.MediaCheck, result.err
		})
	}
	checks.Wait()
	return media
}

// check returns what is behind a URL: from a recent check, or by fetching it.
func (r *mediaRound) check(ctx context.Context, rawURL string, rule copyRule) checked {
	if known, ok := r.known[rawURL]; ok && usable(known, rule) {
		return checked{MediaCheck: known}
	}
	return r.checks.do(checkKey{rawURL, rule}, func() checked { return r.fetch(ctx, rawURL, rule) })
}

// usable reports whether a recent check says all that is needed. If a picture could not be
// copied, its detail says why.
func usable(known mms.MediaCheck, rule copyRule) bool {
	triedToCopy := !known.Copy.IsZero() || known.Detail != "" || !strings.HasPrefix(known.Type, "image/")
	return known.Result == mms.CheckFailed || known.Result == mms.CheckPassed && (triedToCopy || !rule.needs(known))
}

// Why a call was not made in this round.
var (
	errLater   = errors.New("the round has ended")
	errSkipped = errors.New("uploads have failed in this round")
)

// fetch checks a URL by fetching it, unless its host is skipped in this round.
func (r *mediaRound) fetch(ctx context.Context, rawURL string, rule copyRule) checked {
	h := r.host(rawURL)
	if err := h.enter(r.closing, r.slots); err != nil {
		return checked{err: err}
	}
	defer h.leave(r.slots)
	if check, failing := h.failing(); failing {
		check.URL = rawURL
		return checked{MediaCheck: check}
	}
	check, data, err := r.Checker.Check(ctx, rawURL)
	if err != nil {
		return checked{err: err}
	}
	r.OnCheck(check)
	h.note(check)
	if check.Result == mms.CheckPassed {
		r.backoff.reset(rawURL)
		if err := r.keep(ctx, &check, data, rule.needs(check)); err != nil {
			return checked{err: err}
		}
	}
	return checked{check, r.Store.SaveMediaCheck(ctx, check)}
}

// keep stores a small version of a picture, and a copy of it if one is needed. If the
// picture cannot be copied, the check says why.
func (r *mediaRound) keep(ctx context.Context, check *mms.MediaCheck, data []byte, needsCopy bool) error {
	if data == nil {
		return nil
	}
	var err error
	if check.Preview, err = r.Pictures.Preview(ctx, data); err != nil || !needsCopy {
		return err
	}
	content, err := r.Pictures.Copy(ctx, data, r.Budget)
	var unusable *picture.Error
	switch {
	case errors.As(err, &unusable):
		check.Detail = unusable.Error()
	case err != nil:
		return err
	default:
		check.Copy = content.Hash
	}
	return nil
}

// makeSmaller returns the version of a stored picture for a smaller budget.
func (r *mediaRound) makeSmaller(ctx context.Context, hash mms.ContentHash, budget int) fitted {
	return r.smaller.do(smallerKey{hash, budget}, func() fitted {
		content, err := r.Pictures.Refit(ctx, hash, budget)
		return fitted{content, err}
	})
}

// plivoHost is Plivo's name among the hosts.
const plivoHost = "Plivo"

// uploadOnce uploads a picture, unless Plivo has it.
func (r *mediaRound) uploadOnce(ctx context.Context, hash mms.ContentHash) error {
	return r.uploads.do(hash, func() error {
		h := r.hosts.do(plivoHost, newHost)
		if err := h.enter(r.closing, nil); err != nil {
			return err
		}
		defer h.leave(nil)
		if _, failing := h.failing(); failing {
			return errSkipped
		}
		err := r.uploadContent(ctx, hash)
		var rejected mms.PlivoMediaError
		switch {
		case err == nil:
			r.backoff.reset(plivoHost)
		case !errors.As(err, &rejected) && !errors.Is(err, mms.ErrNoUpload):
			h.failures.Add(1)
		}
		return err
	})
}

func (r *mediaRound) uploadContent(ctx context.Context, hash mms.ContentHash) error {
	if has, err := r.Store.AtPlivo(ctx, hash); err != nil || has {
		return err
	}
	content, err := r.Store.Content(ctx, hash)
	if err != nil {
		return err
	}
	wait, err := r.Store.ReserveGetCall(ctx)
	if err != nil {
		return err
	}
	if err := sleep(ctx, wait); err != nil {
		return err
	}
	callCtx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	mediaID, err := r.Plivo.UploadMedia(callCtx, fileName(content), content.Type, content.Data)
	r.OnUpload(err)
	if err != nil {
		return err
	}
	failpoint.Hit(failpoint.MediaUploaded)
	if err := r.Store.SavePlivoMedia(ctx, hash, mediaID); err != nil {
		return err
	}
	failpoint.Hit(failpoint.MediaRecorded)
	return nil
}

var extensions = map[string]string{"image/jpeg": ".jpg", "image/png": ".png", "image/gif": ".gif"}

func fileName(c mms.Content) string {
	return fmt.Sprintf("picture-%.8s%s", c.Hash, extensions[c.Type])
}

// host limits the calls of one host and remembers whether it fails.
type host struct {
	slots    chan struct{}
	failures atomic.Int32
	last     atomic.Pointer[mms.MediaCheck] // the last failure
}

func newHost() *host { return &host{slots: make(chan struct{}, maxChecksOfHost)} }

func (r *mediaRound) host(rawURL string) *host {
	name := rawURL
	if u, err := url.Parse(rawURL); err == nil {
		name = u.Host
	}
	return r.hosts.do("//"+name, newHost)
}

// enter waits for a slot of the host and, if all is not nil, one of all. It returns errLater
// if closing is closed first.
func (h *host) enter(closing <-chan struct{}, all chan struct{}) error {
	select {
	case h.slots <- struct{}{}:
	case <-closing:
		return errLater
	}
	if all == nil {
		return nil
	}
	select {
	case all <- struct{}{}:
		return nil
	case <-closing:
		<-h.slots
		return errLater
	}
}

func (h *host) leave(all chan struct{}) {
	<-h.slots
	if all != nil {
		<-all
	}
}

func (h *host) note(c mms.MediaCheck) {
	if c.Result == mms.CheckRetry {
		h.last.Store(&c)
		h.failures.Add(1)
	}
}

// failing returns the last failure of a host that is skipped.
func (h *host) failing() (mms.MediaCheck, bool) {
	if h.failures.Load() < maxHostFailures {
		return mms.MediaCheck{}, false
	}
	if last := h.last.Load(); last != nil {
		return *last, true
	}
	return mms.MediaCheck{}, true
}

// once carries out work once for each key, however many ask for it at the same time or
// later.
type once[K comparable, V any] struct {
	mu    sync.Mutex
	calls map[K]func() V
}

func (o *once[K, V]) do(key K, work func() V) V {
	o.mu.Lock()
	call, ok := o.calls[key]
	if !ok {
		call = sync.OnceValue(work)
		if o.calls == nil {
			o.calls = map[K]func() V{}
		}
		o.calls[key] = call
	}
	o.mu.Unlock()
	return call()
}

// preparation is the work on one message. Each step returns false when the result is
// decided.
type preparation struct {
	*mediaRound
	mms.Preparation
	media  []medium
	notes  []string
	result preparationResult
}

func (p *preparation) fail(m medium, reason mms.Reason, detail string) bool {
	p.result.reason, p.result.detail = reason, p.named(m)+detail
	return false
}

// named returns the position of a medium, if the message has several.
func (p *preparation) named(m medium) string {
	if len(p.media) == 1 {
		return ""
	}
	return fmt.Sprintf("Attachment %d: ", m.Position)
}

// wait postpones the message because of Plivo or the named URL or picture, for longer each
// time.
func (p *preparation) wait(name string) bool {
	most := maxPreparationWait
	if name == plivoHost {
		most = maxUploadWait
	}
	wait := p.waits.do(name, func() time.Duration { return p.backoff.grow(name, most) })
	p.result.wait = max(p.result.wait, wait)
	return false
}

// stopped postpones the message because of an error.
func (p *preparation) stopped(err error, name string) bool {
	switch {
	case errors.Is(err, errLater):
		p.result.wait = max(p.result.wait, minPreparationWait)
		return false
	case errors.Is(err, errSkipped):
		return p.wait(name)
	}
	p.result.err = err
	return p.wait(name)
}

// judgeChecks fails the message if one of its media cannot be used, and otherwise makes it
// wait for each that may become usable.
func (p *preparation) judgeChecks(context.Context) bool {
	for _, m := range p.media {
		if m.err == nil && m.check.Result == mms.CheckFailed {
			return p.fail(m, m.check.Reason, m.check.Detail)
		}
		if !m.check.Preview.IsZero() {
			p.result.Previews[m.Position] = m.check.Preview
		}
	}
	ready := true
	for _, m := range p.media {
		switch {
		case m.err != nil:
			ready = p.stopped(m.err, m.URL)
		case m.check.Result == mms.CheckRetry:
			ready = p.wait(m.URL)
		}
	}
	return ready
}

// fitBudget replaces pictures that do not fit by smaller copies, unless the message forbids
// it.
func (p *preparation) fitBudget(ctx context.Context) bool {
	if p.Fit == mms.FitNever {
		return p.judgeUnfitted()
	}
	var pictures []*medium
	var sizes []int
	for i := range p.media {
		if m := &p.media[i]; m.isPicture() {
			pictures, sizes = append(pictures, m), append(sizes, m.size())
		}
	}
	for i, share := range picture.Share(p.Budget, sizes) {
		if m := pictures[i]; m.size() > share || !m.fits(p.Fit) {
			if !p.replace(ctx, m, share) {
				return false
			}
		}
	}
	return true
}

// replace replaces a picture by a version of at most share bytes.
func (p *preparation) replace(ctx context.Context, m *medium, share int) bool {
	base := m.Content
	if !m.stored() {
		base = m.check.Copy
		p.note(*m)
	}
	if base.IsZero() {
		return p.fail(*m, mms.ReasonMediaUnusable, sentence(m.check.Detail))
	}
	if !m.stored() && share >= min(m.check.Bytes, p.Budget) { // the copy is no larger
		p.use(m, base, min(m.check.Bytes, p.Budget))
		return true
	}
	smaller := p.makeSmaller(ctx, base, share)
	var unusable *picture.Error
	switch {
	case errors.As(smaller.err, &unusable):
		return p.fail(*m, mms.ReasonMediaUnusable, sentence(unusable.Error()))
	case errors.Is(smaller.err, mms.ErrNoUpload):
		return p.fail(*m, mms.ReasonMediaMissing, mms.ReasonMediaMissing.Description())
	case smaller.err != nil:
		return p.stopped(smaller.err, base.String())
	}
	p.use(m, smaller.Hash, smaller.Bytes)
	return true
}

// use sends a stored picture of at most size bytes in place of the medium.
func (p *preparation) use(m *medium, hash mms.ContentHash, size int) {
	m.Content, m.Bytes, m.AtPlivo = hash, size, false
	p.result.Contents[m.Position] = hash
}

// note says in the message's history why the picture behind a URL was copied.
func (p *preparation) note(m medium) {
	why := "is too large to be sent as it is"
	switch {
	case p.Fit == mms.FitAlways:
		why = "is always made to fit"
	case m.check.Redirected:
		why = "is behind a redirect, which Plivo may not follow"
	case m.check.Type == string(picture.WebP):
		why = "is a WebP picture, which phones often cannot show"
	case m.check.Fits:
		why = "is too large beside the others"
	}
	p.notes = append(p.notes, fmt.Sprintf("%sThe picture %s, so a copy is sent.", p.named(m), why))
}

// sentence begins the text with a capital letter and ends it with a period.
func sentence(text string) string {
	if text == "" {
		return mms.ReasonMediaUnusable.Description()
	}
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

// judgeUnfitted judges media that are sent as they are, whatever they are.
func (p *preparation) judgeUnfitted() bool {
	for _, m := range p.media {
		switch {
		case m.stored():
		case m.check.Type == string(picture.WebP):
			return p.fail(m, mms.ReasonMediaUnsupported, "The picture is a WebP picture, which phones often cannot show. Let Postcard make it fit, or use a JPEG picture.")
		case m.size() > mms.MaxPlivoMedia:
			return p.fail(m, mms.ReasonMediaTooLarge, fmt.Sprintf("The file is %s: Plivo allows %d MB at most.", mms.FormatBytes(m.size()), mms.MaxPlivoMedia/1_000_000))
		case m.check.Redirected:
			p.notes = append(p.notes, p.named(m)+"The link redirects, and Plivo may not follow it.")
		}
	}
	return true
}

// maxTotal leaves room for the text.
const maxTotal = mms.MaxPlivoTotal - 4*mms.MaxText

func (p *preparation) judgeTotal(context.Context) bool {
	total := 0
	for _, m := range p.media {
		total += m.size()
	}
	if total > maxTotal {
		p.result.reason = mms.ReasonMediaTotal
		p.result.detail = fmt.Sprintf("The attachments are %s together: Plivo allows %d MB at most.", mms.FormatBytes(total), mms.MaxPlivoTotal/1_000_000)
		return false
	}
	p.result.Note = strings.Join(slices.Compact(p.notes), " ")
	return true
}

// upload uploads what Plivo does not have yet.
func (p *preparation) upload(ctx context.Context) bool {
	for _, m := range p.media {
		if !m.stored() || m.AtPlivo {
			continue
		}
		err := p.uploadOnce(ctx, m.Content)
		var rejected mms.PlivoMediaError
		switch {
		case err == nil:
		case errors.As(err, &rejected):
			return p.fail(m, mms.ReasonMediaRejected, "Plivo said: "+clipDetail(rejected.Text))
		case errors.Is(err, mms.ErrNoUpload):
			return p.fail(m, mms.ReasonMediaMissing, mms.ReasonMediaMissing.Description())
		default:
			return p.stopped(err, plivoHost)
		}
	}
	return true
}

// clipDetail shortens a text of Plivo.
func clipDetail(text string) string {
	const most = 300
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

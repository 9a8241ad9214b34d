package maintenance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeRefits has messages whose pictures were too large; it is the store of the refitter.
type fakeRefits struct {
	*fakeMedia
	candidates []mms.RefitCandidate
}

func (f fakeRefits) RefitCandidates(_ context.Context, after uuid.UUID, limit int) ([]mms.RefitCandidate, error) {
	start := slices.IndexFunc(f.candidates, func(c mms.RefitCandidate) bool { return c.MessageID.String() > after.String() })
	if start < 0 {
		return nil, nil
	}
	return f.candidates[start:min(start+limit, len(f.candidates))], nil
}

func (f fakeRefits) CreateRefit(_ context.Context, old, id uuid.UUID, contents map[int]mms.ContentHash) error {
	call := "refitted " + shortID(old)
	for position := range mms.MaxMedia {
		if hash, ok := contents[position+1]; ok {
			call += fmt.Sprintf(", content %d: %s", position+1, hashName(hash))
		}
	}
	f.add("%s", call)
	if id.Version() != 7 || id.Variant() != uuid.RFC4122 || id == old {
		f.add("id %s is no UUIDv7", id)
	}
	return nil
}

func (f fakeRefits) job(plivo Getter) Job {
	return Refitter(RefitterOptions{
		Store: f, Plivo: plivo, Checker: f, Pictures: f, Budget: 500_000, Logger: discardLogger(),
		WithLease: func(ctx context.Context, _ string, work func(context.Context) error) error { return work(ctx) },
	})
}

func tooLarge(n byte, plivoUUID string, media ...string) mms.RefitCandidate {
	return mms.RefitCandidate{Unreported: unreported(n, plivoUUID), Media: message(n, mms.FitAuto, media...).Media, FailedAt: time.UnixMilli(1_700_000_000_000)}
}

func TestRefitter(t *testing.T) {
	t.Parallel()
	const a, video, down = "https://a.example.com/a", "https://a.example.com/video", "https://down.example.com/x"
	listed := func(state, code string) mms.Listed {
		return mms.Listed{From: "14155550100", To: "14155550123", State: state, Code: code}
	}
	plivo := fakeGetter{
		"too large": listed("failed", "120"), "delivered": listed("delivered", ""), "spam": listed("failed", "30"),
		"other": {From: "14155550100", To: "14155550199", State: "failed", Code: "120"},
	}
	for name, tt := range map[string]struct {
		candidate mms.RefitCandidate
		want      []string
	}{
		"upload":                   {tooLarge(1, "too large", "cat:400000"), []string{"refitted cat to 200000", "refitted 1, content 1: small cat"}},
		"original above budget":    {tooLarge(1, "too large", "cat:1900000"), []string{"refitted cat to 250000", "refitted 1, content 1: small cat"}},
		"URL":                      {tooLarge(1, "too large", a), []string{"asked " + a, "copied " + a, "refitted 1, content 1: copy a"}},
		"URL and upload":           {tooLarge(1, "too large", a, "cat:400000"), []string{"asked " + a, "copied " + a, "refitted cat to 199988", "refitted 1, content 1: copy a, content 2: small cat"}},
		"video":                    {tooLarge(1, "too large", video), []string{"asked " + video}},
		"host down":                {tooLarge(1, "too large", down), []string{"asked " + down}},
		"animation":                {tooLarge(1, "too large", "animation:400000"), nil},
		"picture is gone":          {tooLarge(1, "too large", "lost:400000"), nil},
		"delivered after all":      {tooLarge(1, "delivered", "cat:400000"), nil},
		"failed for another cause": {tooLarge(1, "spam", "cat:400000"), nil},
		"another message":          {tooLarge(1, "other", "cat:400000"), nil},
		"unknown to Plivo":         {tooLarge(1, "unknown", "cat:400000"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := fakeRefits{fakeMedia: newFakeMedia(), candidates: []mms.RefitCandidate{tt.candidate}}
			f.behind = map[string]mms.MediaCheck{a: passedCheck("image/jpeg", 300_000, true), video: passedCheck("video/mp4", 1_900_000, true), down: {Result: mms.CheckRetry}}
			runOnce(t, f.job(plivo))
			f.check(t, tt.want...)
		})
	}
}

// What can be read later is tried a few times; anything else once.
func TestRefitterGivesUp(t *testing.T) {
	t.Parallel()
	const down = "https://down.example.com/x"
	f := fakeRefits{fakeMedia: newFakeMedia(), candidates: []mms.RefitCandidate{tooLarge(1, "too large", down)}}
	f.behind = map[string]mms.MediaCheck{down: {Result: mms.CheckRetry}}
	job := f.job(fakeGetter{"too large": {From: "14155550100", To: "14155550123", State: "failed", Code: "120"}})
	for range 2 * maxRefitTries {
		runOnce(t, job)
	}
	f.check(t, slices.Repeat([]string{"asked " + down}, maxRefitTries)...)
}

func TestRefitterStopsWhenPlivoFails(t *testing.T) {
	t.Parallel()
	f := fakeRefits{fakeMedia: newFakeMedia(), candidates: []mms.RefitCandidate{tooLarge(1, "broken", "cat:1000")}}
	if err := f.job(fakeGetter{}).Run(t.Context()); !errors.Is(err, errPlivoDown) {
		t.Errorf("Run() = %v, want %v", err, errPlivoDown)
	}
	f.check(t)
}

func TestRefitterTakesAllPages(t *testing.T) {
	t.Parallel()
	f := fakeRefits{fakeMedia: newFakeMedia()}
	for i := range byte(refitBatchSize + 1) {
		f.candidates = append(f.candidates, tooLarge(i+1, "too large", "cat:1000"))
	}
	runOnce(t, f.job(fakeGetter{"too large": {From: "14155550100", To: "14155550123", State: "failed", Code: "120"}}))
	if len(f.calls) != 2*(refitBatchSize+1) {
		t.Errorf("got %d calls, want two for each of %d messages", len(f.calls), refitBatchSize+1)
	}
}

func TestRefitIDIsAlwaysTheSame(t *testing.T) {
	t.Parallel()
	a, again, b := refitID(tooLarge(1, "u")), refitID(tooLarge(1, "u")), refitID(tooLarge(2, "u"))
	if a != again || a == b || a.String()[:13] != "018bcfe5-6800" {
		t.Errorf("got ids %s, %s and %s", a, again, b)
	}
}

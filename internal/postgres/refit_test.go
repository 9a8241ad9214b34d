package postgres_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// tooLarge returns a message that failed at Plivo with its code for too large pictures.
func tooLarge(t *testing.T, store *postgres.Store, workspace uuid.UUID) (mms.Message, mms.AttemptRef) {
	t.Helper()
	m, ref := submitted(t, store, workspace)
	report(t, store, ref, mms.Report{PlivoUUID: "u-1", State: "failed", Code: mms.TooLargeCode}, true)
	return m, ref
}

func storedPicture(t *testing.T, store *postgres.Store, name string) mms.ContentHash {
	t.Helper()
	c := mms.Content{Data: []byte(name), PictureInfo: mms.PictureInfo{Type: "image/jpeg", Width: 1, Height: 1}}
	copy(c.Hash[:], name)
	if err := store.SaveContent(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c.Hash
}

func refitCandidates(t *testing.T, store *postgres.Store) []uuid.UUID {
	t.Helper()
	candidates, err := store.RefitCandidates(t.Context(), uuid.Nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	var ids []uuid.UUID
	for _, c := range candidates {
		ids = append(ids, c.MessageID)
	}
	return ids
}

func TestRefit(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, _ := tooLarge(t, store, workspace)
	candidates, err := store.RefitCandidates(t.Context(), uuid.Nil, 10)
	if err != nil || len(candidates) != 1 {
		t.Fatalf("RefitCandidates() = %v, %v, want one", candidates, err)
	}
	want := mms.RefitCandidate{
		Unreported: mms.Unreported{AttemptRef: mms.AttemptRef{MessageID: m.ID}, PlivoUUID: "u-1", Sender: m.Sender, Recipient: m.Recipient},
		Media:      []mms.MessageMedium{{Position: 1, URL: m.MediaURLs[0]}, {Position: 2, URL: m.MediaURLs[1]}},
		FailedAt:   candidates[0].FailedAt,
	}
	if diff := cmp.Diff(want, candidates[0]); diff != "" {
		t.Errorf("candidate (-want +got):\n%s", diff)
	}
	if rest, err := store.RefitCandidates(t.Context(), m.ID, 10); err != nil || len(rest) != 0 {
		t.Errorf("candidates after the only one: got %v, %v", rest, err)
	}
	first, second := storedPicture(t, store, "one"), storedPicture(t, store, "two")
	id := uuid.Must(uuid.NewV7())
	for range 2 { // the second does nothing
		if err := store.CreateRefit(t.Context(), m.ID, id, map[int]mms.ContentHash{1: first, 2: second}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.CreateRefit(t.Context(), m.ID, uuid.Must(uuid.NewV7()), nil); err != nil {
		t.Fatal(err)
	}
	old, refit := read(t, store, m), read(t, store, mms.Message{ID: id, Workspace: workspace})
	if got, want := kinds(old), begun+" report>failed refitted>failed"; got != want {
		t.Errorf("events of the old message: got %s, want %s", got, want)
	}
	if got, want := kinds(refit), "created>queued refitted>queued"; got != want {
		t.Errorf("events of the new message: got %s, want %s", got, want)
	}
	if last := old.Events[len(old.Events)-1]; last.Detail != "as message "+id.String() {
		t.Errorf("got detail %q", last.Detail)
	}
	if refit.ResendOf != m.ID || !refit.Preparing || refit.Text != m.Text || refit.Recipient != m.Recipient || refit.Version != int64(len(refit.Events)) {
		t.Errorf("got new message %+v", refit.Message)
	}
	if left := refit.ExpiresAt.Sub(refit.CreatedAt); left < 59*time.Minute || left > 61*time.Minute {
		t.Errorf("the new message expires after %v, want an hour as the old one", left)
	}
	preparations, err := store.Preparations(t.Context(), 10)
	if err != nil || len(preparations) != 1 {
		t.Fatalf("Preparations() = %v, %v, want the new message", preparations, err)
	}
	wantMedia := []mms.MessageMedium{{Position: 1, URL: m.MediaURLs[0], Content: first, Bytes: 3}, {Position: 2, URL: m.MediaURLs[1], Content: second, Bytes: 3}}
	if diff := cmp.Diff(wantMedia, preparations[0].Media); diff != "" {
		t.Errorf("media (-want +got):\n%s", diff)
	}
	if got := refitCandidates(t, store); len(got) != 0 {
		t.Errorf("got candidates %v after the refit, want none", got)
	}
}

func TestRefitCandidates(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change string // a statement about the message $1
		want   int
	}{
		"unchanged":        {"SELECT $1::uuid", 1},
		"another code":     {"UPDATE messages SET plivo_code = '30' WHERE id = $1", 0},
		"no code":          {"UPDATE messages SET plivo_code = '' WHERE id = $1", 0},
		"older than a day": {"UPDATE messages SET created_at = now() - interval '25 hours' WHERE id = $1", 0},
		"not to be fitted": {"UPDATE message_media SET fit = 'never' WHERE message_id = $1 AND position = 2", 0},
		"a refit itself":   {"INSERT INTO message_events (message_id, kind, status) VALUES ($1, 'refitted', 'failed')", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			m, _ := tooLarge(t, store, workspace)
			if _, err := store.DB().ExecContext(t.Context(), tt.change, m.ID); err != nil {
				t.Fatal(err)
			}
			if got := refitCandidates(t, store); len(got) != tt.want {
				t.Errorf("got candidates %v, want %d", got, tt.want)
			}
			if err := store.CreateRefit(t.Context(), m.ID, uuid.Must(uuid.NewV7()), nil); err != nil {
				t.Fatal(err)
			}
			var messages int
			if err := store.DB().QueryRowContext(t.Context(), "SELECT count(*) FROM messages").Scan(&messages); err != nil || messages != 1+tt.want {
				t.Errorf("got %d messages, %v; want %d", messages, err, 1+tt.want)
			}
		})
	}
}

// A message that its submitter has resent is not resent again.
func TestRefitLeavesResentMessages(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m, _ := tooLarge(t, store, workspace)
	resend := m
	resend.ID, resend.ResendOf, resend.ValidFor = uuid.Must(uuid.NewV7()), m.ID, time.Hour
	mustCreate(t, store, mms.CreateRequest{Message: resend})
	if got := refitCandidates(t, store); len(got) != 0 {
		t.Errorf("got candidates %v, want none", got)
	}
}

func TestAtPlivo(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	store.UseMedia("MA1", true)
	hash := storedPicture(t, store, "one")
	for _, want := range []bool{false, true} {
		if has, err := store.AtPlivo(t.Context(), hash); err != nil || has != want {
			t.Errorf("AtPlivo() = %v, %v, want %v", has, err, want)
		}
		if err := store.SavePlivoMedia(t.Context(), hash, "m-1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.DB().ExecContext(t.Context(), "UPDATE plivo_media SET usable_until = now()"); err != nil {
		t.Fatal(err)
	}
	if has, err := store.AtPlivo(t.Context(), hash); err != nil || has {
		t.Errorf("AtPlivo() = %v, %v of an upload that Plivo may have deleted", has, err)
	}
}

func TestMessageSaysWhichHostDoesNotAnswer(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	store.UseMedia("MA1", true)
	m := create(t, store, workspace)
	if h := read(t, store, m); !h.Preparing || h.MediaProblem != "" {
		t.Errorf("before a check: got preparing %v, problem %q", h.Preparing, h.MediaProblem)
	}
	for i, check := range []mms.MediaCheck{
		{URL: m.MediaURLs[0], Result: mms.CheckPassed, Detail: "not shown"},
		{URL: m.MediaURLs[1], Result: mms.CheckRetry, Reason: mms.ReasonMediaUnreachable, Detail: "example.com answered 503."},
	} {
		if err := store.SaveMediaCheck(t.Context(), check); err != nil {
			t.Fatalf("check %d: %v", i, err)
		}
	}
	if h := read(t, store, m); h.MediaProblem != "example.com answered 503." {
		t.Errorf("got problem %q", h.MediaProblem)
	}
}

// What a recent check has found spares a message the media preparer, unless that has to
// judge it: several media together, or a file that is sent as it is and that Plivo refuses.
func TestRecentCheckSparesThePreparer(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	store.UseMedia("MA1", true)
	for name, tt := range map[string]struct {
		fit       mms.Fit
		check     mms.MediaCheck
		two       bool
		preparing bool
	}{
		"fits":           {mms.FitAuto, mms.MediaCheck{PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: 1}, Fits: true}, false, false},
		"does not fit":   {mms.FitAuto, mms.MediaCheck{PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: 900_000}}, false, true},
		"always":         {mms.FitAlways, mms.MediaCheck{PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: 1}, Fits: true}, false, true},
		"never":          {mms.FitNever, mms.MediaCheck{PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: 900_000}}, false, false},
		"never, too big": {mms.FitNever, mms.MediaCheck{PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: mms.MaxPlivoMedia + 1}}, false, true},
		"never, WebP":    {mms.FitNever, mms.MediaCheck{PictureInfo: mms.PictureInfo{Type: "image/webp", Bytes: 1}}, false, true},
		"never, two":     {mms.FitNever, mms.MediaCheck{PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: 1}}, true, true},
		"two that fit":   {mms.FitAuto, mms.MediaCheck{PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: 1}, Fits: true}, true, true},
	} {
		tt.check.URL, tt.check.Result = "https://example.com/"+url.PathEscape(name), mms.CheckPassed
		urls := []string{tt.check.URL}
		if err := store.SaveMediaCheck(t.Context(), tt.check); err != nil {
			t.Fatal(err)
		}
		if tt.two {
			urls = append(urls, tt.check.URL)
		}
		m := mustCreate(t, store, mms.CreateRequest{Message: mms.Message{
			ID: uuid.Must(uuid.NewV7()), Workspace: workspace, CreatedBy: workspace, Sender: "+14155550100", Recipient: "+14155550123", MediaURLs: urls, Fit: tt.fit, ValidFor: time.Hour, Priority: mms.Normal,
		}})
		if m.Preparing != tt.preparing {
			t.Errorf("%s: got preparing %v, want %v", name, m.Preparing, tt.preparing)
		}
	}
}

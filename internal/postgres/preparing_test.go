package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

const (
	plivoAccount = "MA1"
	mediaURL     = "https://example.com/a.jpg" // of newRequest
)

// newCheckingStore returns a store that checks media URLs.
func newCheckingStore(t *testing.T) (*postgres.Store, uuid.UUID) {
	t.Helper()
	store, owner := newStore(t)
	store.UseMedia(plivoAccount, true)
	return store, owner
}

// withUpload returns a request that sends an upload in place of URLs. The upload's content
// is stored, and Plivo does not have it.
func withUpload(t *testing.T, store *postgres.Store, owner uuid.UUID) (mms.CreateRequest, mms.Content) {
	t.Helper()
	c := testContent(uuid.NewString())
	u := saveUpload(t, store, owner, c)
	r := newRequest(owner)
	r.MediaURLs, r.Uploads = nil, []mms.MessageUpload{{ID: u.ID, Content: c.Hash}}
	return r, c
}

// wantBacklogState compares a message's backlog_state and whether it has a task.
func wantBacklogState(t *testing.T, store *postgres.Store, id uuid.UUID, want string, task bool) {
	t.Helper()
	var state string
	var hasTask bool
	if err := store.DB().QueryRow(`SELECT coalesce(backlog_state, ''), coalesce(task_check_at < 'infinity', false) FROM messages WHERE id = $1`, id).Scan(&state, &hasTask); err != nil {
		t.Fatal(err)
	}
	if state != want || hasTask != task {
		t.Errorf("got backlog state %q and task %t, want %q and %t", state, hasTask, want, task)
	}
}

func prepared(ids ...uuid.UUID) []mms.Prepared {
	list := make([]mms.Prepared, len(ids))
	for i, id := range ids {
		list[i].MessageID = id
	}
	return list
}

// TestWhichMessagesArePrepared creates messages alone, in batches and on a schedule, whose
// media are ready or not.
func TestWhichMessagesArePrepared(t *testing.T) {
	t.Parallel()
	passed := mms.MediaCheck{URL: mediaURL, Result: mms.CheckPassed, Fits: true, PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: 1000}}
	save := func(change func(*mms.MediaCheck)) func(*testing.T, *postgres.Store) {
		return func(t *testing.T, store *postgres.Store) {
			c := passed
			change(&c)
			if err := store.SaveMediaCheck(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	upload := testContent("upload")
	atPlivo := func(change string) func(*testing.T, *postgres.Store) {
		return func(t *testing.T, store *postgres.Store) {
			if err := store.SavePlivoMedia(t.Context(), upload.Hash, "m-1"); err != nil {
				t.Fatal(err)
			}
			if change != "" {
				execute(t, store, `UPDATE plivo_media SET `+change)
			}
		}
	}
	same := func(*mms.MediaCheck) {}
	for _, tt := range []struct {
		name   string
		urls   []string
		upload bool
		fit    mms.Fit
		off    bool // no checks
		before func(*testing.T, *postgres.Store)
		want   bool
	}{
		{name: "URL without a check", urls: []string{mediaURL}, want: true},
		{name: "URL without a check, checks off", urls: []string{mediaURL}, off: true},
		{name: "fit always, checks off", urls: []string{mediaURL}, fit: mms.FitAlways, off: true},
		{name: "checked URL", urls: []string{mediaURL}, before: save(same)},
		{name: "other checked URL", urls: []string{mediaURL + "?2"}, before: save(same), want: true},
		{name: "old check", urls: []string{mediaURL}, before: func(t *testing.T, store *postgres.Store) {
			save(same)(t, store)
			execute(t, store, `UPDATE media_checks SET checked_at = now() - interval '11 minutes'`)
		}, want: true},
		{name: "failed check", urls: []string{mediaURL}, before: save(func(c *mms.MediaCheck) { c.Result = mms.CheckFailed }), want: true},
		{name: "check to try again", urls: []string{mediaURL}, before: save(func(c *mms.MediaCheck) { c.Result = mms.CheckRetry }), want: true},
		{name: "too large", urls: []string{mediaURL}, before: save(func(c *mms.MediaCheck) { c.Fits = false }), want: true},
		{name: "fits alone, not with others", urls: []string{mediaURL, mediaURL}, before: save(same), want: true},
		{name: "fit always", urls: []string{mediaURL}, fit: mms.FitAlways, before: save(same), want: true},
		{name: "too large, fit never", urls: []string{mediaURL}, fit: mms.FitNever, before: save(func(c *mms.MediaCheck) { c.Fits = false })},
		{name: "too large for Plivo, fit never", urls: []string{mediaURL}, fit: mms.FitNever, before: save(func(c *mms.MediaCheck) { c.Fits, c.Bytes = false, mms.MaxPlivoMedia+1 }), want: true},
		{name: "WebP, fit never", urls: []string{mediaURL}, fit: mms.FitNever, before: save(func(c *mms.MediaCheck) { c.Type = "image/webp" }), want: true},
		{name: "upload that Plivo does not have", upload: true, want: true},
		{name: "upload that Plivo does not have, checks off", upload: true, off: true, want: true},
		{name: "upload that Plivo has", upload: true, before: atPlivo("")},
		{name: "upload that Plivo has dropped", upload: true, before: atPlivo("usable_until = now()"), want: true},
		{name: "upload of another account", upload: true, before: atPlivo("account = 'MA2'"), want: true},
		{name: "checked URL and upload that Plivo has", urls: []string{mediaURL}, upload: true, before: func(t *testing.T, store *postgres.Store) {
			save(same)(t, store)
			atPlivo("")(t, store)
		}, want: true},
		{name: "URL and upload that Plivo has, checks off", urls: []string{mediaURL}, upload: true, off: true, before: atPlivo("")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store, owner := newStore(t)
			store.UseMedia(plivoAccount, !tt.off)
			u := saveUpload(t, store, owner, upload)
			if tt.before != nil {
				tt.before(t, store)
			}
			request := func() mms.CreateRequest {
				r := newRequest(owner)
				r.MediaURLs, r.Fit = tt.urls, tt.fit
				if tt.upload {
					r.Uploads = []mms.MessageUpload{{ID: u.ID, Content: upload.Hash}}
				}
				return r
			}
			state := func(otherwise string) string {
				if tt.want {
					return "preparing"
				}
				return otherwise
			}

			m := mustCreate(t, store, request())
			if got := read(t, store, m).Preparing; m.Preparing != tt.want || got != tt.want {
				t.Errorf("got preparing %t, read %t, want %t", m.Preparing, got, tt.want)
			}
			wantBacklogState(t, store, m.ID, state(""), !tt.want)

			b := newBatchRequest(owner)
			w, _, err := store.BeginBatch(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Rollback()
			row := request().Message
			row.BatchID, row.BatchRow, row.Metadata, row.Priority = b.ID, 1, map[string]string{}, mms.Bulk
			if err := w.Add(t.Context(), []mms.Message{row}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Commit(t.Context(), mms.RowErrors{}); err != nil {
				t.Fatal(err)
			}
			wantBacklogState(t, store, row.ID, state("waiting"), false)

			r := request()
			soon := time.Now().Add(time.Hour)
			r.SendAt = &soon
			scheduled := mustCreate(t, store, r)
			if scheduled.Preparing {
				t.Error("a scheduled message is preparing before it is due")
			}
			execute(t, store, `UPDATE messages SET send_at = now() WHERE status = 'scheduled'`)
			n, tasks, err := store.QueueScheduled(t.Context(), 10)
			if err != nil || n != 1 || (len(tasks) == 0) != tt.want {
				t.Errorf("QueueScheduled: got %d messages, tasks %v, %v", n, tasks, err)
			}
			wantBacklogState(t, store, scheduled.ID, state(""), !tt.want)
		})
	}
}

// TestPreparedMessageIsClaimed takes a message with an upload from its creation to the claim.
func TestPreparedMessageIsClaimed(t *testing.T) {
	t.Parallel()
	store, owner := newCheckingStore(t)
	r, c := withUpload(t, store, owner)
	r.MediaURLs = []string{mediaURL}
	m := mustCreate(t, store, r)
	refuse := func(when string) {
		t.Helper()
		if _, ok, err := store.Claim(t.Context(), m.ID, token(), lease); ok || err != nil {
			t.Errorf("%s: got %t, %v, want no claim", when, ok, err)
		}
		if claims := store.ClaimTogether(t.Context(), m.ID, uuid.New()); len(claims) > 0 {
			t.Errorf("%s: got a shared claim, want none", when)
		}
		if blocker, err := store.ClaimBlocker(t.Context(), m.ID); err != nil || !blocker.NotPrepared {
			t.Errorf("%s: got %+v, %v, want NotPrepared", when, blocker, err)
		}
	}
	refuse("preparing")
	list, err := store.Preparations(t.Context(), 10)
	if err != nil || len(list) != 1 || list[0].MessageID != m.ID || list[0].Fit != mms.FitAuto || !slices.Equal(list[0].Media, []mms.MessageMedium{
		{Position: 1, URL: mediaURL}, {Position: 2, Content: c.Hash, Bytes: 100},
	}) {
		t.Errorf("Preparations: got %+v, %v", list, err)
	}

	copied := testContent("copy")
	if err := store.SaveContent(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	one := []mms.Prepared{{MessageID: m.ID, Contents: map[int]mms.ContentHash{1: copied.Hash}, Previews: map[int]mms.ContentHash{1: c.Hash}, Note: "copied"}}
	tasks, err := store.MarkPrepared(t.Context(), one)
	if err != nil || len(tasks) != 1 || tasks[0].MessageID != m.ID || tasks[0].Generation != 2 {
		t.Errorf("MarkPrepared: got %+v, %v, want a task of generation 2", tasks, err)
	}
	if tasks, err := store.MarkPrepared(t.Context(), one); err != nil || len(tasks) != 0 {
		t.Errorf("again: got %+v, %v, want no task", tasks, err)
	}
	wantBacklogState(t, store, m.ID, "", true)
	refuse("Plivo does not have the pictures")
	if err := store.SavePlivoMedia(t.Context(), c.Hash, "m-1"); err != nil {
		t.Fatal(err)
	}
	refuse("Plivo has one of two pictures")

	if err := store.Prepare(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	wantBacklogState(t, store, m.ID, "preparing", false)
	list, err = store.Preparations(t.Context(), 10)
	if err != nil || len(list) != 1 || !slices.Equal(list[0].Media, []mms.MessageMedium{
		{Position: 1, URL: mediaURL, Content: copied.Hash, Bytes: 100}, {Position: 2, Content: c.Hash, Bytes: 100, AtPlivo: true},
	}) {
		t.Errorf("Preparations: got %+v, %v", list, err)
	}
	if err := store.SavePlivoMedia(t.Context(), copied.Hash, "m-2"); err != nil {
		t.Fatal(err)
	}
	if tasks, err := store.MarkPrepared(t.Context(), prepared(m.ID)); err != nil || len(tasks) != 1 {
		t.Errorf("MarkPrepared: got %+v, %v, want a task", tasks, err)
	}
	got, _ := claim(t, store, m.ID)
	if want := []string{"m-2", "m-1"}; !slices.Equal(got.MediaIDs, want) || len(got.MediaURLs) != 0 {
		t.Errorf("got ids %v and URLs %v, want %v", got.MediaIDs, got.MediaURLs, want)
	}
	h := read(t, store, m)
	if !strings.HasPrefix(kinds(h), "created>queued prepared>queued ") || h.Events[1].Detail != "copied" {
		t.Errorf("got events %s", kinds(h))
	}
	if !slices.Equal(h.MediaURLs, []string{mediaURL}) || len(h.Uploads) != 1 {
		t.Errorf("got URLs %v and uploads %v, want one of each", h.MediaURLs, h.Uploads)
	}
}

// TestPreparationEndsOtherwise postpones, fails, cancels and expires messages while they are
// being prepared. None is prepared afterwards.
func TestPreparationEndsOtherwise(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		end    func(context.Context, *postgres.Store, mms.Message) error
		status mms.Status
		events string
	}{
		{"failed", func(ctx context.Context, s *postgres.Store, m mms.Message) error {
			return s.FailPreparation(ctx, []uuid.UUID{m.ID}, mms.ReasonMediaNotFound, "404")
		}, mms.Failed, "created>queued media_failed>failed"},
		{"canceled", func(ctx context.Context, s *postgres.Store, m mms.Message) error { return s.Cancel(ctx, m.Owner, m.ID) },
			mms.Canceled, "created>queued canceled>canceled"},
		{"expired", func(ctx context.Context, s *postgres.Store, m mms.Message) error {
			if _, err := s.DB().Exec(`UPDATE messages SET expires_at = now()`); err != nil {
				return err
			}
			_, err := s.ExpireQueued(ctx, 10)
			return err
		}, mms.Failed, "created>queued expired>failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store, owner := newCheckingStore(t)
			m := mustCreate(t, store, newRequest(owner))
			if err := tt.end(t.Context(), store, m); err != nil {
				t.Fatal(err)
			}
			ids := []uuid.UUID{m.ID}
			tasks, err := store.MarkPrepared(t.Context(), prepared(m.ID))
			if err != nil || len(tasks) != 0 {
				t.Errorf("MarkPrepared: got %v, %v, want nothing", tasks, err)
			}
			if err := store.FailPreparation(t.Context(), ids, mms.ReasonMediaGone, ""); err != nil {
				t.Error(err)
			}
			if err := store.Prepare(t.Context(), m.ID); err != nil {
				t.Error(err)
			}
			if list, err := store.Preparations(t.Context(), 10); err != nil || len(list) != 0 {
				t.Errorf("Preparations: got %v, %v, want none", list, err)
			}
			wantBacklogState(t, store, m.ID, "", false)
			wantEvents(t, read(t, store, m), tt.status, tt.events)
		})
	}
}

func TestPostponePreparation(t *testing.T) {
	t.Parallel()
	store, owner := newCheckingStore(t)
	first, second := mustCreate(t, store, newRequest(owner)), mustCreate(t, store, newRequest(owner))
	if err := store.PostponePreparation(t.Context(), []uuid.UUID{first.ID}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if list, err := store.Preparations(t.Context(), 10); err != nil || len(list) != 1 || list[0].MessageID != second.ID {
		t.Errorf("got %v, %v, want the message that was not postponed", list, err)
	}
}

// preparingBatch creates a batch of n messages with unchecked URLs.
func preparingBatch(t *testing.T, store *postgres.Store, owner uuid.UUID, n int) (mms.Batch, []uuid.UUID) {
	t.Helper()
	b := createBatch(t, store, owner, n)
	list, err := store.Preparations(t.Context(), 1000)
	if err != nil || len(list) != n {
		t.Fatalf("got %d messages to prepare, %v, want %d", len(list), err, n)
	}
	var ids []uuid.UUID
	for _, p := range list {
		ids = append(ids, p.MessageID)
	}
	return b, ids
}

// TestBatchIsPausedWhilePreparing pauses, resumes and cancels a batch whose messages are
// being prepared.
func TestBatchIsPausedWhilePreparing(t *testing.T) {
	t.Parallel()
	store, owner := newCheckingStore(t)
	b, ids := preparingBatch(t, store, owner, 3)
	mark := func(id uuid.UUID, want string) {
		t.Helper()
		if tasks, err := store.MarkPrepared(t.Context(), prepared(id)); err != nil || len(tasks) != 0 {
			t.Errorf("MarkPrepared: got %v, %v, want no task", tasks, err)
		}
		wantBacklogState(t, store, id, want, false)
	}
	set := func(state mms.BatchState) {
		t.Helper()
		if err := store.SetBatchState(t.Context(), owner, b.ID, state); err != nil {
			t.Fatal(err)
		}
		syncBatches(t, store)
	}
	mark(ids[0], "waiting")
	set(mms.BatchPaused)
	if parked, err := store.Park(t.Context(), ids[1]); parked || err != nil { // for a task from before
		t.Errorf("Park: got %t, %v for a message that is preparing", parked, err)
	}
	wantBacklogState(t, store, ids[1], "preparing", false)
	mark(ids[1], "parked")
	set(mms.BatchRunning)
	wantBacklogState(t, store, ids[0], "waiting", false)
	wantBacklogState(t, store, ids[1], "waiting", false)
	wantBacklogState(t, store, ids[2], "preparing", false)
	set(mms.BatchCanceled)
	if n := count(t, store, `SELECT count(*) FROM messages WHERE status = 'canceled' AND backlog_state IS NULL`); n != 3 {
		t.Errorf("got %d canceled messages, want 3", n)
	}
}

// TestPausingAndMarkPreparedAgree pauses and resumes a batch while its messages become ready.
// None stays parked in a running batch, or waits in a paused one.
func TestPausingAndMarkPreparedAgree(t *testing.T) {
	t.Parallel()
	store, owner := newCheckingStore(t)
	b, ids := preparingBatch(t, store, owner, 40)
	for round, want := range []string{"parked", "waiting"} {
		state := []mms.BatchState{mms.BatchPaused, mms.BatchRunning}[round]
		var group sync.WaitGroup
		for _, id := range ids[round*20 : round*20+20] {
			group.Go(func() {
				if _, err := store.MarkPrepared(t.Context(), prepared(id)); err != nil {
					t.Error(err)
				}
			})
		}
		group.Go(func() {
			if err := store.SetBatchState(t.Context(), owner, b.ID, state); err != nil {
				t.Error(err)
			}
		})
		group.Wait()
		syncBatches(t, store)
		query := fmt.Sprintf(`SELECT count(*) FROM messages WHERE backlog_state = '%s' AND task_check_at = 'infinity'`, want)
		if n := count(t, store, query); n != 20*(round+1) {
			t.Errorf("%s: got %d messages %s, want %d", state, n, want, 20*(round+1))
		}
	}
}

// TestPlivoMediaAreKept keeps an upload for longer once a message has used it, and forgets
// those of a message.
func TestPlivoMediaAreKept(t *testing.T) {
	t.Parallel()
	store, owner := newCheckingStore(t)
	r, used := withUpload(t, store, owner)
	r2, unused := withUpload(t, store, owner)
	for i, c := range []mms.Content{used, unused} {
		if err := store.SavePlivoMedia(t.Context(), c.Hash, fmt.Sprint("m-", i)); err != nil {
			t.Fatal(err)
		}
	}
	m := mustCreate(t, store, r)
	mustCreate(t, store, r2)
	usedFor := func(c mms.Content) (hours int) {
		return count(t, store, `SELECT extract(epoch FROM usable_until - uploaded_at)::int / 3600 FROM plivo_media WHERE content = $1`, c.Hash[:])
	}
	mark := func(want int) {
		t.Helper()
		if err := store.MarkUsedPlivoMedia(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := usedFor(used); got != want {
			t.Errorf("used: got %d h, want %d", got, want)
		}
		if got := usedFor(unused); got != 5 {
			t.Errorf("unused: got %d h, want 5", got)
		}
	}
	c, _ := claim(t, store, m.ID)
	mark(5)
	if _, err := adopt(t.Context(), store, c.AttemptRef, "u-1"); err != nil {
		t.Fatal(err)
	}
	mark(300 * 24)
	if err := store.SavePlivoMedia(t.Context(), used.Hash, "m-3"); err != nil { // uploaded again: unused
		t.Fatal(err)
	}
	mark(5)
	if err := store.ForgetPlivoMedia(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[mms.ContentHash]bool{used.Hash: false, unused.Hash: true} {
		if got, err := store.AtPlivo(t.Context(), content); err != nil || got != want {
			t.Errorf("after forgetting: got %t, %v, want %t", got, err, want)
		}
	}
}

// TestMediaChecksAreReadBack reads the checks that are young enough.
func TestMediaChecksAreReadBack(t *testing.T) {
	t.Parallel()
	store, _ := newCheckingStore(t)
	c := mms.MediaCheck{URL: mediaURL, Result: mms.CheckFailed, Reason: mms.ReasonMediaGone, Detail: "410", Redirected: true, PictureInfo: mms.PictureInfo{Type: "image/png", Bytes: 7, Width: 2, Height: 1}}
	for _, result := range []mms.CheckResult{mms.CheckPassed, mms.CheckFailed} { // the second replaces the first
		c.Result = result
		if err := store.SaveMediaCheck(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	checks, err := store.MediaChecks(t.Context(), []string{mediaURL, "https://example.com/other"})
	got := checks[mediaURL]
	got.CheckedAt = c.CheckedAt
	if err != nil || len(checks) != 1 || got != c {
		t.Errorf("got %+v, %v, want %+v", checks, err, c)
	}
	execute(t, store, `UPDATE media_checks SET checked_at = now() - interval '10 minutes'`)
	if checks, err := store.MediaChecks(t.Context(), []string{mediaURL}); err != nil || len(checks) != 0 {
		t.Errorf("old check: got %v, %v, want none", checks, err)
	}
}

// TestResendKeepsUploads repeats a message with an upload that has expired.
func TestResendKeepsUploads(t *testing.T) {
	t.Parallel()
	store, owner := newCheckingStore(t)
	r, _ := withUpload(t, store, owner)
	m := read(t, store, mustCreate(t, store, r)).Message
	execute(t, store, `DELETE FROM media_uploads`)
	again := newRequest(owner)
	again.MediaURLs, again.Uploads, again.Fit, again.ResendOf = m.MediaURLs, m.Uploads, m.Fit, m.ID
	got := mustCreate(t, store, again)
	if !slices.Equal(read(t, store, got).Uploads, r.Uploads) || !got.Preparing {
		t.Errorf("got %v, preparing %t, want %v", got.Uploads, got.Preparing, r.Uploads)
	}
}

package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

const plivoAccount = "MA1"

// newMediaStore returns a store that checks media URLs.
func newMediaStore(t *testing.T) (*postgres.Store, uuid.UUID) {
	t.Helper()
	store, workspace := newStore(t)
	store.UseMedia(plivoAccount, true)
	return store, workspace
}

// saveContent stores a content without a preview.
func saveContent(t *testing.T, store *postgres.Store, name string) mms.ContentHash {
	t.Helper()
	c := newContent(name, 100)
	if err := store.SaveContent(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c.Hash
}

// atPlivo stores an id under which Plivo has a content.
func atPlivo(t *testing.T, store *postgres.Store, hash mms.ContentHash, id string) {
	t.Helper()
	if err := store.SavePlivoMedia(t.Context(), hash, id); err != nil {
		t.Fatal(err)
	}
}

// withUpload returns a request whose only medium is an upload of the content.
func withUpload(workspace uuid.UUID, hash mms.ContentHash) mms.CreateRequest {
	request := newRequest(workspace)
	request.MediaURLs, request.Uploads = nil, []mms.MessageUpload{{ID: uuid.New(), Content: hash}}
	return request
}

// preparing returns the ids of the messages that are being prepared.
func preparing(t *testing.T, store *postgres.Store) []uuid.UUID {
	t.Helper()
	list, err := store.Preparations(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	var ids []uuid.UUID
	for _, p := range list {
		ids = append(ids, p.MessageID)
	}
	return ids
}

// markPrepared releases messages and returns the tasks to enqueue.
func markPrepared(t *testing.T, store *postgres.Store, ids ...uuid.UUID) []mms.Task {
	t.Helper()
	var prepared []mms.Prepared
	for _, id := range ids {
		prepared = append(prepared, mms.Prepared{MessageID: id})
	}
	tasks, err := store.MarkPrepared(t.Context(), prepared)
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

// backlogState returns a message's state in the backlog and whether its task is checked, and
// fails the test if the two contradict.
func backlogState(t *testing.T, store *postgres.Store, id uuid.UUID) string {
	t.Helper()
	var state string
	var checked bool
	if err := store.DB().QueryRow(`SELECT coalesce(backlog_state, ''), coalesce(isfinite(task_check_at), false) FROM messages WHERE id = $1`, id).Scan(&state, &checked); err != nil {
		t.Fatal(err)
	}
	if state == "preparing" && checked {
		t.Errorf("message %s is preparing and the task relay expects a task", id)
	}
	return state
}

// TestWhatMakesAMessagePreparing creates messages alone, together with another, as rows of a
// batch, and scheduled ones that become due: all must agree.
func TestWhatMakesAMessagePreparing(t *testing.T) {
	t.Parallel()
	const good, bad = "https://example.com/good.jpg", "https://example.com/bad.jpg"
	fitting := mms.MediaCheck{URL: good, Result: mms.CheckPassed, Fits: true, PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: 1000}}
	large := mms.MediaCheck{URL: good, Result: mms.CheckPassed, PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: 900_000}}
	redirected := fitting
	redirected.Redirected, redirected.Fits = true, false
	failed := mms.MediaCheck{URL: good, Result: mms.CheckFailed, Fits: true, Reason: mms.ReasonMediaUnreachable}
	retry := mms.MediaCheck{URL: good, Result: mms.CheckRetry, Fits: true, Reason: mms.ReasonMediaUnreachable}
	const (
		noCheck = ""
		upload  = "upload" // in place of a URL
		stale   = `UPDATE media_checks SET checked_at = now() - interval '601 seconds'`
		fresh   = `UPDATE media_checks SET checked_at = now() - interval '590 seconds'`
	)
	for name, tt := range map[string]struct {
		media  []string // URLs, or upload
		fit    mms.Fit
		check  mms.MediaCheck
		change string
		off    bool // MEDIA_CHECK
		want   bool
	}{
		"unchecked":                   {media: []string{bad}, want: true},
		"unchecked, check off":        {media: []string{bad}, off: true, want: false},
		"unchecked, always, off":      {media: []string{bad}, fit: mms.FitAlways, off: true, want: false},
		"fits":                        {media: []string{good}, check: fitting, want: false},
		"fits, check of 590 s":        {media: []string{good}, check: fitting, change: fresh, want: false},
		"fits, check of 601 s":        {media: []string{good}, check: fitting, change: stale, want: true},
		"fits, always":                {media: []string{good}, fit: mms.FitAlways, check: fitting, want: true},
		"fits, never":                 {media: []string{good}, fit: mms.FitNever, check: fitting, want: false},
		"too large":                   {media: []string{good}, check: large, want: true},
		"too large, never":            {media: []string{good}, fit: mms.FitNever, check: large, want: false},
		"redirected":                  {media: []string{good}, check: redirected, want: true},
		"redirected, never":           {media: []string{good}, fit: mms.FitNever, check: redirected, want: true},
		"failed":                      {media: []string{good}, check: failed, want: true},
		"failed, never":               {media: []string{good}, fit: mms.FitNever, check: failed, want: true},
		"to be retried":               {media: []string{good}, check: retry, want: true},
		"failed, check off":           {media: []string{good}, check: failed, off: true, want: false},
		"two that fit alone":          {media: []string{good, good}, check: fitting, want: true},
		"one unchecked":               {media: []string{good, bad}, check: fitting, want: true},
		"upload":                      {media: []string{upload}, want: true},
		"upload, check off":           {media: []string{upload}, off: true, want: true},
		"upload at Plivo":             {media: []string{upload}, change: insertPlivoMedia + `'MA1', 'm', now() + interval '1 minute' FROM media_contents`, want: false},
		"upload at Plivo, never":      {media: []string{upload}, fit: mms.FitNever, change: insertPlivoMedia + `'MA1', 'm', now() + interval '1 minute' FROM media_contents`, want: false},
		"upload expired at Plivo":     {media: []string{upload}, change: insertPlivoMedia + `'MA1', 'm', now() FROM media_contents`, want: true},
		"upload at another account":   {media: []string{upload}, change: insertPlivoMedia + `'MA2', 'm', now() + interval '1 minute' FROM media_contents`, want: true},
		"two uploads at Plivo":        {media: []string{upload, upload}, change: insertPlivoMedia + `'MA1', 'm', now() + interval '1 minute' FROM media_contents`, want: false},
		"upload at Plivo and a URL":   {media: []string{upload, good}, check: fitting, change: insertPlivoMedia + `'MA1', 'm', now() + interval '1 minute' FROM media_contents`, want: true},
		"upload, URL, check off":      {media: []string{upload, bad}, change: insertPlivoMedia + `'MA1', 'm', now() + interval '1 minute' FROM media_contents`, off: true, want: false},
		"upload not at Plivo and URL": {media: []string{upload, bad}, off: true, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStore(t)
			store.UseMedia(plivoAccount, !tt.off)
			hash := saveContent(t, store, "picture")
			if tt.check.URL != noCheck {
				if err := store.SaveMediaCheck(t.Context(), tt.check); err != nil {
					t.Fatal(err)
				}
			}
			if tt.change != "" {
				execute(t, store, tt.change)
			}
			request := func() mms.CreateRequest {
				r := newRequest(workspace)
				r.MediaURLs, r.Fit = nil, tt.fit
				for _, medium := range tt.media {
					if medium == upload {
						r.Uploads = append(r.Uploads, mms.MessageUpload{ID: uuid.New(), Content: hash})
					} else {
						r.MediaURLs = append(r.MediaURLs, medium)
					}
				}
				return r
			}
			want := map[bool]string{true: "preparing"}[tt.want]
			alone := mustCreate(t, store, request())
			if got := backlogState(t, store, alone.ID); got != want || alone.Preparing != tt.want || read(t, store, alone).Preparing != tt.want {
				t.Errorf("created alone: got state %q, preparing %t, want %q", got, alone.Preparing, want)
			}
			for id, result := range store.CreateTogether(t.Context(), request(), request()) {
				if got := backlogState(t, store, id); got != want || result.Preparing != tt.want {
					t.Errorf("created together: got state %q, preparing %t, want %q", got, result.Preparing, want)
				}
			}
			row := createBatchOf(t, store, request())
			if got := backlogState(t, store, row.ID); got != map[bool]string{true: "preparing", false: "waiting"}[tt.want] {
				t.Errorf("row of a batch: got state %q", got)
			}
			later := request()
			at := time.Now().Add(time.Hour)
			later.SendAt = &at
			scheduled := mustCreate(t, store, later)
			if got := backlogState(t, store, scheduled.ID); got != "" || scheduled.Preparing {
				t.Errorf("scheduled: got state %q, preparing %t, want none before it is due", got, scheduled.Preparing)
			}
			execute(t, store, `UPDATE messages SET send_at = now() WHERE status = 'scheduled'`)
			n, tasks, err := store.QueueScheduled(t.Context(), 10)
			if err != nil || n != 1 || len(tasks) != map[bool]int{true: 0, false: 1}[tt.want] {
				t.Errorf("QueueScheduled: got %d, %v, %v", n, tasks, err)
			}
			if got := backlogState(t, store, scheduled.ID); got != want {
				t.Errorf("scheduled, when due: got state %q, want %q", got, want)
			}
			wantPreparing := map[bool]int{true: 5, false: 0}[tt.want]
			if got := preparing(t, store); len(got) != wantPreparing {
				t.Errorf("got %d messages to prepare, want %d", len(got), wantPreparing)
			}
		})
	}
}

const insertPlivoMedia = `INSERT INTO plivo_media (content, account, media_id, usable_until) SELECT hash, `

// TestScheduledRowsOfABatch become due: the unprepared is prepared, the other waits.
func TestScheduledRowsOfABatch(t *testing.T) {
	t.Parallel()
	store, workspace := newMediaStore(t)
	missing, there := saveContent(t, store, "missing"), saveContent(t, store, "there")
	atPlivo(t, store, there, "m")
	for hash, want := range map[mms.ContentHash]string{missing: "preparing", there: "waiting"} {
		request := withUpload(workspace, hash)
		at := time.Now().Add(time.Hour)
		request.SendAt = &at
		m := createBatchOf(t, store, request)
		execute(t, store, `UPDATE messages SET send_at = now() WHERE status = 'scheduled'`)
		if n, tasks, err := store.QueueScheduled(t.Context(), 10); n != 1 || len(tasks) != 0 || err != nil {
			t.Errorf("QueueScheduled: got %d, %v, %v, want one message without a task", n, tasks, err)
		}
		if got := backlogState(t, store, m.ID); got != want {
			t.Errorf("got state %q, want %q", got, want)
		}
	}
}

func TestPreparations(t *testing.T) {
	t.Parallel()
	store, workspace := newMediaStore(t)
	missing, there := saveContent(t, store, "missing"), saveContent(t, store, "there")
	atPlivo(t, store, there, "m")
	request := newRequest(workspace)
	request.MediaURLs, request.Fit = []string{"https://example.com/a.jpg"}, mms.FitAlways
	request.Uploads = []mms.MessageUpload{{ID: uuid.New(), Content: missing}, {ID: uuid.New(), Content: there}}
	first, second, expired, later := mustCreate(t, store, request), create(t, store, workspace), create(t, store, workspace), create(t, store, workspace)
	if err := store.PostponePreparation(t.Context(), []uuid.UUID{later.ID}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`UPDATE messages SET expires_at = now() WHERE id = $1`, expired.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`UPDATE messages SET prepare_at = now() - interval '1 minute' WHERE id = $1`, second.ID); err != nil {
		t.Fatal(err)
	}
	if got, want := preparing(t, store), []uuid.UUID{second.ID, first.ID}; !slices.Equal(got, want) {
		t.Errorf("got %v, want those that are due and not expired, the longest due first: %v", got, want)
	}
	list, err := store.Preparations(t.Context(), 1)
	if err != nil || len(list) != 1 || list[0].MessageID != second.ID || len(list[0].Media) != 2 {
		t.Errorf("limit 1: got %+v, %v, want the message that is due for longest, with both media", list, err)
	}
	list, err = store.Preparations(t.Context(), 2)
	if err != nil || len(list) != 2 {
		t.Fatalf("got %+v, %v, want two", list, err)
	}
	want := mms.Preparation{MessageID: first.ID, Fit: mms.FitAlways, ExpiresAt: first.ExpiresAt, Media: []mms.MessageMedium{
		{Position: 1, URL: "https://example.com/a.jpg"}, {Position: 2, Content: missing, Bytes: 100}, {Position: 3, Content: there, Bytes: 100, AtPlivo: true},
	}}
	if diff := cmp.Diff(want, list[1]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMarkPrepared(t *testing.T) {
	t.Parallel()
	store, workspace := newMediaStore(t)
	copied, preview := saveContent(t, store, "copied"), saveContent(t, store, "preview")
	atPlivo(t, store, copied, "plivo-id")
	request := newRequest(workspace)
	request.MediaURLs, request.Priority = []string{"https://example.com/a.jpg", "https://example.com/b.jpg"}, mms.High
	m, other := mustCreate(t, store, request), create(t, store, workspace)
	row := createBatchOf(t, store, newRequest(workspace))
	tasks, err := store.MarkPrepared(t.Context(), []mms.Prepared{
		{MessageID: m.ID, Contents: map[int]mms.ContentHash{2: copied}, Previews: map[int]mms.ContentHash{1: preview, 2: preview}, Note: "b.jpg was copied."},
		{MessageID: row.ID},
		{MessageID: uuid.New()}, // unknown
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]mms.Task{{MessageID: m.ID, Generation: 2, Priority: mms.High}}, tasks); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
	for id, want := range map[uuid.UUID]string{m.ID: "", row.ID: "waiting", other.ID: "preparing"} {
		if got := backlogState(t, store, id); got != want {
			t.Errorf("got state %q, want %q", got, want)
		}
	}
	h := read(t, store, m)
	wantEvents(t, h, mms.Queued, "created>queued prepared>queued")
	if h.Events[1].Detail != "b.jpg was copied." || h.Version != 2 || h.Preparing || !slices.Equal(h.Copies, []bool{true, true}) || !slices.Equal(h.MediaURLs, request.MediaURLs) {
		t.Errorf("got %+v", h)
	}
	wantEvents(t, read(t, store, row), mms.Queued, "created>queued")

	// Again: neither has another task, event or state.
	if tasks := markPrepared(t, store, m.ID, row.ID); len(tasks) != 0 {
		t.Errorf("again: got tasks %v, want none", tasks)
	}
	if h := read(t, store, m); h.Version != 2 {
		t.Errorf("again: got version %d, want 2", h.Version)
	}
	if got := backlogState(t, store, row.ID); got != "waiting" {
		t.Errorf("again: got state %q, want waiting", got)
	}
	for _, stale := range []error{
		store.PostponePreparation(t.Context(), []uuid.UUID{m.ID, row.ID}, time.Hour),
		store.FailPreparation(t.Context(), []uuid.UUID{m.ID, row.ID}, mms.ReasonMediaUnreachable, "gone"),
	} {
		if stale != nil {
			t.Error(stale)
		}
	}
	if h := read(t, store, m); h.Status != mms.Queued || h.Version != 2 {
		t.Errorf("a late failure changed the message: got %+v", h.Message)
	}
	c, _ := claim(t, store, m.ID)
	if diff := cmp.Diff([]string{"https://example.com/a.jpg"}, c.MediaURLs); diff != "" {
		t.Errorf("claimed URLs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"plivo-id"}, c.MediaIDs); diff != "" {
		t.Errorf("claimed ids (-want +got):\n%s", diff)
	}
}

// TestContentsOfSeveralMessages prepares two messages with contents of their own at the same
// positions.
func TestContentsOfSeveralMessages(t *testing.T) {
	t.Parallel()
	store, workspace := newMediaStore(t)
	hashes := []mms.ContentHash{saveContent(t, store, "0"), saveContent(t, store, "1")}
	var prepared []mms.Prepared
	for i, hash := range hashes {
		atPlivo(t, store, hash, fmt.Sprint("id-", i))
		prepared = append(prepared, mms.Prepared{MessageID: create(t, store, workspace).ID, Contents: map[int]mms.ContentHash{1: hash, 2: hashes[1-i]}})
	}
	if _, err := store.MarkPrepared(t.Context(), prepared); err != nil {
		t.Fatal(err)
	}
	for i, p := range prepared {
		c, _ := claim(t, store, p.MessageID)
		if want := []string{fmt.Sprint("id-", i), fmt.Sprint("id-", 1-i)}; !slices.Equal(c.MediaIDs, want) || c.MediaURLs != nil {
			t.Errorf("message %d: got ids %v and URLs %v, want ids %v", i, c.MediaIDs, c.MediaURLs, want)
		}
	}
}

func TestFailPreparation(t *testing.T) {
	t.Parallel()
	store, workspace := newMediaStore(t)
	m, row := create(t, store, workspace), createBatchOf(t, store, newRequest(workspace))
	if err := store.FailPreparation(t.Context(), []uuid.UUID{m.ID, row.ID}, mms.ReasonMediaUnreachable, "example.com answered 404."); err != nil {
		t.Fatal(err)
	}
	for _, m := range []mms.Message{m, row} {
		h := read(t, store, m)
		wantEvents(t, h, mms.Failed, "created>queued media_failed>failed")
		if h.Reason != mms.ReasonMediaUnreachable || h.Events[1].Detail != "example.com answered 404." || h.FinalAt == nil || h.Preparing {
			t.Errorf("got %+v", h)
		}
	}
	if got := preparing(t, store); len(got) != 0 {
		t.Errorf("got %v to prepare, want none", got)
	}
}

// TestWithdrawnWhilePreparing cancels, expires or cancels the batch of a message that is being
// prepared. Its preparation must then change nothing.
func TestWithdrawnWhilePreparing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		withdraw func(*testing.T, *postgres.Store, mms.Message) error
		status   mms.Status
		events   string
	}{
		"canceled": {func(t *testing.T, store *postgres.Store, m mms.Message) error {
			return store.Cancel(t.Context(), m.Workspace, m.ID)
		}, mms.Canceled, "created>queued canceled>canceled"},
		"expired": {func(t *testing.T, store *postgres.Store, m mms.Message) error {
			execute(t, store, `UPDATE messages SET expires_at = now()`)
			_, err := store.ExpireQueued(t.Context(), 10)
			return err
		}, mms.Failed, "created>queued expired>failed"},
		"batch canceled": {func(t *testing.T, store *postgres.Store, m mms.Message) error {
			err := store.SetBatchState(t.Context(), m.Workspace, m.BatchID, mms.BatchCanceled)
			syncBatches(t, store)
			return err
		}, mms.Canceled, "created>queued canceled>canceled"},
		"opted out": {func(t *testing.T, store *postgres.Store, m mms.Message) error {
			_, err := store.AddSuppressions(t.Context(), []mms.Suppression{{Sender: m.Sender, Recipient: m.Recipient, Reason: mms.SuppressedByAdmin}})
			return errors.Join(err, store.FailSuppressed(t.Context(), m.ID))
		}, mms.Failed, "created>queued suppressed>failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newMediaStore(t)
			m := createBatchOf(t, store, newRequest(workspace))
			m = read(t, store, m).Message // with its batch
			if err := tt.withdraw(t, store, m); err != nil {
				t.Fatal(err)
			}
			wantEvents(t, read(t, store, m), tt.status, tt.events)
			if got := preparing(t, store); len(got) != 0 {
				t.Errorf("got %v to prepare, want none", got)
			}
			if tasks := markPrepared(t, store, m.ID); len(tasks) != 0 {
				t.Errorf("got tasks %v, want none", tasks)
			}
			if err := store.Prepare(t.Context(), m.ID); err != nil {
				t.Fatal(err)
			}
			wantEvents(t, read(t, store, m), tt.status, tt.events)
			if got := backlogState(t, store, m.ID); got != "" {
				t.Errorf("got state %q, want none", got)
			}
		})
	}
}

// TestPausedBatchWhilePreparing pauses, resumes and cancels the batch of a message before or
// after it is prepared.
func TestPausedBatchWhilePreparing(t *testing.T) {
	t.Parallel()
	store, workspace := newMediaStore(t)
	const prepared, park = "prepared", "park"
	for name, tt := range map[string]struct {
		steps []string // states of the batch, which is then synced; prepared; or park, by a stale task
		want  string
	}{
		"pause":                    {[]string{"paused"}, "preparing"},
		"pause, prepare":           {[]string{"paused", prepared}, "parked"},
		"pause, prepare, resume":   {[]string{"paused", prepared, "running"}, "waiting"},
		"pause, resume, prepare":   {[]string{"paused", "running", prepared}, "waiting"},
		"prepare, pause":           {[]string{prepared, "paused"}, "parked"},
		"pause, park":              {[]string{"paused", park}, "preparing"},
		"pause, park, resume":      {[]string{"paused", park, "running"}, "preparing"},
		"pause, park, prepare":     {[]string{"paused", park, prepared}, "parked"},
		"prepare, park":            {[]string{prepared, park}, "waiting"},
		"pause, prepare, canceled": {[]string{"paused", prepared, "canceled"}, ""},
	} {
		m := createBatchOf(t, store, newRequest(workspace))
		batch := read(t, store, m).BatchID
		for _, step := range tt.steps {
			switch step {
			case prepared:
				if tasks := markPrepared(t, store, m.ID); len(tasks) != 0 {
					t.Errorf("%s: got tasks %v, want none", name, tasks)
				}
			case park:
				if _, err := store.Park(t.Context(), m.ID); err != nil {
					t.Fatal(err)
				}
			default:
				if err := store.SetBatchState(t.Context(), workspace, batch, mms.BatchState(step)); err != nil {
					t.Fatal(err)
				}
				syncBatches(t, store)
			}
		}
		if got := backlogState(t, store, m.ID); got != tt.want {
			t.Errorf("%s: got state %q, want %q", name, got, tt.want)
		}
	}
}

// TestPreparedWhileABatchIsPaused marks messages prepared while their batch is paused and
// resumed. In the end each is parked or waiting as its batch says, so that none is lost.
func TestPreparedWhileABatchIsPaused(t *testing.T) {
	t.Parallel()
	store, workspace := newMediaStore(t)
	for _, last := range []mms.BatchState{mms.BatchPaused, mms.BatchRunning} {
		batch := createBatch(t, store, workspace, 60)
		ids := preparing(t, store)
		if len(ids) != 60 {
			t.Fatalf("got %d messages to prepare, want 60", len(ids))
		}
		var group sync.WaitGroup
		for chunk := range slices.Chunk(ids, 5) {
			group.Go(func() {
				var prepared []mms.Prepared
				for _, id := range chunk {
					prepared = append(prepared, mms.Prepared{MessageID: id})
				}
				for range 2 { // by two workers
					if _, err := store.MarkPrepared(t.Context(), prepared); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Go(func() {
			for _, state := range []mms.BatchState{mms.BatchPaused, mms.BatchRunning, mms.BatchPaused, last} {
				if err := store.SetBatchState(t.Context(), workspace, batch.ID, state); err != nil {
					t.Error(err)
				}
				if _, err := store.SyncBatch(t.Context(), 100); err != nil {
					t.Error(err)
				}
			}
		})
		group.Wait()
		syncBatches(t, store)
		want := map[mms.BatchState]string{mms.BatchPaused: "parked", mms.BatchRunning: "waiting"}[last]
		if n := count(t, store, `SELECT count(*) FROM messages WHERE batch_id = $1 AND backlog_state = $2`, batch.ID, want); n != 60 {
			t.Errorf("batch %s: got %d messages %s, want 60", last, n, want)
		}
	}
}

// TestClaimNeedsMedia: a message is claimed only while Plivo has its uploads, and then goes
// back to be prepared.
func TestClaimNeedsMedia(t *testing.T) {
	t.Parallel()
	store, workspace := newMediaStore(t)
	hash, second := saveContent(t, store, "picture"), saveContent(t, store, "second")
	atPlivo(t, store, hash, "first-id")
	atPlivo(t, store, second, "second-id")
	notClaimed := func(doing string, m mms.Message) {
		t.Helper()
		if _, ok, err := store.Claim(t.Context(), m.ID, token(), lease); ok || err != nil {
			t.Errorf("%s: got claimed %t, %v, want false", doing, ok, err)
		}
		if claims := store.ClaimTogether(t.Context(), m.ID, uuid.New()); len(claims) != 0 {
			t.Errorf("%s, together: got %v, want none", doing, claims)
		}
		if blocker, err := store.ClaimBlocker(t.Context(), m.ID); !blocker.NotPrepared || err != nil {
			t.Errorf("%s: got %+v, %v, want not prepared", doing, blocker, err)
		}
	}
	notClaimed("unchecked URL", create(t, store, workspace))

	request := withUpload(workspace, hash)
	request.Uploads = append(request.Uploads, mms.MessageUpload{ID: uuid.New(), Content: second})
	m := mustCreate(t, store, request)
	if m.Preparing {
		t.Fatal("a message whose uploads Plivo has is preparing")
	}
	execute(t, store, `UPDATE plivo_media SET usable_until = now() WHERE media_id = 'second-id'`)
	notClaimed("one upload expired", m)
	for range 2 {
		if err := store.Prepare(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		if got := backlogState(t, store, m.ID); got != "preparing" {
			t.Errorf("got state %q, want preparing", got)
		}
	}
	notClaimed("preparing", m)
	atPlivo(t, store, second, "third-id")
	notClaimed("preparing, although Plivo has its uploads", m)
	if tasks := markPrepared(t, store, m.ID); len(tasks) != 1 || tasks[0].Generation != 2 {
		t.Errorf("got tasks %v, want one of a new generation", tasks)
	}
	c, _ := claim(t, store, m.ID)
	if diff := cmp.Diff([]string{"first-id", "third-id"}, c.MediaIDs); diff != "" {
		t.Errorf("media ids (-want +got):\n%s", diff)
	}

	together := []mms.Message{mustCreate(t, store, withUpload(workspace, second)), mustCreate(t, store, withUpload(workspace, hash))}
	claims := store.ClaimTogether(t.Context(), together[0].ID, together[1].ID)
	for i, want := range []string{"third-id", "first-id"} {
		if diff := cmp.Diff([]string{want}, claims[together[i].ID].MediaIDs); diff != "" {
			t.Errorf("claimed together, message %d (-want +got):\n%s", i, diff)
		}
	}
}

// TestPrepareReleased: a released message of a batch whose uploads Plivo has deleted waits in
// the backlog again once they are there.
func TestPrepareReleased(t *testing.T) {
	t.Parallel()
	store, workspace := newMediaStore(t)
	hash := saveContent(t, store, "picture")
	atPlivo(t, store, hash, "first-id")
	m := createBatchOf(t, store, withUpload(workspace, hash))
	tasks, err := store.Release(t.Context(), time.Second)
	if err != nil || len(tasks) != 1 {
		t.Fatalf("Release: got %v, %v, want one task", tasks, err)
	}
	if err := store.ForgetPlivoMedia(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := store.Claim(t.Context(), m.ID, token(), lease); ok || err != nil {
		t.Errorf("got claimed %t, %v, want false", ok, err)
	}
	if err := store.Prepare(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	if tasks, err := store.Release(t.Context(), time.Second); err != nil || len(tasks) != 0 {
		t.Errorf("released while preparing: %v, %v", tasks, err)
	}
	if err := store.AddToBacklog(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	if got := preparing(t, store); !slices.Equal(got, []uuid.UUID{m.ID}) {
		t.Errorf("got %v to prepare, want the message", got)
	}
	atPlivo(t, store, hash, "second-id")
	markPrepared(t, store, m.ID)
	if tasks, err := store.Release(t.Context(), time.Second); err != nil || len(tasks) != 1 || tasks[0].Generation <= 1 {
		t.Errorf("Release: got %v, %v, want one task", tasks, err)
	}
	c, _ := claim(t, store, m.ID)
	if !slices.Equal(c.MediaIDs, []string{"second-id"}) {
		t.Errorf("got media ids %v", c.MediaIDs)
	}
}

// TestForgetPlivoMedia forgets the ids of one message, at one account.
func TestForgetPlivoMedia(t *testing.T) {
	t.Parallel()
	store, workspace := newMediaStore(t)
	mine, other := saveContent(t, store, "mine"), saveContent(t, store, "other")
	atPlivo(t, store, mine, "m")
	atPlivo(t, store, other, "o")
	execute(t, store, insertPlivoMedia+`'MA2', 'm2', now() + interval '1 hour' FROM media_contents`)
	m := mustCreate(t, store, withUpload(workspace, mine))
	for range 2 {
		if err := store.ForgetPlivoMedia(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
	}
	for hash, want := range map[mms.ContentHash]bool{mine: false, other: true} {
		if has, err := store.AtPlivo(t.Context(), hash); has != want || err != nil {
			t.Errorf("got %t, %v, want %t", has, err, want)
		}
	}
	if n := count(t, store, `SELECT count(*) FROM plivo_media WHERE account = 'MA2'`); n != 2 {
		t.Errorf("got %d ids of another account, want 2", n)
	}
}

// TestMarkUsedPlivoMedia: Plivo keeps an upload for longer once it has accepted a message
// with it.
func TestMarkUsedPlivoMedia(t *testing.T) {
	t.Parallel()
	unused, used := mms.UnusedPlivoMedia, mms.UsedPlivoMedia
	for name, tt := range map[string]struct {
		accept bool
		change string
		want   time.Duration // from the upload until it is not used any more
	}{
		"never sent":                   {false, ``, unused},
		"in flight":                    {false, ``, unused},
		"accepted":                     {true, ``, used},
		"accepted before the upload":   {true, `UPDATE plivo_media SET uploaded_at = now() + interval '1 second', usable_until = now() + interval '1 second' + interval '5 hours'`, unused},
		"accepted with another upload": {true, `UPDATE message_media SET content = sha256('x')`, unused},
		"noticed a day later":          {true, `UPDATE plivo_media SET uploaded_at = now() - interval '28 hours', usable_until = now() - interval '23 hours'`, used},
		"not noticed in time":          {true, `UPDATE plivo_media SET uploaded_at = now() - interval '30 hours', usable_until = now() - interval '25 hours'`, unused},
		"at another account":           {true, `UPDATE plivo_media SET account = 'MA2'`, unused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newMediaStore(t)
			hash := saveContent(t, store, "picture")
			atPlivo(t, store, hash, "m")
			m := mustCreate(t, store, withUpload(workspace, hash))
			if name != "never sent" {
				c, _ := claim(t, store, m.ID)
				if tt.accept {
					if _, err := adopt(t.Context(), store, c.AttemptRef, "u-1"); err != nil {
						t.Fatal(err)
					}
				}
			}
			if tt.change != "" {
				execute(t, store, tt.change)
			}
			for range 2 {
				if err := store.MarkUsedPlivoMedia(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := count(t, store, `SELECT extract(epoch FROM usable_until - uploaded_at)::int FROM plivo_media`); got != int(tt.want.Seconds()) {
				t.Errorf("usable for %d s, want %v", got, tt.want)
			}
			if tt.want != used {
				return
			}
			atPlivo(t, store, hash, "m2") // uploaded again: unused
			if got := count(t, store, `SELECT extract(epoch FROM usable_until - uploaded_at)::int FROM plivo_media WHERE NOT used`); got != int(unused.Seconds()) {
				t.Errorf("uploaded again: usable for %d s, want %v", got, unused)
			}
		})
	}
}

func TestMediaChecks(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	copied, preview := saveContent(t, store, "copied"), saveContent(t, store, "preview")
	first := mms.MediaCheck{
		URL: "https://example.com/a.jpg", Result: mms.CheckPassed, PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: 5, Width: 2, Height: 1},
		Redirected: true, Fits: true, Copy: copied, Preview: preview,
	}
	failed := mms.MediaCheck{URL: "https://example.com/ü.jpg", Result: mms.CheckFailed, Reason: mms.ReasonMediaUnreachable, Detail: "example.com answered 404."}
	old := mms.MediaCheck{URL: "https://example.com/old.jpg", Result: mms.CheckPassed}
	changed := first
	changed.Redirected, changed.Copy, changed.Bytes = false, mms.ContentHash{}, 6
	for _, check := range []mms.MediaCheck{old, first, failed, changed} {
		if err := store.SaveMediaCheck(t.Context(), check); err != nil {
			t.Fatal(err)
		}
		if check.URL == old.URL {
			execute(t, store, `UPDATE media_checks SET checked_at = now() - interval '601 seconds'`)
		}
	}
	got, err := store.MediaChecks(t.Context(), []string{first.URL, failed.URL, old.URL, "https://example.com/unknown.jpg"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]mms.MediaCheck{first.URL: changed, failed.URL: failed}
	for url, check := range want {
		check.CheckedAt = got[url].CheckedAt
		want[url] = check
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := store.MediaChecks(t.Context(), nil); len(got) != 0 || err != nil {
		t.Errorf("no URLs: got %v, %v, want none", got, err)
	}
}

// TestResendKeepsUploads repeats a message with an upload that has expired.
func TestResendKeepsUploads(t *testing.T) {
	t.Parallel()
	store, workspace := newMediaStore(t)
	request := withUpload(workspace, saveUpload(t, store, workspace, "sent").Sent)
	m := read(t, store, mustCreate(t, store, request)).Message
	execute(t, store, `DELETE FROM media_uploads`)
	again := newRequest(workspace)
	again.MediaURLs, again.Uploads, again.Fit, again.ResendOf = m.MediaURLs, m.Uploads, m.Fit, m.ID
	got := mustCreate(t, store, again)
	if !slices.Equal(read(t, store, got).Uploads, request.Uploads) || !got.Preparing {
		t.Errorf("got %v, preparing %t, want %v", got.Uploads, got.Preparing, request.Uploads)
	}
}

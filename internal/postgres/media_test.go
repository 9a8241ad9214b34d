package postgres_test

import (
	"crypto/sha256"
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

// newContent returns a content of as many bytes, which begin with its name.
func newContent(name string, size int) mms.Content {
	data := make([]byte, size)
	copy(data, name)
	return mms.Content{Hash: sha256.Sum256(data), Data: data, PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: size, Width: 4, Height: 3}}
}

// newUpload returns an upload that sends a content.
func newUpload(workspace uuid.UUID, sent mms.Content) mms.Upload {
	return mms.Upload{
		ID: uuid.Must(uuid.NewV7()), Workspace: workspace, Uploaded: mms.PictureInfo{Type: "image/png", Bytes: 5000, Width: 40, Height: 30},
		Sent: sent.Hash, SentInfo: sent.PictureInfo,
	}
}

// saveUpload stores an upload of a new content.
func saveUpload(t *testing.T, store *postgres.Store, workspace uuid.UUID, name string) mms.Upload {
	t.Helper()
	c := newContent(name, 100)
	stored, err := store.SaveUploads(t.Context(), []mms.Upload{newUpload(workspace, c)}, []mms.Content{c}, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	return stored[0]
}

func TestUploadsAreReadBack(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	preview, original := newContent("preview", 10), newContent("original", 200)
	sent := newContent("sent", 100)
	sent.Preview = preview.Hash
	first, second := newUpload(workspace, sent), newUpload(workspace, sent)
	first.Original, first.Changed = original.Hash, []string{"rotated", "scaled"}
	stored, err := store.SaveUploads(t.Context(), []mms.Upload{first, second}, []mms.Content{sent, original, preview}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	second.Changed = []string{}
	for i, want := range []mms.Upload{first, second} {
		got, err := store.Upload(t.Context(), workspace, want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if lifetime := got.ExpiresAt.Sub(got.CreatedAt); lifetime != mms.UploadLifetime {
			t.Errorf("upload %d: got a lifetime of %v, want %v", i, lifetime, mms.UploadLifetime)
		}
		want.CreatedAt, want.ExpiresAt = stored[i].CreatedAt, stored[i].ExpiresAt
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("upload %d (-want +got):\n%s", i, diff)
		}
	}
	for _, want := range []mms.Content{sent, original, preview} {
		got, err := store.Content(t.Context(), want.Hash)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("content (-want +got):\n%s", diff)
		}
	}
	if _, err := store.Content(t.Context(), mms.ContentHash{1}); !errors.Is(err, mms.ErrNoUpload) {
		t.Errorf("Content of an unknown hash: got error %v, want ErrNoUpload", err)
	}
}

// TestUploadOfAnother: an upload of another user, one that has expired and one that does
// not exist look the same.
func TestUploadOfAnother(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	other := addUser(t, store, "bob@example.com")
	mine, expired := saveUpload(t, store, workspace, "mine"), saveUpload(t, store, workspace, "expired")
	if _, err := store.DB().Exec(`UPDATE media_uploads SET expires_at = now() WHERE id = $1`, expired.ID); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ workspace, id uuid.UUID }{
		"another user's": {other, mine.ID},
		"expired":        {workspace, expired.ID},
		"unknown":        {workspace, uuid.New()},
	} {
		if _, err := store.Upload(t.Context(), tt.workspace, tt.id); !errors.Is(err, mms.ErrNoUpload) {
			t.Errorf("Upload, %s: got error %v, want ErrNoUpload", name, err)
		}
		if err := store.DeleteUpload(t.Context(), tt.workspace, tt.id); !errors.Is(err, mms.ErrNoUpload) {
			t.Errorf("DeleteUpload, %s: got error %v, want ErrNoUpload", name, err)
		}
	}
	if err := store.DeleteUpload(t.Context(), workspace, mine.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Upload(t.Context(), workspace, mine.ID); !errors.Is(err, mms.ErrNoUpload) {
		t.Errorf("deleted upload: got error %v, want ErrNoUpload", err)
	}
	if _, err := store.Content(t.Context(), mine.Sent); err != nil {
		t.Errorf("content of the deleted upload: got error %v; messages may use it", err)
	}
}

func TestUploadsAreStoredAllOrNone(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	a, b := newContent("a", 100), newContent("b", 100)
	missing := newUpload(workspace, newContent("missing", 100)) // its content is not stored
	for name, tt := range map[string]struct {
		uploads []mms.Upload
		quota   int64
	}{
		"second without content": {[]mms.Upload{newUpload(workspace, a), missing}, 1000},
		"above the quota":        {[]mms.Upload{newUpload(workspace, a), newUpload(workspace, b)}, 199},
	} {
		if _, err := store.SaveUploads(t.Context(), tt.uploads, []mms.Content{a, b}, tt.quota); err == nil {
			t.Errorf("%s: got no error", name)
		}
		if n := count(t, store, `SELECT (SELECT count(*) FROM media_uploads) + (SELECT count(*) FROM media_contents)`); n != 0 {
			t.Errorf("%s: got %d rows, want none", name, n)
		}
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	other := addUser(t, store, "bob@example.com")
	preview := newContent("preview", 1000) // counts for nobody
	sent, original := newContent("sent", 300), newContent("original", 500)
	sent.Preview = preview.Hash
	save := func(workspace uuid.UUID, original mms.ContentHash) error {
		u := newUpload(workspace, sent)
		u.Original = original
		_, err := store.SaveUploads(t.Context(), []mms.Upload{u}, []mms.Content{preview, sent, newContent("original", 500)}, 1200)
		return err
	}
	exceeded := mms.QuotaError{Quota: 1200, Used: 1100, Requested: 300}
	for i, tt := range []struct {
		workspace uuid.UUID
		original  mms.ContentHash
		want      error
	}{
		{workspace, original.Hash, nil}, // 800 bytes
		{workspace, sent.Hash, nil},     // 300 bytes more: the original is what is sent
		{workspace, mms.ContentHash{}, exceeded},
		{other, mms.ContentHash{}, nil},
	} {
		if err := save(tt.workspace, tt.original); !errors.Is(err, tt.want) {
			t.Errorf("upload %d: got error %#v, want %#v", i, err, tt.want)
		}
	}
	if _, err := store.DB().Exec(`UPDATE media_uploads SET expires_at = now() WHERE original = $1`, original.Hash[:]); err != nil {
		t.Fatal(err)
	}
	if err := save(workspace, mms.ContentHash{}); err != nil {
		t.Errorf("after an upload has expired: got error %v", err)
	}
}

// TestConcurrentUploadsKeepTheQuota: uploads that are stored at the same moment see each
// other.
func TestConcurrentUploadsKeepTheQuota(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	errs := make([]error, 8)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() {
			c := newContent(fmt.Sprint(i), 100)
			_, errs[i] = store.SaveUploads(t.Context(), []mms.Upload{newUpload(workspace, c)}, []mms.Content{c}, 350)
		})
	}
	group.Wait()
	stored := 0
	for _, err := range errs {
		var exceeded mms.QuotaError
		switch {
		case err == nil:
			stored++
		case !errors.As(err, &exceeded):
			t.Error(err)
		}
	}
	if stored != 3 {
		t.Errorf("got %d uploads of 100 bytes with a quota of 350 bytes, want 3", stored)
	}
}

// TestContentKeepsItsPreview stores a content again, without a preview.
func TestContentKeepsItsPreview(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	preview, c := newContent("preview", 10), newContent("content", 100)
	withPreview := c
	withPreview.Preview = preview.Hash
	for _, stored := range []mms.Content{preview, c, withPreview, c} {
		if err := store.SaveContent(t.Context(), stored); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := store.Content(t.Context(), c.Hash); err != nil || got.Preview != preview.Hash {
		t.Errorf("got preview %v, %v, want %v", got.Preview, err, preview.Hash)
	}
}

func TestFitted(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	whole, small, other := newContent("whole", 100), newContent("small", 40), newContent("other", 30)
	if err := store.SaveContent(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	for _, fitted := range []mms.Content{small, other} { // the first stays
		if err := store.SaveFitted(t.Context(), whole.Hash, 50, fitted); err != nil {
			t.Fatal(err)
		}
	}
	got, found, err := store.Fitted(t.Context(), whole.Hash, 50)
	if diff := cmp.Diff(small, got); diff != "" || !found || err != nil {
		t.Errorf("got %t, %v (-want +got):\n%s", found, err, diff)
	}
	if _, found, err := store.Fitted(t.Context(), whole.Hash, 51); found || err != nil {
		t.Errorf("another budget: got %t, %v, want false", found, err)
	}
}

// TestMessagePicture returns our copies: an upload, with and without a preview, and the
// preview of a picture behind a URL.
func TestMessagePicture(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	preview, seen := newContent("preview", 10), newContent("seen", 11)
	with, without := newContent("with", 100), newContent("without", 90)
	with.Preview = preview.Hash
	for _, c := range []mms.Content{preview, seen, with, without} {
		if err := store.SaveContent(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	request := newRequest(workspace)
	request.MediaURLs = []string{"https://example.com/seen.jpg", "https://example.com/unseen.jpg"}
	request.Uploads = []mms.MessageUpload{{ID: uuid.New(), Content: with.Hash}, {ID: uuid.New(), Content: without.Hash}}
	m := mustCreate(t, store, request)
	if _, err := store.DB().Exec(`UPDATE message_media SET preview = $1 WHERE position = 1`, seen.Hash[:]); err != nil {
		t.Fatal(err)
	}
	none := mms.Content{}
	for position, want := range map[int]struct{ whole, preview mms.Content }{
		1: {seen, seen}, 2: {none, none}, 3: {with, preview}, 4: {without, without}, 5: {none, none},
	} {
		for small, want := range map[bool]mms.Content{false: want.whole, true: want.preview} {
			got, err := store.MessagePicture(t.Context(), workspace, m.ID, position, small)
			if want.Data == nil && !errors.Is(err, mms.ErrNotFound) || want.Data != nil && err != nil {
				t.Errorf("picture %d, preview %t: got error %v", position, small, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("picture %d, preview %t (-want +got):\n%s", position, small, diff)
			}
		}
	}
	if _, err := store.MessagePicture(t.Context(), addUser(t, store, "bob@example.com"), m.ID, 3, false); !errors.Is(err, mms.ErrNotFound) {
		t.Errorf("another user's message: got error %v, want ErrNotFound", err)
	}
}

// TestMediaAreReadBack compares the media of a message as it was created and as it is read.
func TestMediaAreReadBack(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	c := newContent("c", 100)
	if err := store.SaveContent(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	upload := mms.MessageUpload{ID: uuid.New(), Content: c.Hash}
	urls := []string{"https://example.com/a.jpg?a=%20b&c=d", "https://example.com/b.jpg"}
	for name, tt := range map[string]struct {
		urls    []string
		uploads []mms.MessageUpload
		fit     mms.Fit
		copies  []bool
	}{
		"URLs":            {urls, nil, mms.FitNever, nil},
		"uploads":         {nil, []mms.MessageUpload{upload, upload}, mms.FitAlways, []bool{true, true}},
		"URLs, uploads":   {urls, []mms.MessageUpload{upload}, mms.FitAuto, []bool{false, false, true}},
		"fit not given":   {urls[:1], nil, "", nil},
		"a single upload": {nil, []mms.MessageUpload{upload}, mms.FitNever, []bool{true}},
	} {
		request := newRequest(workspace)
		request.MediaURLs, request.Uploads, request.Fit = tt.urls, tt.uploads, tt.fit
		created := mustCreate(t, store, request)
		again, err := store.CreateMessage(t.Context(), request)
		if diff := cmp.Diff(created, again.Message); diff != "" || err != nil {
			t.Errorf("%s, created again: got error %v (-want +got):\n%s", name, err, diff)
		}
		want := mms.Message{MediaURLs: tt.urls, Uploads: tt.uploads, Fit: tt.fit, Copies: tt.copies}
		if want.Fit == "" {
			want.Fit = mms.FitAuto
		}
		list, _, err := store.Messages(t.Context(), workspace, mms.Page{Filter: mms.Filter{Recipient: created.Recipient}, Limit: 1})
		if err != nil || len(list) != 1 {
			t.Fatalf("%s: got %v, %v, want one message", name, list, err)
		}
		for how, m := range map[string]mms.Message{"created": created, "read": read(t, store, created).Message, "listed": list[0]} {
			got := mms.Message{MediaURLs: m.MediaURLs, Uploads: m.Uploads, Fit: m.Fit, Copies: m.Copies}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", name, how, diff)
			}
		}
	}
}

// TestUnusedContentsAreDeleted: a content is deleted when nothing refers to it and nobody has
// touched it for a day. One that is used is checked again in a day.
func TestUnusedContentsAreDeleted(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	other, picture := newContent("other", 7), newContent("picture", 9)
	reference := func(statement string) func() error {
		return func() error { _, err := store.DB().Exec(statement, picture.Hash[:], other.Hash[:]); return err }
	}
	inMessage := func(column string) func() error {
		return func() error {
			m := create(t, store, workspace)
			_, err := store.DB().Exec(`UPDATE message_media SET `+column+` = $1 WHERE message_id = $2 AND position = 2`, picture.Hash[:], m.ID)
			return err
		}
	}
	upload := func(original bool) func() error {
		return func() error {
			u := newUpload(workspace, picture)
			if original {
				u.Sent, u.Original = other.Hash, picture.Hash
			}
			_, err := store.SaveUploads(t.Context(), []mms.Upload{u}, []mms.Content{picture, other}, 1000)
			return err
		}
	}
	for name, tt := range map[string]struct {
		refer func() error
		age   string
		kept  bool
	}{
		"no reference":             {reference(`SELECT $1::bytea, $2::bytea`), "25 hours", false},
		"no reference, new":        {reference(`SELECT $1::bytea, $2::bytea`), "23 hours", true},
		"sent by an upload":        {upload(false), "25 hours", true},
		"original of an upload":    {upload(true), "25 hours", true},
		"content of a message":     {inMessage("content"), "25 hours", true},
		"preview of a message":     {inMessage("preview"), "25 hours", true},
		"preview of a content":     {reference(`UPDATE media_contents SET preview = $1 WHERE hash = $2`), "25 hours", true},
		"smaller version":          {reference(`INSERT INTO media_fitted VALUES ($2, 50, $1)`), "25 hours", true},
		"copy of a check":          {reference(`INSERT INTO media_checks (url_hash, result, copy) SELECT $2, 'passed', $1`), "25 hours", true},
		"preview of a check":       {reference(`INSERT INTO media_checks (url_hash, result, preview) SELECT $2, 'passed', $1`), "25 hours", true},
		"has a smaller version":    {reference(`INSERT INTO media_fitted VALUES ($1, 50, $2)`), "25 hours", false},
		"at Plivo":                 {reference(`INSERT INTO plivo_media (content, account, media_id, usable_until) SELECT $1, encode($2, 'hex'), 'm', now() + interval '1 day'`), "25 hours", false},
		"has a preview":            {reference(`UPDATE media_contents SET preview = $2 WHERE hash = $1`), "25 hours", false},
		"upload is expired":        {func() error { return errors.Join(upload(false)(), expireUploads(store, "23 hours")) }, "25 hours", true},
		"upload is long expired":   {func() error { return errors.Join(upload(false)(), expireUploads(store, "25 hours")) }, "25 hours", false},
		"check is old":             {reference(`INSERT INTO media_checks (url_hash, result, copy, checked_at) SELECT $2, 'passed', $1, now() - interval '25 hours'`), "25 hours", false},
		"upload was just deleted":  {func() error { return expireAndDelete(t, store, upload(false), workspace) }, "", true},
		"stored again, unreferred": {func() error { return expireAndSave(t, store, picture) }, "", true},
	} {
		for _, table := range []string{"media_checks", "media_uploads", "media_fitted", "plivo_media", "message_media", "media_contents"} {
			execute(t, store, `DELETE FROM `+table)
		}
		for _, c := range []mms.Content{other, picture} {
			if err := store.SaveContent(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		if err := tt.refer(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if tt.age != "" {
			if _, err := store.DB().Exec(`UPDATE media_contents SET touched_at = now() - $2::interval WHERE hash = $1`, picture.Hash[:], tt.age); err != nil {
				t.Fatal(err)
			}
		}
		if err := store.DeleteExpired(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err := store.Content(t.Context(), picture.Hash)
		if kept := err == nil; kept != tt.kept {
			t.Errorf("%s: got kept %t, %v, want %t", name, kept, err, tt.kept)
		}
		if n := count(t, store, `SELECT count(*) FROM media_contents WHERE touched_at < now() - interval '24 hours'`); n != 0 {
			t.Errorf("%s: got %d contents that are checked again at once, want none", name, n)
		}
		if _, err := store.Content(t.Context(), other.Hash); err != nil {
			t.Errorf("%s: the other content is gone", name)
		}
	}
}

func expireUploads(store *postgres.Store, ago string) error {
	_, err := store.DB().Exec(`UPDATE media_uploads SET expires_at = now() - $1::interval`, ago)
	return err
}

// expireAndDelete stores an upload long ago, and deletes it now.
func expireAndDelete(t *testing.T, store *postgres.Store, upload func() error, workspace uuid.UUID) error {
	t.Helper()
	if err := upload(); err != nil {
		return err
	}
	execute(t, store, `UPDATE media_contents SET touched_at = now() - interval '2 days' WHERE bytes = 9`)
	var id uuid.UUID
	if err := store.DB().QueryRow(`SELECT id FROM media_uploads`).Scan(&id); err != nil {
		return err
	}
	return store.DeleteUpload(t.Context(), workspace, id)
}

// expireAndSave stores a content that was stored long ago again.
func expireAndSave(t *testing.T, store *postgres.Store, c mms.Content) error {
	t.Helper()
	execute(t, store, `UPDATE media_contents SET touched_at = now() - interval '2 days' WHERE bytes = 9`)
	return store.SaveContent(t.Context(), c)
}

// TestManyContentsAreDeleted has more unused contents than one statement deletes.
func TestManyContentsAreDeleted(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	execute(t, store, `INSERT INTO media_contents SELECT sha256(i::text::bytea), 'image/png', 1, 1, 1, 'x', NULL, now() - interval '2 days' FROM generate_series(1, 250) i`)
	if err := store.DeleteExpired(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, store, `SELECT count(*) FROM media_contents`); n != 0 {
		t.Errorf("got %d contents, want none", n)
	}
}

func TestOldChecksAndUploadsAreDeleted(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	for i, age := range []time.Duration{23 * time.Hour, 25 * time.Hour} {
		u := saveUpload(t, store, workspace, fmt.Sprint(i))
		check := mms.MediaCheck{URL: fmt.Sprint("https://example.com/", i), Result: mms.CheckPassed}
		if err := store.SaveMediaCheck(t.Context(), check); err != nil {
			t.Fatal(err)
		}
		if _, err := store.DB().Exec(`UPDATE media_uploads SET expires_at = now() - $2 * interval '1 second' WHERE id = $1`, u.ID, age.Seconds()); err != nil {
			t.Fatal(err)
		}
		if _, err := store.DB().Exec(`UPDATE media_checks SET checked_at = now() - $1 * interval '1 second' WHERE checked_at > now() - interval '1 hour'`, age.Seconds()); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.DeleteExpired(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"media_uploads", "media_checks"} {
		if n := count(t, store, `SELECT count(*) FROM `+table); n != 1 {
			t.Errorf("%s: got %d rows, want 1: the other is older than a day", table, n)
		}
	}
}

// TestUploadsOfTheSameContentsDoNotDeadlock has two users store the same contents at the same
// time, with other previews.
func TestUploadsOfTheSameContentsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	users := []uuid.UUID{workspace, addUser(t, store, "eve@example.com")}
	var group sync.WaitGroup
	for i := range users {
		group.Go(func() {
			for round := range 20 {
				var contents []mms.Content
				var uploads []mms.Upload
				for n, name := range []string{"x", "y"} {
					preview, c := newContent(fmt.Sprint("preview ", round, (i+n)%2), 100), newContent(fmt.Sprint(name, round), 100)
					c.Preview = preview.Hash
					contents, uploads = append(contents, c, preview), append(uploads, newUpload(users[i], c))
				}
				if _, err := store.SaveUploads(t.Context(), uploads, contents, 1_000_000); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

// TestDeletedUploadKeepsItsContentForADay deletes an upload while a request is creating a
// message with it.
func TestDeletedUploadKeepsItsContentForADay(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	u := saveUpload(t, store, workspace, "sent")
	execute(t, store, `UPDATE media_contents SET touched_at = now() - interval '25 hours'`)
	if err := errors.Join(store.DeleteUpload(t.Context(), workspace, u.ID), store.DeleteExpired(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Content(t.Context(), u.Sent); err != nil {
		t.Errorf("got %v, want the content", err)
	}
}

// TestKnownPreviewIsShown creates messages whose URL was checked a moment ago. They are not
// prepared, and must show its picture nevertheless.
func TestKnownPreviewIsShown(t *testing.T) {
	t.Parallel()
	store, workspace := newMediaStore(t)
	preview := saveContent(t, store, "preview")
	request := newRequest(workspace)
	check := mms.MediaCheck{URL: request.MediaURLs[0], Result: mms.CheckPassed, PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: 100}, Fits: true, Preview: preview}
	if err := store.SaveMediaCheck(t.Context(), check); err != nil {
		t.Fatal(err)
	}
	other := newRequest(workspace)
	for name, m := range map[string]mms.Message{"alone": mustCreate(t, store, request), "in a batch": createBatchOf(t, store, other)} {
		if m = read(t, store, m).Message; m.Preparing || !slices.Equal(m.Copies, []bool{true}) {
			t.Errorf("%s: got preparing %t and copies %v, want a copy to show", name, m.Preparing, m.Copies)
		}
	}
}

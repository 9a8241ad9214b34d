package postgres_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// testContent returns a content of 100 bytes that differs from those with other names.
func testContent(name string) mms.Content {
	data := fmt.Appendf(nil, "%-100s", name)
	return mms.Content{Hash: sha256.Sum256(data), Data: data, PictureInfo: mms.PictureInfo{Type: "image/jpeg", Bytes: len(data), Width: 3, Height: 2}}
}

func newUpload(owner uuid.UUID, sent mms.Content) mms.Upload {
	return mms.Upload{
		ID: uuid.Must(uuid.NewV7()), Owner: owner, Sent: sent.Hash, SentInfo: sent.PictureInfo, Changed: []string{"scaled"},
		Uploaded: mms.PictureInfo{Type: "image/png", Bytes: 5000, Width: 30, Height: 20},
	}
}

// saveUpload stores an upload of a content.
func saveUpload(t *testing.T, store *postgres.Store, owner uuid.UUID, c mms.Content) mms.Upload {
	t.Helper()
	saved, err := store.SaveUploads(t.Context(), []mms.Upload{newUpload(owner, c)}, []mms.Content{c}, 1e6)
	if err != nil {
		t.Fatal(err)
	}
	return saved[0]
}

// TestUploads stores, reads and deletes uploads, of their owner alone.
func TestUploads(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	stranger := addUser(t, store, "eve@example.com")
	preview, sent, original := testContent("preview"), testContent("sent"), testContent("original")
	sent.Preview = preview.Hash
	upload := newUpload(owner, sent)
	upload.Original = original.Hash
	saved, err := store.SaveUploads(t.Context(), []mms.Upload{upload}, []mms.Content{sent, original, preview}, 1e6)
	if err != nil {
		t.Fatal(err)
	}
	if lifetime := saved[0].ExpiresAt.Sub(saved[0].CreatedAt); lifetime != mms.UploadLifetime {
		t.Errorf("got a lifetime of %v, want %v", lifetime, mms.UploadLifetime)
	}
	got, err := store.Upload(t.Context(), owner, upload.ID)
	if diff := cmp.Diff(saved[0], got); diff != "" || err != nil {
		t.Errorf("Upload: %v %s", err, diff)
	}
	content, err := store.Content(t.Context(), sent.Hash)
	if diff := cmp.Diff(sent, content); diff != "" || err != nil {
		t.Errorf("Content: %v %s", err, diff)
	}
	if _, err := store.Upload(t.Context(), stranger, upload.ID); !errors.Is(err, mms.ErrNoUpload) {
		t.Errorf("upload of another user: got %v, want ErrNoUpload", err)
	}
	if err := store.DeleteUpload(t.Context(), stranger, upload.ID); !errors.Is(err, mms.ErrNoUpload) {
		t.Errorf("deletion by another user: got %v, want ErrNoUpload", err)
	}
	if err := store.DeleteUpload(t.Context(), owner, upload.ID); err != nil {
		t.Error(err)
	}
	if err := store.DeleteUpload(t.Context(), owner, upload.ID); !errors.Is(err, mms.ErrNoUpload) {
		t.Errorf("second deletion: got %v, want ErrNoUpload", err)
	}

	expired := saveUpload(t, store, owner, sent)
	execute(t, store, `UPDATE media_uploads SET expires_at = now()`)
	if _, err := store.Upload(t.Context(), owner, expired.ID); !errors.Is(err, mms.ErrNoUpload) {
		t.Errorf("expired upload: got %v, want ErrNoUpload", err)
	}
	if _, err := store.Content(t.Context(), testContent("unknown").Hash); !errors.Is(err, mms.ErrNoUpload) {
		t.Errorf("unknown content: got %v, want ErrNoUpload", err)
	}
}

// TestUploadsBeyondTheQuota stores none of the uploads that exceed the quota together. What
// a preview takes does not count, and neither do expired uploads nor those of others.
func TestUploadsBeyondTheQuota(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	saveUpload(t, store, addUser(t, store, "eve@example.com"), testContent("of another"))
	saveUpload(t, store, owner, testContent("expired"))
	execute(t, store, `UPDATE media_uploads SET expires_at = now() WHERE user_id = '`+owner.String()+`'`)
	saveUpload(t, store, owner, testContent("first"))

	preview, a, b := testContent("preview"), testContent("a"), testContent("b")
	a.Preview, b.Preview = preview.Hash, preview.Hash
	uploads, contents := []mms.Upload{newUpload(owner, a), newUpload(owner, b)}, []mms.Content{preview, a, preview, b}
	_, err := store.SaveUploads(t.Context(), uploads, contents, 299)
	if want := (mms.QuotaError{Quota: 299, Used: 100, Requested: 200}); !errors.Is(err, want) {
		t.Errorf("got %+v, want %+v", err, want)
	}
	if n := count(t, store, `SELECT count(*) FROM media_uploads WHERE expires_at > now()`); n != 2 {
		t.Errorf("got %d uploads, want the 2 from before", n)
	}
	if n := count(t, store, `SELECT count(*) FROM media_contents`); n != 3 {
		t.Errorf("got %d contents, want the 3 from before", n)
	}
	if _, err := store.SaveUploads(t.Context(), uploads, contents, 300); err != nil {
		t.Errorf("exactly the quota: got %v", err)
	}
}

// TestConcurrentUploadsKeepTheQuota stores many uploads at once, of which few fit.
func TestConcurrentUploadsKeepTheQuota(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	errs := make([]error, 12)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() {
			c := testContent(fmt.Sprint(i % 5))
			_, errs[i] = store.SaveUploads(t.Context(), []mms.Upload{newUpload(owner, c)}, []mms.Content{c}, 450)
		})
	}
	group.Wait()
	stored := 0
	for _, err := range errs {
		var quota mms.QuotaError
		if err == nil {
			stored++
		} else if !errors.As(err, &quota) {
			t.Errorf("got %v, want a QuotaError", err)
		}
	}
	if n := count(t, store, `SELECT count(*) FROM media_uploads`); stored != 4 || n != 4 {
		t.Errorf("got %d uploads and %d rows, want 4", stored, n)
	}
}

// TestUploadsOfTheSameContentsDoNotDeadlock stores the same contents in many orders.
func TestUploadsOfTheSameContentsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	users := []uuid.UUID{owner, addUser(t, store, "eve@example.com")}
	var group sync.WaitGroup
	for i := range users {
		group.Go(func() {
			for round := range 20 {
				// Both users store x and y, with other previews.
				var contents []mms.Content
				var uploads []mms.Upload
				for n, name := range []string{"x", "y"} {
					preview, c := testContent(fmt.Sprint("preview ", round, (i+n)%2)), testContent(fmt.Sprint(name, round))
					c.Preview = preview.Hash
					contents, uploads = append(contents, c, preview), append(uploads, newUpload(users[i], c))
				}
				if _, err := store.SaveUploads(t.Context(), uploads, contents, 1e6); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

// TestFitted finds the smaller version of a content.
func TestFitted(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	whole, small := testContent("whole"), testContent("small")
	if err := store.SaveContent(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second has no effect
		if err := store.SaveFitted(t.Context(), whole.Hash, 500, small); err != nil {
			t.Fatal(err)
		}
	}
	if got, ok, err := store.Fitted(t.Context(), whole.Hash, 500); err != nil || !ok || got.Hash != small.Hash {
		t.Errorf("got %v, %t, %v, want the smaller version", got.Hash, ok, err)
	}
	if _, ok, err := store.Fitted(t.Context(), whole.Hash, 400); err != nil || ok {
		t.Errorf("another budget: got %t, %v, want false", ok, err)
	}
}

// TestMessagePicture reads pictures and previews of a message, for its owner alone.
func TestMessagePicture(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	preview, sent := testContent("preview"), testContent("sent")
	sent.Preview = preview.Hash
	if _, err := store.SaveUploads(t.Context(), []mms.Upload{newUpload(owner, sent)}, []mms.Content{preview, sent}, 1e6); err != nil {
		t.Fatal(err)
	}
	r := newRequest(owner)
	r.Uploads = []mms.MessageUpload{{ID: uuid.New(), Content: sent.Hash}}
	m := mustCreate(t, store, r)
	for _, tt := range []struct {
		name     string
		owner    uuid.UUID
		position int
		preview  bool
		want     mms.ContentHash // zero: none
	}{
		{"URL without a copy", owner, 1, true, mms.ContentHash{}},
		{"upload", owner, 2, false, sent.Hash},
		{"preview", owner, 2, true, preview.Hash},
		{"of nobody", owner, 3, true, mms.ContentHash{}},
		{"of another user", uuid.New(), 2, true, mms.ContentHash{}},
	} {
		got, err := store.MessagePicture(t.Context(), tt.owner, m.ID, tt.position, tt.preview)
		if got.Hash != tt.want || (tt.want == mms.ContentHash{}) != errors.Is(err, mms.ErrNotFound) {
			t.Errorf("%s: got %v, %v, want %v", tt.name, got.Hash, err, tt.want)
		}
	}
}

// TestMediaAreReadBack reads what messages were created with, single ones and rows of a batch.
func TestMediaAreReadBack(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	c := testContent("sent")
	u := saveUpload(t, store, owner, c)
	uploads := []mms.MessageUpload{{ID: u.ID, Content: c.Hash}}
	for _, tt := range []struct {
		name    string
		urls    []string
		uploads []mms.MessageUpload
		fit     mms.Fit
	}{
		{"URLs", []string{"https://example.com/b.jpg?x=%20", "https://example.com/a.jpg"}, nil, mms.FitNever},
		{"uploads", nil, uploads, mms.FitAlways},
		{"both", []string{"https://example.com/b.jpg"}, uploads, mms.FitAuto},
	} {
		r := newRequest(owner)
		r.MediaURLs, r.Uploads, r.Fit = tt.urls, tt.uploads, tt.fit
		created := mustCreate(t, store, r)
		got := read(t, store, created).Message
		for name, m := range map[string]mms.Message{"created": created, "read": got} {
			if !slices.Equal(m.MediaURLs, tt.urls) || !slices.Equal(m.Uploads, tt.uploads) || m.Fit != tt.fit {
				t.Errorf("%s, %s: got %v, %v, %s", tt.name, name, m.MediaURLs, m.Uploads, m.Fit)
			}
		}
	}
}

// TestUnusedContentsAreDeleted deletes a content a day after the last reference to it is gone.
func TestUnusedContentsAreDeleted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, refer string // with $c for the content and $o for another one
		kept        bool
	}{
		{"nothing", ``, false},
		{"an upload", `UPDATE media_uploads SET sent = $c`, true},
		{"the original of an upload", `UPDATE media_uploads SET original = $c`, true},
		{"an expired upload", `UPDATE media_uploads SET sent = $c, expires_at = now() - interval '23 hours'`, true},
		{"an upload that expired long ago", `UPDATE media_uploads SET sent = $c, expires_at = now() - interval '25 hours'`, false},
		{"a larger content", `INSERT INTO media_fitted VALUES ($o, 1, $c)`, true},
		{"a smaller content", `INSERT INTO media_fitted VALUES ($c, 1, $o)`, false},
		{"an id at Plivo", `INSERT INTO plivo_media (content, account, media_id, usable_until) VALUES ($c, 'a', 'm', 'infinity')`, false},
		{"a content with a preview", `UPDATE media_contents SET preview = $c WHERE hash = $o`, true},
		{"the copy of a check", `INSERT INTO media_checks (url_hash, result, copy) VALUES ($o, 'passed', $c)`, true},
		{"the preview of a check", `INSERT INTO media_checks (url_hash, result, preview) VALUES ($o, 'passed', $c)`, true},
		{"an old check", `INSERT INTO media_checks (url_hash, checked_at, result, copy) VALUES ($o, now() - interval '25 hours', 'passed', $c)`, false},
		{"a message", `UPDATE message_media SET content = $c`, true},
		{"the preview of a message", `UPDATE message_media SET preview = $c`, true},
		{"a request a moment ago", `UPDATE media_contents SET touched_at = now() WHERE hash = $c`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store, owner := newStore(t)
			c, other := testContent("content"), testContent("other")
			saveUpload(t, store, owner, other)
			if err := store.SaveContent(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			mustCreate(t, store, newRequest(owner))
			execute(t, store, `UPDATE media_contents SET touched_at = now() - interval '25 hours' WHERE hash = '\x`+c.Hash.String()+`'`)
			execute(t, store, replaceHashes(tt.refer, c, other))
			if err := store.DeleteExpired(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Content(t.Context(), c.Hash); (err == nil) != tt.kept {
				t.Errorf("got %v, want kept %t", err, tt.kept)
			}
		})
	}
}

// TestDeletedUploadKeepsItsContentForADay deletes an upload while a request is creating a
// message with it.
func TestDeletedUploadKeepsItsContentForADay(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	c := testContent("sent")
	u := saveUpload(t, store, owner, c)
	execute(t, store, `UPDATE media_contents SET touched_at = now() - interval '25 hours'`)
	if err := errors.Join(store.DeleteUpload(t.Context(), owner, u.ID), store.DeleteExpired(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Content(t.Context(), c.Hash); err != nil {
		t.Errorf("got %v, want the content", err)
	}
}

// replaceHashes replaces $c and $o in a statement.
func replaceHashes(statement string, c, other mms.Content) string {
	return strings.NewReplacer("$c", `'\x`+c.Hash.String()+`'`, "$o", `'\x`+other.Hash.String()+`'`).Replace(statement)
}

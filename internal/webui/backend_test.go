package webui_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/auth/authtest"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/intake"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// fakeBackend implements the stores and the intake behind the pages, in memory.
type fakeBackend struct {
	authtest.Accounts
	mu           sync.Mutex
	users        []identity.User
	throttle     time.Duration
	silenceOff   time.Duration
	err          error // returned by every method that reads or changes data of a user
	rules        mms.Rules
	messages     map[uuid.UUID]mms.History
	position     mms.QueuePosition
	more         bool // lists have another page
	replies      map[uuid.UUID][]mms.Inbound
	decision     mms.Decision // the last one
	keysUsed     []string     // idempotency keys of created messages
	fingerprints [][32]byte   // of the requests for messages and batches
	batches      map[uuid.UUID]mms.Batch
	rowErrors    []mms.RowError
	pauses       []mms.Pause
	suppressions []mms.Suppression
	stats        mms.Overview
	statsCalls   []string // arguments of Overview
	keys         []identity.Key
	webhooks     []webhook.Endpoint
	secret       webhook.Secret // the last one rotated to
	events       []webhook.Event
	workspaces   fakeWorkspaces
}

func (f *fakeBackend) findUser(match func(identity.User) bool) (identity.User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range f.users {
		if match(u) {
			return authtest.InOwnWorkspace(u), nil
		}
	}
	return identity.User{}, identity.ErrNoUser
}

func (f *fakeBackend) UserByEmail(_ context.Context, email string) (identity.User, error) {
	return f.findUser(func(u identity.User) bool { return u.Email == email })
}

func (f *fakeBackend) UserByID(_ context.Context, id uuid.UUID) (identity.User, error) {
	return f.findUser(func(u identity.User) bool { return u.ID == id })
}

func (f *fakeBackend) replaceUser(u identity.User) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.users {
		if f.users[i].ID == u.ID {
			f.users[i] = u
		}
	}
}

func (f *fakeBackend) CreateUser(ctx context.Context, u identity.User) error {
	if _, err := f.UserByEmail(ctx, u.Email); err == nil {
		return identity.ErrEmailTaken
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users = append(f.users, u)
	return nil
}

func (f *fakeBackend) Throttle(context.Context, [32]byte, int, time.Duration) (time.Duration, error) {
	return f.throttle, nil
}
func (f *fakeBackend) Unthrottle(context.Context, [32]byte) error { return nil }

func (f *fakeBackend) CreateMessage(_ context.Context, by mms.Submitter, p mms.CreateParams) (mms.CreateResult, error) {
	if f.err != nil {
		return mms.CreateResult{}, f.err
	}
	f.keysUsed, f.fingerprints = append(f.keysUsed, p.Idempotency.Key), append(f.fingerprints, p.Idempotency.Fingerprint)
	m, err := f.rules.Validate(p, uuid.Must(uuid.NewV7()), by.Workspace, time.Time{})
	if err == nil {
		f.messages[m.ID] = mms.History{Message: m}
	}
	return mms.CreateResult{Message: m}, err
}

// SenderIntervals knows the rate of the first sender alone.
func (f *fakeBackend) SenderIntervals(_ context.Context, senders []mms.PhoneNumber) (map[mms.PhoneNumber]time.Duration, error) {
	if f.err != nil {
		return nil, f.err
	}
	return map[mms.PhoneNumber]time.Duration{senders[0]: mms.IntervalForRate(15)}, nil
}

// MessagePicture has a picture at the first position of every message.
func (f *fakeBackend) MessagePicture(ctx context.Context, workspace, message uuid.UUID, position int, _ bool) (mms.Content, error) {
	if _, err := f.Message(ctx, workspace, message); err != nil || position != 1 {
		return mms.Content{}, mms.ErrNotFound
	}
	return mms.Content{PictureInfo: mms.PictureInfo{Type: "image/png"}, Data: []byte("pixels")}, f.err
}

func (f *fakeBackend) Resend(ctx context.Context, by mms.Submitter, id uuid.UUID, i mms.Idempotency) (mms.CreateResult, error) {
	original, err := f.Message(ctx, by.Workspace, id)
	if err != nil {
		return mms.CreateResult{}, err
	}
	if !original.Final() {
		return mms.CreateResult{}, mms.ErrNotFinal
	}
	return f.CreateMessage(ctx, by, mms.CreateParams{To: string(original.Recipient), MediaURLs: original.MediaURLs, Idempotency: i})
}

func (f *fakeBackend) Cancel(ctx context.Context, workspace, id uuid.UUID) error {
	h, err := f.Message(ctx, workspace, id)
	switch {
	case err != nil:
		return err
	case h.Status != mms.Queued:
		return mms.ErrTooLate
	}
	h.Status = mms.Canceled
	f.messages[id] = h
	return nil
}

// CreateBatch counts the valid rows but creates no messages.
func (f *fakeBackend) CreateBatch(_ context.Context, by mms.Submitter, p mms.BatchParams, rows intake.Rows) (mms.BatchResult, error) {
	f.fingerprints = append(f.fingerprints, p.Idempotency.Fingerprint)
	b, err := f.rules.ValidateBatch(p, uuid.Must(uuid.NewV7()), by.Workspace, time.Time{})
	var violations invalid.Fields
	errors.As(err, &violations)
	none, _ := rows.(intake.NoRows)
	if violations = append(violations, none...); len(violations) > 0 {
		return mms.BatchResult{}, violations
	}
	var rejected mms.RowErrors
	for {
		values, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			_, err = f.rules.ValidateRow(p, values, b, uuid.New(), time.Time{})
		}
		var violations invalid.Fields
		if errors.As(err, &violations) {
			rejected.Rejected++
			rejected.Errors = append(rejected.Errors, mms.NewRowErrors(rows.Row(), violations)...)
			continue
		}
		if err != nil {
			return mms.BatchResult{}, err
		}
		b.Created++
	}
	if rejected.Rejected > 0 && !p.CreateValid {
		return mms.BatchResult{}, rejected
	}
	b.Counts, b.Rejected = map[mms.Status]int{mms.Queued: b.Created}, rejected.Rejected
	f.batches[b.ID], f.rowErrors = b, rejected.Errors
	return mms.BatchResult{Batch: b}, f.err
}

func (f *fakeBackend) Batch(_ context.Context, workspace, id uuid.UUID) (mms.Batch, error) {
	b, ok := f.batches[id]
	if f.err == nil && (!ok || b.Workspace != workspace) {
		return b, mms.ErrBatchNotFound
	}
	return b, f.err
}

func (f *fakeBackend) Batches(_ context.Context, workspace, _ uuid.UUID, _ int) (list []mms.Batch, more bool, err error) {
	for _, b := range f.batches {
		if b.Workspace == workspace {
			list = append(list, b)
		}
	}
	return list, false, f.err
}

func (f *fakeBackend) BatchErrors(context.Context, uuid.UUID, uuid.UUID, int, int) ([]mms.RowError, bool, error) {
	return f.rowErrors, false, f.err
}

func (f *fakeBackend) SetBatchState(ctx context.Context, workspace, id uuid.UUID, state mms.BatchState) error {
	b, err := f.Batch(ctx, workspace, id)
	if err == nil {
		b.State = state
		f.batches[id] = b
	}
	return err
}

func (f *fakeBackend) PrincipalByKey(context.Context, [32]byte) (identity.Principal, error) {
	return identity.Principal{}, identity.ErrNoKey
}

func (f *fakeBackend) CreateKey(_ context.Context, k identity.Key, _ [32]byte, _ *int) (identity.Key, error) {
	f.keys = append(f.keys, k)
	return k, f.err
}

func (f *fakeBackend) Keys(_ context.Context, workspace uuid.UUID) (list []identity.Key, err error) {
	for _, k := range f.keys {
		if k.WorkspaceID == workspace {
			list = append(list, k)
		}
	}
	return list, f.err
}

func (f *fakeBackend) CreateWebhook(_ context.Context, e webhook.Endpoint, _ webhook.Secret) (webhook.Endpoint, error) {
	f.webhooks = append(f.webhooks, e)
	return e, f.err
}

func (f *fakeBackend) Webhooks(_ context.Context, workspace uuid.UUID) (list []webhook.Endpoint, err error) {
	for _, e := range f.webhooks {
		if e.Workspace == workspace {
			list = append(list, e)
		}
	}
	return list, f.err
}

func (f *fakeBackend) Webhook(ctx context.Context, workspace, id uuid.UUID) (webhook.Endpoint, error) {
	list, err := f.Webhooks(ctx, workspace)
	for _, e := range list {
		if e.ID == id {
			return e, err
		}
	}
	return webhook.Endpoint{}, webhook.ErrNotFound
}

func (f *fakeBackend) DeleteWebhook(_ context.Context, _, id uuid.UUID) error {
	f.webhooks = slices.DeleteFunc(f.webhooks, func(e webhook.Endpoint) bool { return e.ID == id })
	return f.err
}

func (f *fakeBackend) RotateSecret(_ context.Context, _, _ uuid.UUID, secret webhook.Secret) error {
	f.secret = secret
	return f.err
}

func (f *fakeBackend) EnableWebhook(_ context.Context, _, id uuid.UUID) error {
	for i := range f.webhooks {
		f.webhooks[i].DisabledAt, f.webhooks[i].DisabledReason = nil, ""
	}
	return f.err
}

func (f *fakeBackend) CreateTestEvent(_ context.Context, _, id uuid.UUID) (webhook.Event, error) {
	e := webhook.Event{ID: uuid.New(), WebhookID: id, State: webhook.Failed, Attempts: 2, HTTPStatus: 500, Error: "The endpoint answered 500."}
	f.events = append(f.events, e)
	return e, f.err
}

func (f *fakeBackend) WebhookEvents(context.Context, uuid.UUID, uuid.UUID, int64, int) ([]webhook.Event, bool, error) {
	return f.events, false, f.err
}

func (f *fakeBackend) ReplayEvent(_ context.Context, _, _, id uuid.UUID) (webhook.Event, error) {
	for i := range f.events {
		if f.events[i].ID == id {
			f.events[i].State = webhook.Pending
			return f.events[i], f.err
		}
	}
	return webhook.Event{}, webhook.ErrNotFound
}

func (f *fakeBackend) RevokeKey(_ context.Context, workspace, id uuid.UUID) error {
	for i, k := range f.keys {
		if k.ID == id && k.WorkspaceID == workspace {
			f.keys[i].RevokedAt = &k.CreatedAt
			return f.err
		}
	}
	return identity.ErrNoKey
}

func (f *fakeBackend) Message(_ context.Context, workspace, id uuid.UUID) (mms.History, error) {
	h, ok := f.messages[id]
	if f.err == nil && (!ok || h.Workspace != workspace) {
		return h, mms.ErrNotFound
	}
	return h, f.err
}

func (f *fakeBackend) Messages(_ context.Context, workspace uuid.UUID, p mms.Page) (list []mms.Message, next uuid.UUID, err error) {
	for _, h := range f.messages {
		if h.Workspace == workspace && (p.Status == "" || p.Status == h.Status) {
			list = append(list, h.Message)
		}
	}
	if f.more && len(list) > 0 {
		next = list[len(list)-1].ID
	}
	return list, next, f.err
}

func (f *fakeBackend) QueuePosition(context.Context, uuid.UUID, uuid.UUID) (mms.QueuePosition, bool, error) {
	return f.position, f.position != mms.QueuePosition{}, f.err
}

func (f *fakeBackend) Replies(_ context.Context, _, id uuid.UUID) ([]mms.Inbound, error) {
	return f.replies[id], f.err
}

func (f *fakeBackend) Suppressions(_ context.Context, recipient mms.PhoneNumber, _ mms.Suppression, _ int) ([]mms.Suppression, bool, error) {
	var list []mms.Suppression
	for _, s := range f.suppressions {
		if recipient == "" || s.Recipient == recipient {
			list = append(list, s)
		}
	}
	return list, f.more && len(list) > 0, f.err
}

func (f *fakeBackend) AddSuppressions(_ context.Context, list []mms.Suppression) (int, error) {
	if f.err == nil {
		f.suppressions = append(f.suppressions, list...)
	}
	return len(list), f.err
}

func (f *fakeBackend) RemoveSuppression(_ context.Context, sender, recipient mms.PhoneNumber) (bool, error) {
	before := len(f.suppressions)
	f.suppressions = slices.DeleteFunc(f.suppressions, func(s mms.Suppression) bool { return s.Sender == sender && s.Recipient == recipient })
	return len(f.suppressions) < before, f.err
}

func (f *fakeBackend) Overview(_ context.Context, workspace uuid.UUID, days int) (mms.Overview, error) {
	f.statsCalls = append(f.statsCalls, fmt.Sprintf("%d days of %s", days, workspace))
	return f.stats, f.err
}

func (f *fakeBackend) Decide(_ context.Context, workspace, id uuid.UUID, d mms.Decision) error {
	if h := f.messages[id]; f.err == nil && h.Workspace != workspace {
		return mms.ErrNotFound
	} else if f.err == nil && !h.Held {
		return mms.ErrNotHeld
	}
	f.decision = d
	return f.err
}

func (f *fakeBackend) SilenceOff(context.Context) (time.Duration, error) { return f.silenceOff, nil }

func (f *fakeBackend) Pauses(context.Context) ([]mms.Pause, error) { return f.pauses, nil }

func (f *fakeBackend) Resume(_ context.Context, cause mms.Reason) (bool, error) {
	ended := len(f.pauses) > 0 && f.pauses[0].Cause == cause
	if ended {
		f.pauses = nil
	}
	return ended, f.err
}

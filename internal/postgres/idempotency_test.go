package postgres_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// TestCreatedUnder looks up what was created under keys of a message, of a batch, and of
// nothing.
func TestCreatedUnder(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	bob := addUser(t, store, "bob@example.com")
	message := mustCreate(t, store, withKey("message", 1, newRequest(ada)))
	batchRequest := newBatchRequest(ada)
	batchRequest.Idempotency = mms.Idempotency{Key: "batch", Fingerprint: [32]byte{1}}
	batch, err := commitBatch(t.Context(), store, batchRequest, 2)
	if err != nil {
		t.Fatal(err)
	}
	busyRequest := newBatchRequest(ada)
	busyRequest.Idempotency = mms.Idempotency{Key: "busy", Fingerprint: [32]byte{1}}
	busy, _, err := store.BeginBatch(t.Context(), busyRequest)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		workspace   uuid.UUID
		key         string
		fingerprint byte
		messageErr  error
		batchErr    error
	}{
		"message":         {ada, "message", 1, nil, mms.ErrKeyReused},
		"batch":           {ada, "batch", 1, mms.ErrKeyReused, nil},
		"another request": {ada, "message", 2, mms.ErrKeyReused, mms.ErrKeyReused},
		"another user":    {bob, "message", 1, mms.ErrNotFound, mms.ErrBatchNotFound},
		"free":            {ada, "free", 1, mms.ErrNotFound, mms.ErrBatchNotFound},
		"in progress":     {ada, "busy", 1, mms.ErrInFlight, mms.ErrInFlight},
	} {
		key := mms.Idempotency{Key: tt.key, Fingerprint: [32]byte{tt.fingerprint}}
		gotMessage, err := store.MessageCreatedUnder(t.Context(), tt.workspace, key)
		if !errors.Is(err, tt.messageErr) {
			t.Errorf("%s: got error %v for a message, want %v", name, err, tt.messageErr)
		}
		if diff := cmp.Diff(message, gotMessage.Message); err == nil && (diff != "" || !gotMessage.Replayed) {
			t.Errorf("%s: replayed %t, message (-want +got):\n%s", name, gotMessage.Replayed, diff)
		}
		gotBatch, err := store.BatchCreatedUnder(t.Context(), tt.workspace, key)
		if !errors.Is(err, tt.batchErr) {
			t.Errorf("%s: got error %v for a batch, want %v", name, err, tt.batchErr)
		}
		if diff := cmp.Diff(batch.Batch, gotBatch.Batch); err == nil && (diff != "" || !gotBatch.Replayed) {
			t.Errorf("%s: replayed %t, batch (-want +got):\n%s", name, gotBatch.Replayed, diff)
		}
	}
	busy.Rollback()
	if _, err := store.BatchCreatedUnder(t.Context(), ada, busyRequest.Idempotency); !errors.Is(err, mms.ErrBatchNotFound) {
		t.Errorf("rolled back: got error %v, want ErrBatchNotFound", err)
	}
}

package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// receive records a message that the recipient of m sent, twice, as Plivo may.
func receive(t *testing.T, store *postgres.Store, m mms.Message, text string, mayOptIn bool) mms.Inbound {
	t.Helper()
	in := mms.Inbound{
		ID: uuid.Must(uuid.NewV7()), PlivoUUID: uuid.NewString(), From: m.Recipient, To: m.Sender, Text: text,
		Keyword: mms.KeywordIn(text),
	}
	for _, want := range []bool{true, false} {
		if isNew, err := store.RecordInbound(t.Context(), in, mayOptIn); err != nil || isNew != want {
			t.Fatalf("RecordInbound() = %v, %v, want %v", isNew, err, want)
		}
	}
	return in
}

func TestRepliesFollowTheFirstMessage(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	eve := addUser(t, store, "eve@example.com")
	m := createFor(t, store, ada, "+14155559997")
	first := receive(t, store, m, "Nice!", true)
	evesMessage := createFor(t, store, eve, "+14155559997")
	second := receive(t, store, m, "Who is this?", true)
	for name, tt := range map[string]struct {
		workspace uuid.UUID
		id        uuid.UUID
		want      []string
	}{
		"first user":             {ada, m.ID, []string{second.Text, first.Text}},
		"later user":             {eve, evesMessage.ID, []string{second.Text}},
		"another user's message": {eve, m.ID, nil},
		"unknown message":        {ada, uuid.New(), nil},
	} {
		replies, err := store.Replies(t.Context(), tt.workspace, tt.id)
		var texts []string
		for _, r := range replies {
			texts = append(texts, r.Text)
		}
		if diff := cmp.Diff(tt.want, texts); diff != "" || err != nil {
			t.Errorf("%s (-want +got):\n%s%v", name, diff, err)
		}
	}
}

func TestKeywordsOptOutAndIn(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	pair := mms.Suppression{Sender: m.Sender, Recipient: m.Recipient, Reason: mms.SuppressedByRecipient}
	for _, step := range []struct {
		text     string
		mayOptIn bool
		want     []mms.Suppression
	}{
		{"Stop by the shop at 5", true, []mms.Suppression{}},
		{"STOP", false, []mms.Suppression{pair}},
		{"stop", true, []mms.Suppression{pair}},
		{"START", false, []mms.Suppression{pair}},
		{"help", true, []mms.Suppression{pair}},
		{"START", true, []mms.Suppression{}},
	} {
		receive(t, store, m, step.text, step.mayOptIn)
		if diff := cmp.Diff(step.want, suppressions(t, store)); diff != "" {
			t.Errorf("suppressions after %q (-want +got):\n%s", step.text, diff)
		}
	}
	byAdmin := pair
	byAdmin.Reason = mms.SuppressedByAdmin
	if n, err := store.AddSuppressions(t.Context(), []mms.Suppression{byAdmin, byAdmin}); err != nil || n != 1 {
		t.Errorf("AddSuppressions() = %d, %v, want 1", n, err)
	}
	receive(t, store, m, "START", true)
	if diff := cmp.Diff([]mms.Suppression{byAdmin}, suppressions(t, store)); diff != "" {
		t.Errorf("an admin's suppression after START (-want +got):\n%s", diff)
	}
}

package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// said takes an inbound message of the recipient of m.
func said(t *testing.T, store *postgres.Store, m mms.Message, text string, mayLift bool) mms.Inbound {
	t.Helper()
	in := mms.Inbound{
		ID: uuid.Must(uuid.NewV7()), PlivoUUID: uuid.NewString(), From: m.Recipient, To: m.Sender, Text: text,
		Keyword: mms.KeywordIn(text),
	}
	for _, want := range []bool{true, false} { // Plivo may tell twice
		if news, err := store.RecordInbound(t.Context(), in, mayLift); err != nil || news != want {
			t.Fatalf("TakeInbound() = %v, %v, want %v", news, err, want)
		}
	}
	return in
}

func suppressed(t *testing.T, store *postgres.Store) []mms.Suppression {
	t.Helper()
	list, _, err := store.Suppressions(t.Context(), "", mms.Suppression{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i].CreatedAt = time.Time{}
	}
	return list
}

func TestRepliesAreForThoseWhoSentFirst(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	eve := addUser(t, store, "eve@example.com")
	m := acceptFor(t, store, ada, "+14155559997")
	first := said(t, store, m, "Nice!", true)
	his := acceptFor(t, store, eve, "+14155559997")
	second := said(t, store, m, "Who is this?", true)
	for name, tt := range map[string]struct {
		owner uuid.UUID
		id    uuid.UUID
		want  []string
	}{
		"hers":              {ada, m.ID, []string{second.Text, first.Text}},
		"his, from then on": {eve, his.ID, []string{second.Text}},
		"hers, read by him": {eve, m.ID, nil},
		"of nothing at all": {ada, uuid.New(), nil},
	} {
		replies, err := store.Replies(t.Context(), tt.owner, tt.id)
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
	store, owner := newStore(t)
	m := accept(t, store, owner)
	pair := mms.Suppression{Sender: m.Sender, Recipient: m.Recipient, Reason: mms.SuppressedByRecipient}
	for _, step := range []struct {
		text    string
		mayLift bool
		want    []mms.Suppression
	}{
		{"please stop", true, []mms.Suppression{}},
		{"STOP", false, []mms.Suppression{pair}},
		{"stop", true, []mms.Suppression{pair}},
		{"START", false, []mms.Suppression{pair}},
		{"help", true, []mms.Suppression{pair}},
		{"START", true, []mms.Suppression{}},
	} {
		said(t, store, m, step.text, step.mayLift)
		if diff := cmp.Diff(step.want, suppressed(t, store)); diff != "" {
			t.Errorf("after %q (-want +got):\n%s", step.text, diff)
		}
	}
	byAdmin := pair
	byAdmin.Reason = mms.SuppressedByAdmin
	if n, err := store.AddSuppressions(t.Context(), []mms.Suppression{byAdmin, byAdmin}); err != nil || n != 1 {
		t.Errorf("Suppress() = %d, %v, want 1", n, err)
	}
	said(t, store, m, "START", true)
	if diff := cmp.Diff([]mms.Suppression{byAdmin}, suppressed(t, store)); diff != "" {
		t.Errorf("an admin's word was lifted (-want +got):\n%s", diff)
	}
}

func TestNothingIsSentToWhoeverOptedOut(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m, other := accept(t, store, owner), accept(t, store, owner)
	if _, err := store.AddSuppressions(t.Context(), []mms.Suppression{{Sender: m.Sender, Recipient: m.Recipient, Reason: mms.SuppressedByAdmin}}); err != nil {
		t.Fatal(err)
	}
	if _, claimed, err := store.Claim(t.Context(), m.ID, token(), time.Minute); err != nil || claimed {
		t.Errorf("Claim() = %v, %v, want false", claimed, err)
	}
	if o, err := store.ClaimBlocker(t.Context(), m.ID); err != nil || !o.Suppressed {
		t.Errorf("Obstacle() = %+v, %v, want suppressed", o, err)
	}
	for _, one := range []mms.Message{m, other} { // only the one concerned fails
		if err := store.FailSuppressed(t.Context(), one.ID); err != nil {
			t.Fatal(err)
		}
	}
	h := read(t, store, m)
	wantStory(t, h, mms.Failed, "created>queued suppressed>failed")
	if h.Reason != mms.ReasonOptedOut {
		t.Errorf("the reason is %q", h.Reason)
	}
	wantStory(t, read(t, store, other), mms.Queued, "created>queued")
	for _, want := range []bool{true, false} {
		if lifted, err := store.RemoveSuppression(t.Context(), m.Sender, m.Recipient); err != nil || lifted != want {
			t.Errorf("Lift() = %v, %v, want %v", lifted, err, want)
		}
	}
	again := acceptFor(t, store, owner, m.Recipient)
	claim(t, store, again.ID)
}

func TestPagesOfSuppressions(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	var all []mms.Suppression
	for _, recipient := range []mms.PhoneNumber{"+14155550123", "+14155550124", "+14155550125"} {
		for _, sender := range []mms.PhoneNumber{"+14155550100", "+14155550101"} {
			all = append(all, mms.Suppression{Sender: sender, Recipient: recipient, Reason: mms.SuppressedByAdmin})
		}
	}
	if n, err := store.AddSuppressions(t.Context(), all); err != nil || n != len(all) {
		t.Fatalf("Suppress() = %d, %v", n, err)
	}
	var seen []mms.Suppression
	after := mms.Suppression{}
	for more := true; more; {
		var list []mms.Suppression
		var err error
		if list, more, err = store.Suppressions(t.Context(), "", after, 4); err != nil || len(list) == 0 {
			t.Fatalf("Suppressions() = %v, %v", list, err)
		}
		after = list[len(list)-1]
		for _, s := range list {
			s.CreatedAt = time.Time{}
			seen = append(seen, s)
		}
	}
	if diff := cmp.Diff(all, seen); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	if list, _, err := store.Suppressions(t.Context(), "+14155550124", mms.Suppression{}, 10); err != nil || len(list) != 2 {
		t.Errorf("of one recipient: %v, %v", list, err)
	}
}

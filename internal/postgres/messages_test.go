package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

func TestMessageFilters(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	add := func(change func(*mms.Message)) mms.Message {
		request := newRequest(workspace)
		change(&request.Message)
		return mustCreate(t, store, request)
	}
	plain := add(func(m *mms.Message) { m.Text = "Nothing special" })
	tagged := add(func(m *mms.Message) { m.Metadata = map[string]string{"order": "1017", "shop": "north"} })
	other := add(func(m *mms.Message) { m.Sender, m.Recipient = "+14155550101", "+14155559000" })
	if _, err := store.DB().Exec(`UPDATE messages SET created_at = created_at - interval '3 days' WHERE id = $1`, plain.ID); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		filter mms.Filter
		want   []uuid.UUID
	}{
		"all":                         {mms.Filter{}, []uuid.UUID{other.ID, tagged.ID, plain.ID}},
		"words":                       {mms.Filter{Text: "special NOTHING"}, []uuid.UUID{plain.ID}},
		"part of a word":              {mms.Filter{Text: "speci"}, nil},
		"search operators":            {mms.Filter{Text: "special & | ! ' :*"}, []uuid.UUID{plain.ID}},
		"metadata":                    {mms.Filter{Metadata: map[string]string{"order": "1017"}}, []uuid.UUID{tagged.ID}},
		"metadata, one entry differs": {mms.Filter{Metadata: map[string]string{"order": "1017", "shop": "south"}}, nil},
		"sender":                      {mms.Filter{Sender: "+14155550101"}, []uuid.UUID{other.ID}},
		"recipient":                   {mms.Filter{Recipient: "+14155559000"}, []uuid.UUID{other.ID}},
		"status":                      {mms.Filter{Status: mms.Delivered}, nil},
		"since":                       {mms.Filter{Since: tagged.CreatedAt.Add(-time.Hour)}, []uuid.UUID{other.ID, tagged.ID}},
		"until":                       {mms.Filter{Until: other.CreatedAt}, []uuid.UUID{tagged.ID, plain.ID}},
		"batch":                       {mms.Filter{Batch: uuid.New()}, nil},
	} {
		list, _, err := store.Messages(t.Context(), workspace, mms.Page{Filter: tt.filter, Limit: 10})
		var got []uuid.UUID
		for _, m := range list {
			got = append(got, m.ID)
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, tt.want)
		}
	}
}

// TestSearchForFrequentAndRareWords searches before and after the database has
// statistics about the words.
func TestSearchForFrequentAndRareWords(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	other := addUser(t, store, "bob@example.com")
	const messages = 3000 // of each user; enough for a word to be frequent
	if _, err := store.DB().Exec(`
WITH m AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, final_at)
    SELECT lpad(to_hex(i), 32, '0')::uuid, CASE WHEN i % 2 = 0 THEN $1::uuid ELSE $2::uuid END,
        '+14155550100', '+14155550101', 'Greetings from place' || i, 'canceled', now()
    FROM generate_series(1, 2 * $3::int) AS i RETURNING id, text
)
INSERT INTO message_search SELECT id, to_tsvector('simple', text), '{}' FROM m`, workspace, other, messages); err != nil {
		t.Fatal(err)
	}
	id := func(n int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012x", n) }
	for _, analyzed := range []bool{false, true} {
		for words, want := range map[string][]string{
			"greetings":            {id(2 * messages), id(2*messages - 2), id(2*messages - 4)},
			"greetings from":       {id(2 * messages), id(2*messages - 2), id(2*messages - 4)},
			"place4":               {id(4)},
			"place4 greetings":     {id(4)},
			"place5":               nil, // in a message of the other user
			"place4 place6":        nil,
			"greetings to nowhere": nil,
			"...":                  nil,
		} {
			list, next, err := store.Messages(t.Context(), workspace, mms.Page{Filter: mms.Filter{Text: words}, Limit: 3})
			var got []string
			for _, m := range list {
				got = append(got, m.ID.String())
			}
			if err != nil || !slices.Equal(got, want) || next != uuid.Nil != (len(want) == 3) {
				t.Errorf("analyzed %t, %q: got %v, next %v, %v, want %v", analyzed, words, got, next, err, want)
			}
		}
		if _, err := store.DB().Exec(`ANALYZE message_search`); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSearchWithoutAnIndexFindsEverythingOnce pages through searches that match few of
// many messages.
func TestSearchWithoutAnIndexFindsEverythingOnce(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	const messages = 12_000 // several spans
	if _, err := store.DB().Exec(`
WITH m AS (
    INSERT INTO messages (id, workspace_id, sender, recipient, text, status, final_at)
    SELECT lpad(to_hex(i), 32, '0')::uuid, $1::uuid, CASE WHEN i % 4001 = 0 THEN '+14155550199' ELSE '+14155550100' END, '+14155550101',
        CASE WHEN i <= 2500 THEN 'in spring' ELSE 'in autumn' END, 'canceled', now()
    FROM generate_series(1, $2::int) AS i RETURNING id, text
)
INSERT INTO message_search SELECT id, to_tsvector('simple', text), '{}' FROM m`, workspace, messages); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`ANALYZE message_search`); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		filter mms.Filter
		limit  int
		want   int
	}{
		"word of the oldest messages":     {mms.Filter{Text: "spring"}, 1000, 2500},
		"word of all messages":            {mms.Filter{Text: "in"}, 5000, messages},
		"words that never occur together": {mms.Filter{Text: "autumn spring"}, 10, 0},
		"sender":                          {mms.Filter{Sender: "+14155550199"}, 1, 2},
		"sender without messages":         {mms.Filter{Sender: "+14155550198"}, 10, 0},
	} {
		page := mms.Page{Filter: tt.filter, Limit: tt.limit}
		seen, last := 0, uuid.Max
		for more := true; more; more = page.Before != uuid.Nil {
			list, next, err := store.Messages(t.Context(), workspace, page)
			if err != nil || len(list) > tt.limit {
				t.Fatalf("%s: got a page of %d, %v, want at most %d", name, len(list), err, tt.limit)
			}
			for _, m := range list {
				if m.ID.String() >= last.String() {
					t.Fatalf("%s: got %s after %s, want descending ids", name, m.ID, last)
				}
				seen, last = seen+1, m.ID
			}
			page.Before = next
		}
		if seen != tt.want {
			t.Errorf("%s: got %d messages, want %d", name, seen, tt.want)
		}
	}
}

func TestMessageIsVisibleToItsWorkspaceOnly(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	m := create(t, store, workspace)
	other := addUser(t, store, "eve@example.com")
	if _, err := store.Message(t.Context(), other, m.ID); !errors.Is(err, mms.ErrNotFound) {
		t.Errorf("Message: got error %v, want ErrNotFound", err)
	}
	if _, err := store.Version(t.Context(), other, m.ID); !errors.Is(err, mms.ErrNotFound) {
		t.Errorf("Version: got error %v, want ErrNotFound", err)
	}
	if list, _, err := store.Messages(t.Context(), other, mms.Page{Limit: 10}); err != nil || len(list) != 0 {
		t.Errorf("Messages: got %v, %v, want none", list, err)
	}
}

func TestMessagePages(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	var ids []uuid.UUID // newest first
	for range 5 {
		ids = append([]uuid.UUID{create(t, store, workspace).ID}, ids...)
	}
	claim(t, store, ids[2])
	var got []uuid.UUID
	page := mms.Page{Limit: 2}
	for more := true; more; more = page.Before != uuid.Nil {
		var list []mms.Message
		var err error
		if list, page.Before, err = store.Messages(t.Context(), workspace, page); err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			got = append(got, m.ID)
		}
	}
	if len(got) != 5 || got[0] != ids[0] || got[4] != ids[4] {
		t.Errorf("got %v, want %v", got, ids)
	}
	list, next, err := store.Messages(t.Context(), workspace, mms.Page{Filter: mms.Filter{Status: mms.Sending}, Limit: 10})
	if err != nil || next != uuid.Nil || len(list) != 1 || list[0].ID != ids[2] {
		t.Errorf("sending messages: got %v, next %v, %v, want one", list, next, err)
	}
}

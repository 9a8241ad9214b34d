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
	"pgregory.net/rapid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

func order(owner uuid.UUID) mms.CreateRequest {
	return mms.CreateRequest{Message: mms.Message{
		ID: uuid.Must(uuid.NewV7()), Owner: owner, Sender: "+14155550100", Recipient: mms.PhoneNumber(fmt.Sprintf("+1415557%04d", lastRecipient.Add(1)%10000)),
		Text: "Hello", MediaURLs: []string{"https://example.com/a.jpg"}, ValidFor: time.Hour, Priority: mms.Normal,
	}}
}

func under(key string, asked byte, o mms.CreateRequest) mms.CreateRequest {
	o.Idempotency = mms.Idempotency{Key: key, Fingerprint: [32]byte{asked}}
	return o
}

func count(t testing.TB, store *postgres.Store, query string, args ...any) int {
	t.Helper()
	var n int
	if err := store.DB().QueryRow(query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFiftyClientsWithOneKey submit the same at the same time: one message, and
// whoever gets an answer gets the same.
func TestFiftyClientsWithOneKey(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	var mu sync.Mutex
	var answers []mms.Message
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			for {
				taken, err := store.CreateMessage(t.Context(), under("once", 1, order(owner)))
				if errors.Is(err, mms.ErrInFlight) {
					continue // as a client does
				}
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				answers = append(answers, taken.Message)
				return
			}
		})
	}
	group.Wait()
	for _, a := range answers {
		if diff := cmp.Diff(answers[0], a); diff != "" {
			t.Fatalf("two answers differ:\n%s", diff)
		}
	}
	if n := count(t, store, `SELECT count(*) FROM messages`); n != 1 || len(answers) != 50 {
		t.Errorf("%d messages, %d answers", n, len(answers))
	}
}

// TestIdempotency makes random requests by two users under few keys, and holds
// the answers against what a map of keys would say.
func TestIdempotency(t *testing.T) {
	t.Parallel()
	store, ada := newStore(t)
	bob := addUser(t, store, "bob@example.com")
	type used struct {
		fingerprint byte
		answer      mms.Message
	}
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		known := map[string]used{}
		for range rapid.IntRange(1, 12).Draw(t, "requests") {
			owner := rapid.SampledFrom([]uuid.UUID{ada, bob}).Draw(t, "owner")
			key := fmt.Sprintf("%d-%d", round, rapid.IntRange(0, 2).Draw(t, "key"))
			asked := byte(rapid.IntRange(1, 2).Draw(t, "asked"))
			taken, err := store.CreateMessage(t.Context(), under(key, asked, order(owner)))
			before, isKnown := known[owner.String()+key]
			switch {
			case isKnown && before.fingerprint != asked:
				if !errors.Is(err, mms.ErrKeyReused) {
					t.Fatalf("another request under a used key: %v", err)
				}
			case isKnown:
				if err != nil || !taken.Replayed || cmp.Diff(before.answer, taken.Message) != "" {
					t.Fatalf("repeated: %v, replayed %t\n%s", err, taken.Replayed, cmp.Diff(before.answer, taken.Message))
				}
			default:
				if err != nil || taken.Replayed {
					t.Fatalf("a new key: %v, replayed %t", err, taken.Replayed)
				}
				known[owner.String()+key] = used{asked, taken.Message}
				// Whatever happens to the message, the answer stays.
				if _, _, err := store.Claim(t.Context(), taken.ID, token(), lease); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestIdempotencyKeysEndAfterADay(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	first := take(t, store, under("k", 1, order(owner)))
	if _, err := store.DB().Exec(`UPDATE idempotency_keys SET created_at = now() - interval '23 hours 59 minutes'`); err != nil {
		t.Fatal(err)
	}
	if again := take(t, store, under("k", 1, order(owner))); again.ID != first.ID {
		t.Error("forgotten before 24 hours")
	}
	if _, err := store.DB().Exec(`UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 minute'`); err != nil {
		t.Fatal(err)
	}
	if later := take(t, store, under("k", 2, order(owner))); later.ID == first.ID {
		t.Error("remembered for more than 24 hours")
	}
	if _, err := store.DB().Exec(`UPDATE idempotency_keys SET created_at = now() - interval '26 hours'`); err != nil {
		t.Fatal(err)
	}
	if err := store.DeleteExpired(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, store, `SELECT count(*) FROM idempotency_keys`); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

func TestDailyCaps(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	key := uuid.New()
	capped := func(user, ofKey int) mms.CreateRequest {
		o := order(owner)
		o.Caps = mms.Submitter{User: owner, Key: key, UserCap: user, KeyCap: ofKey}.Caps(0)
		return o
	}
	for range 3 {
		take(t, store, capped(5, 3))
	}
	var full mms.CapError
	if _, err := store.CreateMessage(t.Context(), capped(5, 3)); !errors.As(err, &full) || !full.OfKey || full.Messages != 3 || full.RetryAfter <= 0 || full.RetryAfter > 24*time.Hour {
		t.Errorf("the fourth by the key: %v", err)
	}
	repeated := under("k", 1, capped(5, 3))
	if _, err := store.CreateMessage(t.Context(), repeated); !errors.As(err, &full) {
		t.Errorf("under an idempotency key: %v", err)
	}
	take(t, store, under("k", 1, capped(5, 0))) // a refusal does not use the key up
	take(t, store, capped(5, 0))
	if _, err := store.CreateMessage(t.Context(), capped(5, 0)); !errors.As(err, &full) || full.OfKey || full.Remaining != 0 {
		t.Errorf("the sixth by the user: %v", err)
	}
	if taken, err := store.CreateMessage(t.Context(), under("k", 1, capped(5, 3))); err != nil || !taken.Replayed {
		t.Errorf("a repeated request counts no more: %v", err)
	}
	if _, err := store.DB().Exec(`UPDATE daily_counts SET day = day - 1`); err != nil {
		t.Fatal(err)
	}
	take(t, store, capped(5, 3))
}

func TestAScheduledMessageComesUpAtItsTime(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	now, err := store.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := now.Add(time.Hour).Truncate(time.Microsecond)
	o := order(owner)
	o.SendAt, o.Priority = &at, mms.High
	m := take(t, store, o)
	if m.Status != mms.Scheduled || !m.SendAt.Equal(at) || !m.ExpiresAt.Equal(at.Add(time.Hour)) {
		t.Errorf("%+v", m)
	}
	if n, tasks, err := store.QueueScheduled(t.Context(), 10); n != 0 || len(tasks) != 0 || err != nil {
		t.Errorf("before its time: %d %v %v", n, tasks, err)
	}
	if _, claimed, err := store.Claim(t.Context(), m.ID, token(), lease); claimed || err != nil {
		t.Errorf("claimed before its time: %v", err)
	}
	if _, err := store.DB().Exec(`UPDATE messages SET send_at = now() WHERE id = $1`, m.ID); err != nil {
		t.Fatal(err)
	}
	n, tasks, err := store.QueueScheduled(t.Context(), 10)
	if diff := cmp.Diff([]mms.Task{{MessageID: m.ID, Generation: 1, Priority: mms.High}}, tasks); n != 1 || diff != "" || err != nil {
		t.Errorf("at its time: %d %s %v", n, diff, err)
	}
	wantStory(t, read(t, store, m), mms.Queued, "created>scheduled due>queued")
}

func TestCancel(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := accept(t, store, owner)
	if err := store.Cancel(t.Context(), uuid.New(), m.ID); !errors.Is(err, mms.ErrNotFound) {
		t.Errorf("by another: %v", err)
	}
	for range 2 {
		if err := store.Cancel(t.Context(), owner, m.ID); err != nil {
			t.Fatal(err)
		}
	}
	wantStory(t, read(t, store, m), mms.Canceled, "created>queued canceled>canceled")
	if _, claimed, err := store.Claim(t.Context(), m.ID, token(), lease); claimed || err != nil {
		t.Errorf("a canceled message is claimed: %v", err)
	}
	late := accept(t, store, owner)
	claim(t, store, late.ID)
	if err := store.Cancel(t.Context(), owner, late.ID); !errors.Is(err, mms.ErrTooLate) {
		t.Errorf("while it is sent: %v", err)
	}
}

// TestCancelOrClaim has many try both at once: one of the two happens.
func TestCancelOrClaim(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	for range 20 {
		m := accept(t, store, owner)
		var claimed bool
		var canceled error
		var group sync.WaitGroup
		group.Go(func() { _, claimed, _ = store.Claim(t.Context(), m.ID, token(), lease) })
		group.Go(func() { canceled = store.Cancel(t.Context(), owner, m.ID) })
		group.Wait()
		if claimed == (canceled == nil) {
			t.Fatalf("claimed %t, canceled %v", claimed, canceled)
		}
	}
}

func TestTheOldMessageNamesTheNew(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	old := accept(t, store, owner)
	if err := store.Cancel(t.Context(), owner, old.ID); err != nil {
		t.Fatal(err)
	}
	o := order(owner)
	o.ResendOf = old.ID
	again := take(t, store, o)
	h := read(t, store, old)
	if last := h.Events[len(h.Events)-1]; last.Kind != mms.EventResent || last.Detail != again.ID.String() || again.ResendOf != old.ID {
		t.Errorf("the last event is %+v of %+v", last, again)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	add := func(change func(*mms.Message)) mms.Message {
		o := order(owner)
		change(&o.Message)
		return take(t, store, o)
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
		"all":               {mms.Filter{}, []uuid.UUID{other.ID, tagged.ID, plain.ID}},
		"words":             {mms.Filter{Text: "special NOTHING"}, []uuid.UUID{plain.ID}},
		"words, not a part": {mms.Filter{Text: "speci"}, nil},
		"operators":         {mms.Filter{Text: "special & | ! ' :*"}, []uuid.UUID{plain.ID}},
		"one entry":         {mms.Filter{Metadata: map[string]string{"order": "1017"}}, []uuid.UUID{tagged.ID}},
		"two entries":       {mms.Filter{Metadata: map[string]string{"order": "1017", "shop": "south"}}, nil},
		"sender":            {mms.Filter{Sender: "+14155550101"}, []uuid.UUID{other.ID}},
		"recipient":         {mms.Filter{Recipient: "+14155559000"}, []uuid.UUID{other.ID}},
		"status":            {mms.Filter{Status: mms.Delivered}, nil},
		"since":             {mms.Filter{Since: tagged.CreatedAt.Add(-time.Hour)}, []uuid.UUID{other.ID, tagged.ID}},
		"until":             {mms.Filter{Until: other.CreatedAt}, []uuid.UUID{tagged.ID, plain.ID}},
		"a batch":           {mms.Filter{Batch: uuid.New()}, nil},
	} {
		list, _, err := store.Messages(t.Context(), owner, mms.Page{Filter: tt.filter, Limit: 10})
		var got []uuid.UUID
		for _, m := range list {
			got = append(got, m.ID)
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, tt.want)
		}
	}
}

// TestSearchingManyMessages looks for frequent and for rare words, before and after the
// database knows which are which.
func TestSearchingManyMessages(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	other := addUser(t, store, "bob@example.com")
	const messages = 3000 // of each, more than are few
	if _, err := store.DB().Exec(`
WITH m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, final_at)
    SELECT lpad(to_hex(i), 32, '0')::uuid, CASE WHEN i % 2 = 0 THEN $1::uuid ELSE $2::uuid END,
        '+14155550100', '+14155550101', 'Greetings from place' || i, 'canceled', now()
    FROM generate_series(1, 2 * $3::int) AS i RETURNING id, text
)
INSERT INTO message_search SELECT id, to_tsvector('simple', text), '{}' FROM m`, owner, other, messages); err != nil {
		t.Fatal(err)
	}
	id := func(n int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012x", n) }
	for _, analyzed := range []bool{false, true} {
		for words, want := range map[string][]string{
			"greetings":            {id(2 * messages), id(2*messages - 2), id(2*messages - 4)},
			"greetings from":       {id(2 * messages), id(2*messages - 2), id(2*messages - 4)},
			"place4":               {id(4)},
			"place4 greetings":     {id(4)},
			"place5":               nil, // another user's
			"place4 place6":        nil,
			"greetings to nowhere": nil,
			"...":                  nil,
		} {
			list, more, err := store.Messages(t.Context(), owner, mms.Page{Filter: mms.Filter{Text: words}, Limit: 3})
			var got []string
			for _, m := range list {
				got = append(got, m.ID.String())
			}
			if err != nil || !slices.Equal(got, want) || more != uuid.Nil != (len(want) == 3) {
				t.Errorf("analyzed %v, %q: %v, more %v, %v; want %v", analyzed, words, got, more, err, want)
			}
		}
		if _, err := store.DB().Exec(`ANALYZE message_search`); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSearchingFarBack looks for what stands in few of many messages, which no index
// finds: page after page, nothing is missed and nothing comes twice.
func TestSearchingFarBack(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	const messages = 12_000 // several spans
	if _, err := store.DB().Exec(`
WITH m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, final_at)
    SELECT lpad(to_hex(i), 32, '0')::uuid, $1::uuid, CASE WHEN i % 4001 = 0 THEN '+14155550199' ELSE '+14155550100' END, '+14155550101',
        CASE WHEN i <= 2500 THEN 'in spring' ELSE 'in autumn' END, 'canceled', now()
    FROM generate_series(1, $2::int) AS i RETURNING id, text
)
INSERT INTO message_search SELECT id, to_tsvector('simple', text), '{}' FROM m`, owner, messages); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`ANALYZE message_search`); err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		filter mms.Filter
		limit  int
		want   int
	}{
		"words of the oldest":           {mms.Filter{Text: "spring"}, 1000, 2500},
		"words of all":                  {mms.Filter{Text: "in"}, 5000, messages},
		"words that are never together": {mms.Filter{Text: "autumn spring"}, 10, 0},
		"a sender":                      {mms.Filter{Sender: "+14155550199"}, 1, 2},
		"a sender that was never used":  {mms.Filter{Sender: "+14155550198"}, 10, 0},
	} {
		page := mms.Page{Filter: tt.filter, Limit: tt.limit}
		seen, last := 0, uuid.Max
		for more := true; more; more = page.Before != uuid.Nil {
			list, next, err := store.Messages(t.Context(), owner, page)
			if err != nil || len(list) > tt.limit {
				t.Fatalf("%s: a page of %d, %v", what, len(list), err)
			}
			for _, m := range list {
				if m.ID.String() >= last.String() {
					t.Fatalf("%s: %s comes behind %s", what, m.ID, last)
				}
				seen, last = seen+1, m.ID
			}
			page.Before = next
		}
		if seen != tt.want {
			t.Errorf("%s: found %d, want %d", what, seen, tt.want)
		}
	}
}

// TestPriorities lets messages out of a line by priority, and one that has a
// higher one pass those who wait.
func TestPriorities(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	var waiting []mms.Message
	for _, p := range []mms.Priority{mms.Bulk, mms.Bulk, mms.Normal, mms.High} {
		o := order(owner)
		o.Priority = p
		m := take(t, store, o)
		if err := store.AddToBacklog(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, m)
	}
	if place, in, err := store.QueuePosition(t.Context(), owner, waiting[2].ID); place.Ahead != 1 || !in || err != nil {
		t.Errorf("the normal one has %+v ahead, %v", place, err)
	}
	tasks, err := store.Release(t.Context(), time.Second)
	if err != nil || len(tasks) != 4 {
		t.Fatalf("%v, %v", tasks, err)
	}
	if _, err := store.DB().Exec(`UPDATE messages SET backlog_state = 'waiting'`); err != nil {
		t.Fatal(err)
	}
	if err := store.SetRateLimit(t.Context(), "+14155550100", 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for i, want := range []uuid.UUID{waiting[3].ID, waiting[2].ID, waiting[0].ID, waiting[1].ID} {
		if _, err := store.DB().Exec(`UPDATE rate_limits SET next_arrival_at = now(), released_until = '-infinity'`); err != nil {
			t.Fatal(err)
		}
		tasks, err := store.Release(t.Context(), time.Millisecond)
		if err != nil || len(tasks) != 1 || tasks[0].MessageID != want {
			t.Fatalf("number %d let out is %v, %v; want %v", i, tasks, err, want)
		}
	}
	if _, err := store.DB().Exec(`UPDATE messages SET backlog_state = CASE WHEN priority = 3 THEN 'waiting' END; UPDATE rate_limits SET next_arrival_at = now()`); err != nil {
		t.Fatal(err)
	}
	single := accept(t, store, owner)
	if _, claimed, err := store.Claim(t.Context(), single.ID, token(), lease); !claimed || err != nil {
		t.Errorf("a normal message waits behind bulk ones: %v", err)
	}
}

func TestForecast(t *testing.T) {
	t.Parallel()
	store, owner := newStore(t)
	m := order(owner).Message
	if f, err := store.Forecast(t.Context(), m); err != nil || f.Interval != 0 || f.Ahead != 0 || f.Cost != mms.ListPrice || f.Suppressed {
		t.Errorf("%+v, %v", f, err)
	}
	if err := store.SetRateLimit(t.Context(), m.Sender, 4*time.Second); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := store.AddToBacklog(t.Context(), accept(t, store, owner).ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.DB().Exec(`UPDATE messages SET cost = 0.02`); err != nil {
		t.Fatal(err)
	}
	if _, err := store.AddSuppressions(t.Context(), []mms.Suppression{{Sender: m.Sender, Recipient: m.Recipient, Reason: "admin"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`INSERT INTO pauses (cause, detail, probe_at) VALUES ('plivo_credit', '', now())`); err != nil {
		t.Fatal(err)
	}
	now, err := store.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := store.Forecast(t.Context(), m)
	if f.Paused != mms.ReasonCredit {
		t.Errorf("paused: %q", f.Paused)
	}
	if wait := f.SendAt.Sub(now); err != nil || f.Interval != 4*time.Second || f.Ahead != 3 || wait < 12*time.Second || wait > 17*time.Second || f.Cost != "0.020000" || !f.Suppressed {
		t.Errorf("%+v, %v", f, err)
	}
	if n := count(t, store, `SELECT count(*) FROM messages`); n != 3 {
		t.Errorf("a forecast stored something: %d messages", n)
	}
}

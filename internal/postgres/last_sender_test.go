package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// createBatchOf creates a batch with the message of the request, and returns the message.
func createBatchOf(t *testing.T, store *postgres.Store, request mms.CreateRequest) mms.Message {
	t.Helper()
	batch := newBatchRequest(request.Workspace)
	batch.Candidates = request.Candidates
	w, _, err := store.BeginBatch(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Rollback()
	m := request.Message
	m.BatchID, m.BatchRow, m.Metadata = batch.ID, 1, map[string]string{}
	if err := w.Add(t.Context(), []mms.Message{m}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), mms.RowErrors{}); err != nil {
		t.Fatal(err)
	}
	return read(t, store, m).Message
}

// TestSenderIsTheLastOne creates messages to a recipient who has got messages from the
// senders in order of time, in each way. Validate has chosen sender a.
func TestSenderIsTheLastOne(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	const a, b, c, removed = mms.PhoneNumber("+14155550100"), mms.PhoneNumber("+14155550101"), mms.PhoneNumber("+14155550102"), mms.PhoneNumber("+14155550109")
	configured := []mms.PhoneNumber{c, a, b}
	for name, tt := range map[string]struct {
		used       []mms.PhoneNumber
		candidates []mms.PhoneNumber
		want       mms.PhoneNumber
	}{
		"unknown recipient":          {nil, configured, a},
		"one sender":                 {[]mms.PhoneNumber{c}, configured, c},
		"several, the lowest last":   {[]mms.PhoneNumber{c, b, a, c, a}, configured, a},
		"several, the highest last":  {[]mms.PhoneNumber{a, b, a, c}, configured, c},
		"several, the middle last":   {[]mms.PhoneNumber{a, c, b}, configured, b},
		"last one not configured":    {[]mms.PhoneNumber{a, b, removed}, configured, b},
		"none of them is configured": {[]mms.PhoneNumber{removed}, configured, a},
		"sender given":               {[]mms.PhoneNumber{b}, nil, a},
	} {
		for way, create := range map[string]func(mms.CreateRequest) mms.PhoneNumber{
			"alone": func(r mms.CreateRequest) mms.PhoneNumber { return mustCreate(t, store, r).Sender },
			"together": func(r mms.CreateRequest) mms.PhoneNumber {
				return store.CreateTogether(t.Context(), r, newRequest(workspace))[r.ID].Sender
			},
			"in a batch": func(r mms.CreateRequest) mms.PhoneNumber { return createBatchOf(t, store, r).Sender },
			"forecast": func(r mms.CreateRequest) mms.PhoneNumber {
				f, err := store.Forecast(t.Context(), r.Message, r.Candidates)
				if err != nil {
					t.Fatal(err)
				}
				return f.Sender
			},
		} {
			request := newRequest(workspace)
			request.Sender, request.Candidates = a, tt.candidates
			for _, sender := range tt.used {
				createBetween(t, store, workspace, sender, request.Recipient)
			}
			if got := create(request); got != tt.want {
				t.Errorf("%s, %s: got sender %s, want %s", name, way, got, tt.want)
			}
			if way == "forecast" {
				continue
			}
			if got := read(t, store, request.Message).Sender; got != tt.want {
				t.Errorf("%s, %s: stored sender %s, want %s", name, way, got, tt.want)
			}
			if n := count(t, store, `SELECT count(*) FROM rate_limits WHERE name = $1`, string(tt.want)); way == "in a batch" && n != 1 {
				t.Errorf("%s, %s: sender %s has no rate limit: its messages would wait for ever", name, way, tt.want)
			}
		}
	}
}

// TestAddedSenderMovesNoKnownRecipient adds senders to the configuration after messages were
// sent.
func TestAddedSenderMovesNoKnownRecipient(t *testing.T) {
	t.Parallel()
	store, workspace := newStore(t)
	var senders []mms.PhoneNumber
	var first []mms.Message
	for i := range 5 {
		senders = append(senders, mms.PhoneNumber(fmt.Sprintf("+1415555010%d", i)))
		rules := mms.Rules{Countries: []string{"US", "CA"}, Senders: senders}
		create := func(to mms.PhoneNumber) mms.Message {
			t.Helper()
			params := mms.CreateParams{To: string(to), MediaURL: "https://example.com/a.jpg"}
			m, err := rules.Validate(params, uuid.Must(uuid.NewV7()), workspace, newRequest(workspace).CreatedAt)
			if err != nil {
				t.Fatal(err)
			}
			return mustCreate(t, store, mms.CreateRequest{Message: m, Candidates: rules.Candidates("")})
		}
		for _, m := range first {
			if got := create(m.Recipient).Sender; got != m.Sender {
				t.Errorf("with %d senders: recipient %s moved from %s to %s", len(senders), m.Recipient, m.Sender, got)
			}
		}
		for n := range 20 {
			first = append(first, create(mms.PhoneNumber(fmt.Sprintf("+1416555%04d", 20*i+n))))
		}
	}
}

// TestLastSenderReadsFewPages counts what the choice of the sender reads of a large table,
// for recipients with no, one and many messages.
func TestLastSenderReadsFewPages(t *testing.T) {
	t.Parallel()
	for name, analyze := range map[string]bool{"with statistics": true, "with those of an empty table": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, workspace := newStoreForLargeTables(t)
			store.DB().SetMaxOpenConns(1) // the connection with the prepared statement
			exec := func(query string, args ...any) {
				t.Helper()
				if _, err := store.DB().ExecContext(context.Background(), query, args...); err != nil {
					t.Fatal(err)
				}
			}
			exec(`ALTER TABLE messages SET (autovacuum_enabled = false)`)
			exec(`SET plan_cache_mode = force_generic_plan`)
			prepare := func() {
				exec(`PREPARE last_sender AS ` + postgres.LastSenderStatement)
				exec(`EXECUTE last_sender('+14155550199', '{}')`) // makes the plan
			}
			if !analyze {
				exec(`ANALYZE`)
				prepare()
			}
			exec(`
INSERT INTO messages (id, workspace_id, sender, recipient, text, status, final_at)
SELECT lpad(to_hex(i), 32, '0')::uuid, $1::uuid, '+1415555010' || i % 3, CASE WHEN i % 2 = 0 THEN '+14165550000' ELSE '+1416' || (2000000 + i) END, '', 'failed', now() FROM generate_series(1, 20000) i`, workspace)
			if analyze {
				exec(`ANALYZE`)
				prepare()
			}
			for recipient, most := range map[string]int{"+14165550199": 10, "+14162000001": 20, "+14165550000": 40} {
				query := `EXECUTE last_sender('` + recipient + `', '{+14155550100,+14155550101}')`
				pagesRead(t, store, query) // reads the system's tables
				if pages := pagesRead(t, store, query); pages > most {
					t.Errorf("%s: got %d pages read, want at most %d", recipient, pages, most)
				}
			}
		})
	}
}

// TestCreatingUsesIndexes checks the plans of the statements that create messages.
func TestCreatingUsesIndexes(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	for name, query := range map[string]string{"messages": postgres.CreateMessagesStatement, "a batch": postgres.InsertBatchMessagesStatement} {
		plan := genericPlan(t, store, query, nulls(query))
		if strings.Contains(plan, "Seq Scan on m") || strings.Contains(plan, "Seq Scan on plivo") || !strings.Contains(plan, "messages_of_pair") {
			t.Errorf("creating %s: got a plan that does not use indexes alone:\n%s", name, plan)
		}
	}
}

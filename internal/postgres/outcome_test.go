package postgres_test

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// proxy forwards connections to the server of a database. Once cut, it breaks each
// connection instead of forwarding the server's next answer, and accepts no others.
type proxy struct {
	url      string
	cut      atomic.Bool
	onCommit func() // called before a COMMIT is forwarded, whose answer is not; nil: nothing is special
}

func newProxy(t *testing.T, database string, onCommit func(*proxy)) *proxy {
	t.Helper()
	p := &proxy{}
	if onCommit != nil {
		p.onCommit = func() { onCommit(p) }
	}
	p.url = relay(t, database, p.forward)
	return p
}

func (p *proxy) forward(client net.Conn, address string) {
	defer client.Close()
	if p.cut.Load() {
		return
	}
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	var committing atomic.Bool
	go func() {
		request := make([]byte, 64<<10)
		for {
			n, err := client.Read(request)
			if err != nil {
				server.Close()
				return
			}
			if p.onCommit != nil && bytes.Contains(request[:n], []byte("COMMIT")) {
				committing.Store(true)
				p.onCommit()
			}
			if _, err := server.Write(request[:n]); err != nil {
				return
			}
		}
	}()
	answer := make([]byte, 64<<10)
	for {
		n, err := server.Read(answer)
		if err != nil || p.cut.Load() || committing.Load() {
			return
		}
		if _, err := client.Write(answer[:n]); err != nil {
			return
		}
	}
}

func isUnknown(err error, id uuid.UUID) bool {
	var unknown mms.OutcomeUnknownError
	return errors.As(err, &unknown) && unknown.ID == id && errors.Is(err, mms.ErrUnavailable)
}

// TestLostAnswer breaks the connection between a commit and its answer.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	direct := openStore(t, database, 2, postgres.StatementTimeout)
	workspace := addUser(t, direct, "ada@example.com")
	p := newProxy(t, database, nil)
	store := openStore(t, p.url, 1, postgres.StatementTimeout)
	create(t, store, workspace) // prepares the statement

	p.cut.Store(true)
	request := withKey("once", 1, newRequest(workspace))
	if _, err := store.CreateMessage(t.Context(), request); !isUnknown(err, request.ID) {
		t.Errorf("answer lost: got error %v, want an unknown outcome", err)
	}
	unsent := newRequest(workspace)
	if _, err := store.CreateMessage(t.Context(), unsent); !errors.Is(err, mms.ErrUnavailable) || isUnknown(err, unsent.ID) {
		t.Errorf("no connection: got error %v, want ErrUnavailable and a known outcome", err)
	}
	p.cut.Store(false)
	again := withKey("once", 1, newRequest(workspace))
	var got mms.CreateResult
	var err error
	testkit.Eventually(t, "the transaction of the lost answer has ended", func() bool {
		got, err = store.CreateMessage(t.Context(), again)
		return err == nil
	})
	if got.ID != request.ID || !got.Replayed {
		t.Errorf("same key: got message %s, replayed %t, want %s", got.ID, got.Replayed, request.ID)
	}
	if n := count(t, direct, `SELECT count(*) FROM messages WHERE id = $1`, unsent.ID); n != 0 {
		t.Error("a message that was not sent to the database is stored")
	}
}

// TestLostAnswerOfABatch breaks the connection between the commit of a batch and its
// answer.
func TestLostAnswerOfABatch(t *testing.T) {
	t.Parallel()
	for name, onCommit := range map[string]func(*proxy){
		"for good": func(p *proxy) { p.cut.Store(true) },
		"once":     func(*proxy) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := testkit.Database(t)
			direct := openStore(t, database, 2, postgres.StatementTimeout)
			workspace := addUser(t, direct, "ada@example.com")
			p := newProxy(t, database, onCommit)
			store := openStore(t, p.url, 2, postgres.StatementTimeout)
			request := mms.BatchRequest{Batch: mms.Batch{ID: uuid.Must(uuid.NewV7()), Workspace: workspace, CreatedBy: workspace}}
			writer, _, err := store.BeginBatch(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			defer writer.Rollback()
			m := newRequest(workspace).Message
			m.BatchID, m.BatchRow = request.ID, 1
			if err := writer.Add(t.Context(), []mms.Message{m}); err != nil {
				t.Fatal(err)
			}
			result, err := writer.Commit(t.Context(), mms.RowErrors{})
			reachable := !p.cut.Load()
			if reachable && (err != nil || result.ID != request.ID || result.Created != 1) {
				t.Errorf("got %+v, %v, want the batch", result, err)
			}
			var unknown mms.OutcomeUnknownError
			if !reachable && (!isUnknown(err, request.ID) || !errors.As(err, &unknown) || !unknown.Batch) {
				t.Errorf("got error %v, want an unknown outcome", err)
			}
		})
	}
}

// TestLockedTable locks the table for longer than a statement may take. The server
// says that it has rolled back.
func TestLockedTable(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	store := openStore(t, database, 5, time.Second)
	workspace := addUser(t, store, "ada@example.com")
	create(t, store, workspace) // prepares the statement
	tx := lockMessageTable(t, database, "ACCESS EXCLUSIVE")
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			request := newRequest(workspace)
			if _, err := store.CreateMessage(t.Context(), request); !errors.Is(err, mms.ErrUnavailable) || isUnknown(err, request.ID) {
				t.Errorf("got error %v, want ErrUnavailable and a known outcome", err)
			}
		})
	}
	group.Wait()
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, store, `SELECT count(*) FROM messages`); n != 1 {
		t.Errorf("got %d messages, want the first", n)
	}
}

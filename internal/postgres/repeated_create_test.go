package postgres_test

import (
	"bytes"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// flakyServer forwards connections to the server of a database. When armed, the first of
// them loses the next answer and closes; the next one passes answers until it is asked
// for a message; after that, the server cannot be reached.
type flakyServer struct {
	url   string
	armed atomic.Bool
	lost  atomic.Int32 // connections that were ended since it was armed
}

func newFlakyServer(t *testing.T, database string) *flakyServer {
	t.Helper()
	f := &flakyServer{}
	f.url = relay(t, database, f.forward)
	return f
}

func (f *flakyServer) forward(client net.Conn, address string) {
	defer client.Close()
	if f.lost.Load() > 1 {
		return
	}
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer server.Close()
		request := make([]byte, 64<<10)
		for {
			n, err := client.Read(request)
			if err != nil {
				return
			}
			if f.lost.Load() == 1 && isReadOfMessage(request[:n]) {
				f.lost.Add(1)
				client.Close()
				return
			}
			if _, err := server.Write(request[:n]); err != nil {
				return
			}
		}
	}()
	answer := make([]byte, 64<<10)
	for {
		n, err := server.Read(answer)
		if err != nil {
			return
		}
		if f.armed.CompareAndSwap(true, false) {
			f.lost.Add(1)
			return
		}
		if _, err := client.Write(answer[:n]); err != nil {
			return
		}
	}
}

func isReadOfMessage(request []byte) bool {
	return bytes.Contains(request, []byte("FROM messages m WHERE m.id = $1 AND m.workspace_id = $2"))
}

// TestRepeatedCreateThatCannotBeExplained loses the answer of the statement that stores a
// message. database/sql repeats the statement, which finds the message, and then the
// database goes away. The message is stored, so the error must not say that it is not.
func TestRepeatedCreateThatCannotBeExplained(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	direct := openStore(t, database, 2, postgres.StatementTimeout)
	workspace := addUser(t, direct, "ada@example.com")
	for name, store := range map[string]func(*postgres.Store, mms.CreateRequest) error{
		"alone": func(s *postgres.Store, request mms.CreateRequest) error {
			_, err := s.CreateMessage(t.Context(), request)
			return err
		},
		"shared": func(s *postgres.Store, request mms.CreateRequest) error {
			return s.CreateShared(t.Context(), request, newRequest(workspace))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFlakyServer(t, database)
			s := openStore(t, f.url, 1, postgres.StatementTimeout)
			create(t, s, workspace) // prepares the statement
			f.armed.Store(true)
			request := newRequest(workspace)
			err := store(s, request)
			if f.lost.Load() != 2 {
				t.Fatalf("%d connections were lost, want 2 (error %v)", f.lost.Load(), err)
			}
			if n := count(t, direct, `SELECT count(*) FROM messages WHERE id = $1`, request.ID); n != 1 {
				t.Fatalf("got %d messages, want 1", n)
			}
			if !isUnknown(err, request.ID) || !errors.Is(err, mms.ErrUnavailable) {
				t.Errorf("got error %v, want an unknown outcome", err)
			}
		})
	}
}

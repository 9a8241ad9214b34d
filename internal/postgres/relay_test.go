package postgres_test

import (
	"database/sql"
	"net"
	"net/url"
	"testing"
)

// relay calls forward for each connection to the database whose URL it returns. server is
// the address of the real one.
func relay(t *testing.T, database string, forward func(client net.Conn, server string)) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	server := u.Host
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go forward(client, server)
		}
	}()
	u.Host = listener.Addr().String()
	return u.String()
}

// lockMessageTable locks the table of messages, as an operator's statement does, until the
// returned transaction or the test ends.
func lockMessageTable(t *testing.T, database, mode string) *sql.Tx {
	t.Helper()
	operator, err := sql.Open("postgres", database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { operator.Close() })
	tx, err := operator.Begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback() })
	if _, err := tx.Exec(`LOCK TABLE messages IN ` + mode + ` MODE`); err != nil {
		t.Fatal(err)
	}
	return tx
}

package postgres_test

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestStartupPacketHasNoSettings reads what a new connection sends first.
// Poolers such as PgBouncer refuse connections that set parameters there.
func TestStartupPacketHasNoSettings(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	packets := make(chan []byte, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var length uint32
		if binary.Read(conn, binary.BigEndian, &length) != nil {
			return
		}
		packet := make([]byte, length-4)
		if _, err := io.ReadFull(conn, packet); err == nil {
			packets <- packet
		}
	}()
	store := openStore(t, "postgres://ada@"+listener.Addr().String()+"/postcard?sslmode=disable", 1, time.Second)
	go func() { _ = store.Ping(t.Context()) }() // fails when the listener hangs up
	var packet []byte
	select {
	case packet = <-packets:
	case <-time.After(10 * time.Second):
		t.Fatal("got no startup packet within 10 s")
	}
	words := strings.Split(string(packet[4:]), "\x00") // after the protocol version: name, value, name, value, ...
	for i := 0; i+1 < len(words) && words[i] != ""; i += 2 {
		if !slices.Contains([]string{"user", "database", "client_encoding", "datestyle"}, words[i]) {
			t.Errorf("got setting %s=%s in the startup packet, want none", words[i], words[i+1])
		}
	}
}

func TestConnectionSettings(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	for name, tt := range map[string]struct {
		timeout         time.Duration
		statement, idle string
	}{
		"with a timeout":    {10 * time.Second, "9s", "10s"},
		"without a timeout": {0, "0", "0"},
	} {
		store, err := postgres.Open(url, 1, tt.timeout)
		if err != nil {
			t.Fatal(err)
		}
		for setting, want := range map[string]string{
			"statement_timeout": tt.statement, "idle_in_transaction_session_timeout": tt.idle, "enable_seqscan": "off", "jit": "off",
		} {
			var got string
			if err := store.DB().QueryRow(`SELECT current_setting($1)`, setting).Scan(&got); err != nil || got != want {
				t.Errorf("%s: got %s = %q, %v, want %q", name, setting, got, err, want)
			}
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

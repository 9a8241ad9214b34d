package postgres_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// withHost returns the URL with another host before its own, and more parameters.
func withHost(t *testing.T, database, host, query string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(database, u.Host, host+","+u.Host, 1) + query
}

func openOne(t *testing.T, url string) *postgres.Store {
	t.Helper()
	store := openStore(t, url, 1, postgres.StatementTimeout)
	return store
}

// TestHostsAreTriedInOrder has a first host that is no server. Once the second has
// answered, a read-write pool starts with that one.
func TestHostsAreTriedInOrder(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	for target, wantTries := range map[string]int32{"read-write": 1, "primary": 1, "any": 3} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		var tries atomic.Int32
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				tries.Add(1)
				conn.Close()
			}
		}()
		store := openOne(t, withHost(t, database, listener.Addr().String(), "&target_session_attrs="+target))
		for range 3 {
			if err := store.Ping(t.Context()); err != nil {
				t.Fatalf("%s: %v", target, err)
			}
			store.DB().SetMaxIdleConns(0) // the next ping connects again
		}
		if got := tries.Load(); got != wantTries {
			t.Errorf("%s: the first host was tried %d times, want %d", target, got, wantTries)
		}
	}
}

// TestSilentHostLeavesTimeForTheNext has a first host that accepts connections and says
// nothing, as one whose machine hangs. A request's deadline is shorter than the limit for
// connecting to one host, and must suffice to reach the second.
func TestSilentHostLeavesTimeForTheNext(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	for _, target := range []string{"read-write", "any"} {
		store := openOne(t, withHost(t, database, listener.Addr().String(), "&target_session_attrs="+target))
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if err := store.Ping(ctx); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// TestReadOnlyServerIsNotAccepted makes a database read-only, like that of a server
// which a failover has made a standby, and writable again.
func TestReadOnlyServerIsNotAccepted(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	direct := openOne(t, database)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	setReadOnly := func(value string) {
		t.Helper()
		if _, err := direct.DB().ExecContext(t.Context(), "ALTER DATABASE "+name+" SET default_transaction_read_only = "+value); err != nil {
			t.Fatal(err)
		}
	}
	setReadOnly("on")
	store := openOne(t, withHost(t, database, "127.0.0.1:1", ""))
	if err := store.Ping(t.Context()); !errors.Is(err, mms.ErrUnavailable) || !strings.Contains(err.Error(), "session is read-only") {
		t.Errorf("no writable server: got error %v, want ErrUnavailable that says it is read-only", err)
	}
	setReadOnly("off")
	if err := store.Ping(t.Context()); err != nil {
		t.Errorf("writable again: %v", err)
	}
}

// TestSettingsOfTheConnectionString are applied through a pooler too, which refuses
// them in the startup packet.
func TestSettingsOfTheConnectionString(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t) + "&work_mem=7MB&keepalives=1&pgbouncer=true&application_name=mms"
	for name, url := range map[string]string{"direct": database, "PgBouncer": testkit.PgBouncer(t, database)} {
		var setting, application string
		err := openOne(t, url).DB().QueryRow(`SELECT current_setting('work_mem'), current_setting('application_name')`).Scan(&setting, &application)
		if err != nil || setting != "7MB" || application != "mms" {
			t.Errorf("%s: got work_mem %q, application_name %q, error %v", name, setting, application, err)
		}
	}
}

// TestConnectErrors checks that errors say what to change.
func TestConnectErrors(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	server := strings.TrimSuffix(database, "?sslmode=disable")
	for name, tt := range map[string]struct{ url, want string }{
		"no TLS":            {server + "?sslmode=require", "set sslmode=disable"},
		"unknown parameter": {database + "&sslmod=x", "setting the parameters of the connection string"},
		"pooler, options":   {testkit.PgBouncer(t, database) + "&options=-c%20work_mem%3D7MB", "the connection pooler refuses a parameter"},
		"pooler is full":    {testkit.PgBouncer(t, database, "max_client_conn = 0"), "the connection pooler has no free connection"},
	} {
		err := openOne(t, tt.url).Ping(t.Context())
		if !errors.Is(err, mms.ErrUnavailable) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want ErrUnavailable that says %q", name, err, tt.want)
		}
	}
}

func TestNoFreeConnection(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	direct := openOne(t, database)
	if _, err := direct.DB().Exec("CREATE ROLE " + limitedRole + " LOGIN PASSWORD 'secret' CONNECTION LIMIT 1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = direct.DB().Exec("DROP ROLE " + limitedRole) })
	u.User = url.UserPassword(limitedRole, "secret")
	if err := openOne(t, u.String()).Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = openOne(t, u.String()).Ping(t.Context())
	if !errors.Is(err, mms.ErrUnavailable) || !strings.Contains(err.Error(), "the server has no free connection; lower DATABASE_MAX_CONNECTIONS") {
		t.Errorf("got error %v, want ErrUnavailable with a plain word", err)
	}
}

const limitedRole = "limited"

// TestChannelBindingChecksTheCertificate has a server whose certificate only its own CA
// file knows. The driver cannot bind the login to the certificate, so that with
// channel_binding=require the password must not be sent before the certificate and its
// name are verified.
func TestChannelBindingChecksTheCertificate(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1
	web.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	logins := make(chan bool, 2) // whether a client went on after the handshake
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			logins <- answerTLS(conn, web.TLS)
		}
	}()
	for name, tt := range map[string]struct {
		query     string
		wantLogin bool
		wantErr   string
	}{
		"unknown certificate": {"&channel_binding=require", false, "the server's certificate cannot be verified"},
		"another name":        {"&channel_binding=require&host=localhost&sslrootcert=" + ca, false, "the server's certificate cannot be verified"},
		"verified":            {"&channel_binding=require&sslrootcert=" + ca, true, ""},
		"not asked for":       {"", true, ""},
	} {
		err := openOne(t, "postgres://ada:secret@"+listener.Addr().String()+"/postcard?sslmode=require"+tt.query).Ping(t.Context())
		if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
			t.Errorf("%s: got error %v, want one that says %q", name, err, tt.wantErr)
		}
		if got := <-logins; got != tt.wantLogin {
			t.Errorf("%s: logged in: got %v, want %v", name, got, tt.wantLogin)
		}
	}
}

// answerTLS takes a request for TLS, and reports whether the client sends anything after
// the handshake. Then it hangs up.
func answerTLS(conn net.Conn, config *tls.Config) bool {
	defer conn.Close()
	request := make([]byte, 8)
	if _, err := io.ReadFull(conn, request); err != nil {
		return false
	}
	if _, err := conn.Write([]byte("S")); err != nil {
		return false
	}
	n, err := tls.Server(conn, config).Read(request)
	return err == nil && n > 0
}

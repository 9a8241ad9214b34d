package queue

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// The user of the tests has a password that must be percent-encoded. The default user
// has another one.
const (
	accounts = "user default on >other ~* &* +@all\nuser postcard on >p@ss/w:rd% ~* &* +@all"
	login    = "postcard:p%40ss%2Fw%3Ard%25"
)

// wantWorking checks that a client, a server and the dashboard work at the URL.
func wantWorking(t *testing.T, url string) {
	t.Helper()
	c, err := Open(url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	client := NewClient(c)
	testkit.Eventually(t, "Redis accepts writes", func() bool { return client.CheckWritable(t.Context()) == nil })
	processed := serve(t, c, testInterval)
	task := mms.Task{MessageID: uuid.New(), Generation: 1, Priority: mms.Normal}
	if err := client.Enqueue(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	wantProcessed(t, processed, task.MessageID)
	// The dashboard has connections of its own.
	dashboard := NewDashboard(c, "", "/q", false)
	t.Cleanup(func() { dashboard.Close() })
	for _, path := range []string{"/q/api/queues", "/q/api/redis_info"} {
		w := httptest.NewRecorder()
		dashboard.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if w.Code != http.StatusOK {
			t.Errorf("%s: got %d %s, want 200", path, w.Code, w.Body)
		}
	}
}

func TestURLForms(t *testing.T) {
	t.Parallel()
	t.Run("user and password", func(t *testing.T) {
		t.Parallel()
		wantWorking(t, fmt.Sprintf("redis://%s@%s/3", login, testkit.StartRedisServer(t, accounts).Addr()))
	})
	t.Run("password only", func(t *testing.T) {
		t.Parallel()
		wantWorking(t, fmt.Sprintf("redis://:other@%s", testkit.StartRedisServer(t, "requirepass other").Addr()))
	})
	t.Run("IPv6", func(t *testing.T) {
		t.Parallel()
		server := testkit.StartRedisServer(t, "bind 127.0.0.1 ::1", accounts)
		wantWorking(t, fmt.Sprintf("redis://%s@[::1]:%d", login, server.Port))
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		server := testkit.StartRedisServer(t, append(tlsLines(t), accounts)...)
		wantWorking(t, fmt.Sprintf("rediss://%s@localhost:%d/1", login, server.Port))
	})
	for _, scheme := range []string{"unix", "redis-socket"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(testkit.StateDir(t), "redis.sock")
			testkit.StartRedisServer(t, "unixsocket "+socket, accounts)
			wantWorking(t, fmt.Sprintf("%s://%s@%s?db=2", scheme, login, socket))
		})
	}
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		master := testkit.StartRedisServer(t, accounts)
		sentinels := startSentinels(t, master, "user default on >guard ~* &* +@all", "user scout on >s/cret ~* &* +@all")
		wantWorking(t, fmt.Sprintf("redis-sentinel://%s@%s/4?master=mymaster&sentinel_username=scout&sentinel_password=s%%2Fcret", login, sentinels))
		wantWorking(t, fmt.Sprintf("redis-sentinel://%s@%s?master=mymaster&sentinel_password=guard", login, sentinels))
	})
	t.Run("Sentinel with one password", func(t *testing.T) {
		t.Parallel()
		master := testkit.StartRedisServer(t, "requirepass other")
		wantWorking(t, fmt.Sprintf("redis-sentinel://:other@%s/4?master=mymaster", startSentinels(t, master, "requirepass other")))
	})
	t.Run("Sentinel with a password of its own only", func(t *testing.T) {
		t.Parallel()
		master := testkit.StartRedisServer(t)
		wantWorking(t, fmt.Sprintf("redis-sentinel://:guard@%s?master=mymaster", startSentinels(t, master, "requirepass guard")))
	})
	t.Run("Sentinel without a password", func(t *testing.T) {
		t.Parallel()
		master := testkit.StartRedisServer(t, accounts)
		wantWorking(t, fmt.Sprintf("redis-sentinel://%s@%s?master=mymaster", login, startSentinels(t, master)))
	})
	t.Run("Sentinel over TLS", func(t *testing.T) {
		t.Parallel()
		lines := append(tlsLines(t), "tls-replication yes", accounts)
		master := testkit.StartRedisServer(t, lines...)
		wantWorking(t, fmt.Sprintf("rediss-sentinel://%s@%s?master=mymaster", login, startSentinels(t, master, append(tlsLines(t), "tls-replication yes")...)))
	})
}

// startSentinels starts two sentinels of a master and returns their addresses. The
// first in the list does not exist.
func startSentinels(t *testing.T, master *testkit.RedisServer, lines ...string) string {
	t.Helper()
	addresses := []string{"127.0.0.1:1"}
	for range 2 {
		s := testkit.StartSentinel(t, append(lines,
			fmt.Sprintf("sentinel monitor mymaster 127.0.0.1 %d 2", master.Port),
			"sentinel auth-pass mymaster other")...)
		addresses = append(addresses, s.Addr())
	}
	return strings.Join(addresses, ",")
}

// tlsLines returns the configuration of a server that speaks only TLS, on port PORT.
// TestMain has this process trust its certificate.
func tlsLines(t *testing.T) []string {
	t.Helper()
	return []string{"port 0", "tls-port PORT", "tls-auth-clients no", "tls-cert-file " + certificateFile, "tls-key-file " + certificateFile, "tls-ca-cert-file " + certificateFile}
}

var certificateFile string

// createCertificate creates a certificate of localhost, with its key, and has this
// process trust it as an operator does: crypto/x509 reads SSL_CERT_FILE once.
func createCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Redis of a test"}, NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return err
	}
	keyBytes, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	certificateFile = filepath.Join(dir, "redis.pem")
	content := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyBytes})...)
	if err := os.WriteFile(certificateFile, content, 0o600); err != nil {
		return err
	}
	return os.Setenv("SSL_CERT_FILE", certificateFile)
}

// problemAt returns the problem of a command at the URL.
func problemAt(t *testing.T, url string) *problem {
	t.Helper()
	c, err := Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return problemOf(NewClient(c).CheckWritable(context.Background()))
}

func TestProblems(t *testing.T) {
	t.Parallel()
	locked := testkit.StartRedisServer(t, accounts+"\nuser limited on >x ~* &* +@all -eval").Addr()
	open := testkit.StartRedisServer(t)
	replica := testkit.StartRedisServer(t, fmt.Sprintf("replicaof 127.0.0.1 %d", open.Port))
	sentinel := testkit.StartSentinel(t, fmt.Sprintf("sentinel monitor mymaster 127.0.0.1 %d 1", open.Port))
	encrypted := testkit.StartRedisServer(t, append(tlsLines(t), "bind 127.0.0.1 127.0.0.2")...)
	for name, tt := range map[string]struct {
		url  string
		want *problem
	}{
		"certificate of another host": {fmt.Sprintf("rediss://127.0.0.2:%d", encrypted.Port), tlsFailed},
		"TLS without a TLS server":    {"rediss://" + open.Addr(), unreachable},
		"no TLS at a TLS server":      {"redis://" + encrypted.Addr(), unreachable},
		"no password":                 {"redis://" + locked, problems["NOAUTH"]},
		"no password, database":       {"redis://" + locked + "/2", problems["NOAUTH"]},
		"wrong password":              {"redis://postcard:hush@" + locked, problems["WRONGPASS"]},
		"wrong user":                  {"redis://nobody:hush@" + locked, problems["WRONGPASS"]},
		"no permission":               {"redis://limited:x@" + locked, problems["NOPERM"]},
		"unknown database":            {"redis://" + open.Addr() + "/16", noDatabase},
		"replica":                     {"redis://" + replica.Addr(), problems["READONLY"]},
		"full":                        {"redis://" + testkit.StartRedisServer(t, "maxmemory 1").Addr(), problems["OOM"]},
		"too few replicas":            {"redis://" + testkit.StartRedisServer(t, "min-replicas-to-write 1").Addr(), problems["NOREPLICAS"]},
		"cluster":                     {"redis://" + testkit.StartRedisServer(t, "cluster-enabled yes").Addr(), problems["CLUSTERDOWN"]},
		"cluster, database":           {"redis://" + testkit.StartRedisServer(t, "cluster-enabled yes").Addr() + "/2", cluster},
		"a sentinel":                  {"redis://" + sentinel.Addr(), noServer},
		"unknown master":              {"redis-sentinel://" + sentinel.Addr() + "?master=another", noMaster},
		"nobody listens":              {"redis://127.0.0.1:1", unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := problemAt(t, tt.url); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

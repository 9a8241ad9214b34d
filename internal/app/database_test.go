package app

import (
	"log/slog"
	"testing"

	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestMain starts the servers of the package's tests.
func TestMain(m *testing.M) { testkit.Main(m) }

// TestStartOutlastsLostConnections loses connections to the database after the first one,
// as a failover during the start does.
func TestStartOutlastsLostConnections(t *testing.T) {
	t.Parallel()
	const lost = 12 // more than the driver tries by itself
	database := testkit.Database(t)
	proxy := testkit.StartProxy(t, testkit.HostOf(t, database))
	proxy.CloseAtOnce(2, 1+lost)
	c := config.Shared{OptOutScope: "all", DatabaseURL: config.Secret(proxy.URL(t, database))}
	c.DatabaseListenURL = c.DatabaseURL
	store, err := openStore(t.Context(), c, connections{max: 4}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("after %d connections: got error %v, want none", proxy.Accepted(), err)
	}
	t.Cleanup(func() { store.Close() })
	if n := proxy.Accepted(); n <= 1+lost {
		t.Errorf("got %d connections, want more than the %d that were to be lost", n, 1+lost)
	}
}

package postgres_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/postgres"
)

// connection is what a connection string says.
type connection struct {
	Host, User, Password, Database string
	Port                           uint16
	Others                         []pq.ConfigMultihost
	SSLMode, SSLRootCert           string
	Target                         string
	Options, ApplicationName       string
	Timeout                        time.Duration
	Settings                       map[string]string
}

func TestConnectionStrings(t *testing.T) {
	t.Parallel()
	plain := connection{Host: "db.example.com", Port: 5432, User: "ada", Password: "secret", Database: "postcard", SSLMode: "require", Timeout: 10 * time.Second, Settings: map[string]string{}}
	with := func(change func(*connection)) connection {
		c := plain
		change(&c)
		return c
	}
	for name, tt := range map[string]struct {
		url  string
		want connection
	}{
		"postgresql scheme": {"postgresql://ada:secret@db.example.com:5432/postcard?sslmode=require", plain},
		"white space":       {" postgres://ada:secret@db.example.com/postcard?sslmode=require\n", plain},
		"list":              {"host=db.example.com user = ada password=secret dbname=postcard sslmode=require", plain},
		"quoted list": {`host=db.example.com user=ada password='it\'s \\ secret' dbname=postcard sslmode=require`,
			with(func(c *connection) { c.Password = `it's \ secret` })},
		"encoded password": {"postgres://ada:p%40%2F%3F%23%25%27%20s@db.example.com/postcard?sslmode=require",
			with(func(c *connection) { c.Password = "p@/?#%' s" })},
		"password with @, # and colon": {"postgres://ada:p@ss#:@db.example.com/postcard?sslmode=require",
			with(func(c *connection) { c.Password = "p@ss#:" })},
		"several hosts": {"postgres://ada:secret@h1:1,h2,[2001:db8::1]:3/postcard?sslmode=require&target_session_attrs=read-write",
			with(func(c *connection) {
				c.Host, c.Port, c.Target = "h1", 1, "read-write"
				c.Others = []pq.ConfigMultihost{{Host: "h2", Port: 5432}, {Host: "2001:db8::1", Port: 3}}
			})},
		"several hosts without target": {"postgres://ada:secret@h1,h2/postcard?sslmode=require&load_balance_hosts=disable",
			with(func(c *connection) {
				c.Host, c.Target = "h1", "read-write"
				c.Others = []pq.ConfigMultihost{{Host: "h2", Port: 5432}}
			})},
		"several hosts as parameters": {"postgres://ada:secret@/postcard?host=h1,h2&port=5432,5433&sslmode=require&target_session_attrs=any",
			with(func(c *connection) {
				c.Host, c.Target = "h1", "any"
				c.Others = []pq.ConfigMultihost{{Host: "h2", Port: 5433}}
			})},
		"IPv6": {"postgres://ada:secret@[2001:db8::1]/postcard?sslmode=require", with(func(c *connection) { c.Host = "2001:db8::1" })},
		"socket": {"postgres:///postcard?host=/var/run/postgresql&user=ada&password=secret",
			with(func(c *connection) { c.Host, c.SSLMode = "/var/run/postgresql", "disable" })},
		"encoded socket": {"postgres://ada:secret@%2Fvar%2Frun%2Fpostgresql/postcard",
			with(func(c *connection) { c.Host, c.SSLMode = "/var/run/postgresql", "disable" })},
		"Neon": {"postgresql://ada:secret@db.example.com/postcard?sslmode=require&channel_binding=require&options=endpoint%3Dep-cool-1",
			with(func(c *connection) { c.SSLMode, c.Options = "verify-full", "endpoint=ep-cool-1" })},
		"channel binding preferred": {"postgres://ada:secret@db.example.com/postcard?sslmode=require&channel_binding=prefer", plain},
		"Prisma": {"postgresql://ada:secret@db.example.com:5432/postcard?pgbouncer=true&connection_limit=1&pool_timeout=0&schema=public&sslmode=require",
			plain},
		"Prisma with a schema": {"postgresql://ada:secret@db.example.com:5432/postcard?schema=mms&sslmode=require",
			with(func(c *connection) { c.Settings = map[string]string{"search_path": "mms"} })},
		"Supabase": {"postgres://ada.ref:secret@db.example.com:5432/postcard?sslmode=require&supa=base-pooler.x",
			with(func(c *connection) { c.User = "ada.ref" })},
		"Azure":           {"postgres://ada@server:secret@db.example.com/postcard?sslmode=require", with(func(c *connection) { c.User = "ada@server" })},
		"user parameter":  {"postgres://db.example.com/postcard?user=ada@server&password=secret&sslmode=require", with(func(c *connection) { c.User = "ada@server" })},
		"node-postgres":   {"postgres://ada:secret@db.example.com/postcard?sslmode=no-verify", plain},
		"ssl=true":        {"postgres://ada:secret@db.example.com/postcard?ssl=true", plain},
		"sslmode=prefer":  {"postgres://ada:secret@db.example.com/postcard?sslmode=prefer", with(func(c *connection) { c.SSLMode = "prefer" })},
		"sslmode=allow":   {"postgres://ada:secret@db.example.com/postcard?sslmode=allow", with(func(c *connection) { c.SSLMode = "allow" })},
		"system's CAs":    {"postgres://ada:secret@db.example.com/postcard?sslrootcert=system", with(func(c *connection) { c.SSLMode, c.SSLRootCert = "verify-full", "system" })},
		"other libpq":     {"postgres://ada:secret@db.example.com/postcard?sslmode=require&gssencmode=disable&keepalives=1&keepalives_idle=5&keepalives_interval=1&keepalives_count=3&tcp_user_timeout=9", plain},
		"timeout, name":   {"postgres://ada:secret@db.example.com/postcard?sslmode=require&connect_timeout=3&application_name=mms%20a+b", with(func(c *connection) { c.Timeout, c.ApplicationName = 3*time.Second, "mms a+b" })},
		"server settings": {"postgres://ada:secret@db.example.com/postcard?sslmode=require&work_mem=8MB", with(func(c *connection) { c.Settings = map[string]string{"work_mem": "8MB"} })},
	} {
		config, err := postgres.ParseURL(tt.url)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := connection{
			Host: config.Host, User: config.User, Password: config.Password, Database: config.Database, Port: config.Port, Others: config.Multi,
			SSLMode: string(config.SSLMode), SSLRootCert: config.SSLRootCert, Target: string(config.TargetSessionAttrs), Options: config.Options,
			ApplicationName: config.ApplicationName, Timeout: config.ConnectTimeout, Settings: config.Runtime,
		}
		if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestConnectionStringErrors has a part of a password, "hush", in strings that cannot
// be used.
func TestConnectionStringErrors(t *testing.T) {
	t.Parallel()
	const unescaped = "write %40 for @"
	for url, want := range map[string]string{
		"postgres://ada:12/hush@db.example.com/postcard":                   unescaped,
		"postgres://ada:pa/hush@db.example.com/postcard":                   unescaped,
		"postgres://ada:p@/hush@db.example.com/postcard":                   unescaped,
		"postgres://ada:12?hush@db.example.com/postcard":                   unescaped,
		"postgres://ada:12?hush=1@db.example.com/postcard?sslmode=require": unescaped,
		"postgres://ada:pa?hush@db.example.com:5432/postcard":              unescaped,
		"postgres://ada:100%hush@db.example.com/postcard":                  unescaped,
		"postgres://ada:pa@hush:x@db.example.com:hush/postcard":            unescaped,
		"postgres://ada:pa@db.example.com/postcard#hush":                   unescaped,
		"postgres://db.example.com:hush/postcard":                          unescaped,
		"mysql://ada:hush@db.example.com/postcard":                         "must be a URL that starts with postgres:// or postgresql://",
		"hush": "must be a URL that starts with postgres:// or postgresql://",
		"psql 'postgres://ada:hush@db.example.com/postcard'":           "must be a URL that starts with postgres:// or postgresql://",
		"host=db.example.com password=pa hush":                         "between single quotes",
		"host=db.example.com password='pa hush":                        "between single quotes",
		"postgres://h/postcard?sslmode=hush":                           "sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full",
		"postgres://h/postcard?target_session_attrs=standby":           "target_session_attrs must be any, read-write or primary",
		"postgres://h/postcard?channel_binding=hush":                   "channel_binding must be disable, prefer or require",
		"postgres://h/postcard?channel_binding=require&sslmode=prefer": "channel_binding=require needs TLS",
		"postgres://h/postcard?gssencmode=require":                     "gssencmode=require is not supported",
		"postgres://h/postcard?sslrootcert=system&sslmode=require":     "sslrootcert=system needs sslmode=verify-full",
		"postgres://h/postcard?connect_timeout=hush":                   "parameter connect_timeout has a value that cannot be used",
		"postgres://h1:1,h2:2/postcard?port=1,2,3":                     "as many ports as hosts",
	} {
		_, err := postgres.ParseURL(url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one that contains %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: the error shows a part of it: %v", url, err)
		}
	}
}

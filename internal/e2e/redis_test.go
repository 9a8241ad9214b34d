package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// redisRights are those that the README gives to Postcard's user.
const redisRights = "resetchannels ~asynq:* ~postcard:* &asynq:* &postcard:* +auth +hello +select +ping +info " +
	"+@string +@hash +@list +@set +@sortedset +@pubsub +eval +evalsha +del +exists +type +expire +expireat +memory|usage"

func TestRedisRightsInReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(strings.Fields(strings.ReplaceAll(string(readme), "\\\n", " ")), " "); !strings.Contains(text, redisRights) {
		t.Errorf("README.md does not have the rights %s", redisRights)
	}
}

// limitedRedis starts a Redis whose user postcard has the password secret and the given
// rights, and returns it with a client of its administrator.
func limitedRedis(t *testing.T, rights string, lines ...string) (*testkit.RedisServer, *redis.Client) {
	t.Helper()
	server := testkit.StartRedisServer(t, append(lines, "user default on >other -@all", "user admin on >admin ~* &* +@all", "user postcard on >secret "+rights)...)
	admin := redis.NewClient(&redis.Options{Addr: server.Addr(), Username: "admin", Password: "admin"})
	t.Cleanup(func() { admin.Close() })
	return server, admin
}

// redisCounts returns how many commands Redis has received from others, rejected ones
// included, and for how many seconds it has run.
func redisCounts(t *testing.T, admin *redis.Client) (commands, seconds int) {
	t.Helper()
	info, err := admin.Do(t.Context(), "INFO", "everything").Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile(`cmdstat_(\S+):calls=(\d+),.*rejected_calls=(\d+)`).FindAllStringSubmatch(info, -1) {
		if found[1] == "info" {
			continue
		}
		calls, _ := strconv.Atoi(found[2])
		rejected, _ := strconv.Atoi(found[3])
		commands += calls + rejected
	}
	seconds, _ = strconv.Atoi(regexp.MustCompile(`uptime_in_seconds:(\d+)`).FindStringSubmatch(info)[1])
	return commands, seconds
}

// TestRedisThatRejectsEverything breaks Redis for a worker, which must try again with
// pauses, say once what is wrong, and go on when that is mended.
func TestRedisThatRejectsEverything(t *testing.T) {
	t.Parallel()
	const all = "~* &* +@all"
	for name, tt := range map[string]struct {
		login  string
		rights string
		lines  []string
		says   string // in the log, once
		mend   []any
	}{
		"no password":    {"", all, nil, "Redis requires a password", []any{"ACL", "SETUSER", "default", "nopass", "~*", "&*", "+@all"}},
		"wrong password": {"postcard:hush@", all, nil, "Redis rejects the user name or the password", []any{"ACL", "SETUSER", "postcard", ">hush"}},
		"no scripts":     {"postcard:secret@", all + " -@scripting", nil, "the Redis user of REDIS_URL lacks a permission", []any{"ACL", "SETUSER", "postcard", "+@all"}},
		"no new scripts": {"postcard:secret@", all + " -eval", nil, "the Redis user of REDIS_URL lacks a permission", []any{"ACL", "SETUSER", "postcard", "+@all"}},
		"no keys":        {"postcard:secret@", "~other:* &* +@all", nil, "the Redis user of REDIS_URL lacks a permission", []any{"ACL", "SETUSER", "postcard", "~*"}},
		"full":           {"postcard:secret@", all, []string{"maxmemory 1"}, "Redis is full", []any{"CONFIG", "SET", "maxmemory", "0"}},
		"read-only":      {"postcard:secret@", all, []string{"replicaof 127.0.0.1 1"}, "Redis is read-only", []any{"REPLICAOF", "NO", "ONE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, admin := limitedRedis(t, tt.rights, tt.lines...)
			r := newRigOn(t, plivosim.Config{}, testkit.Database(t), fmt.Sprintf("redis://%s%s/2", tt.login, server.Addr()))
			messages := r.create(3)
			w := r.worker("", "LOG_FORMAT=json")
			w.awaitLog(tt.says)
			testkit.Eventually(t, "the worker is not ready because of Redis", func() bool {
				status, body, err := get(t.Context(), w.metrics+"/readyz")
				return err == nil && status == http.StatusServiceUnavailable && strings.Contains(body, `"redis":"down"`)
			})
			api := r.start("api", "API_ADDR=127.0.0.1:0", "LOG_FORMAT=json")
			testkit.Eventually(t, "the api is ready and reports Redis", func() bool {
				status, body, err := get(t.Context(), api.metrics+"/readyz")
				return err == nil && status == http.StatusOK && strings.Contains(body, `"redis":"down"`)
			})
			api.awaitLog(tt.says)
			// Both had time for more than their first attempts.
			const seconds, limit = 4, 200 // 10,170 a second before there were pauses
			before, start := redisCounts(t, admin)
			var after, end int
			testkit.Eventually(t, "some seconds pass at Redis", func() bool {
				after, end = redisCounts(t, admin)
				return end >= start+seconds
			})
			t.Logf("%d commands a second", (after-before)/(end-start))
			if after-before > limit*(end-start) {
				t.Errorf("got %d commands in %d s, want at most %d a second", after-before, end-start, limit)
			}
			if err := admin.Do(t.Context(), tt.mend...).Err(); err != nil {
				t.Fatal(err)
			}
			w.awaitLog("Redis works again")
			r.wantAllDelivered(messages)
			testkit.Eventually(t, "the worker is ready", func() bool {
				status, _, err := get(t.Context(), w.metrics+"/readyz")
				return err == nil && status == http.StatusOK
			})
			wantCleanLog(t, w, tt.says)
			wantCleanLog(t, api, tt.says)
		})
	}
}

// wantCleanLog checks that a process logged only JSON, no password, and a text once or,
// for a lacking permission, once for each command.
func wantCleanLog(t *testing.T, p *process, says string) {
	t.Helper()
	content, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	times, commands := 0, map[string]bool{}
	for line := range strings.Lines(string(content)) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("a line of the log is not JSON: %s", line)
		}
		if strings.Contains(line, "hush") || strings.Contains(line, "secret") {
			t.Errorf("a line of the log has a password: %s", line)
		}
		if strings.Contains(line, `"msg":"`+says) {
			times++
			_, err, _ := strings.Cut(line, `"error":`)
			commands[err] = true
		}
	}
	if times == 0 || times > len(commands) {
		t.Errorf("got %q %d times in the log, want it once:\n%s", says, times, content)
	}
}

func TestRedisUserWithLeastRights(t *testing.T) {
	t.Parallel()
	server, admin := limitedRedis(t, redisRights)
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), fmt.Sprintf("redis://postcard:secret@%s/2", server.Addr()))
	messages := r.create(20)
	w := r.worker("")
	w.awaitLog("worker started")
	r.wantAllDelivered(append(messages, r.createTo("+14165551906")))
	log, err := admin.Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil || len(log) > 0 {
		t.Errorf("got rejected commands %v, %v, want none", log, err)
	}
}

func TestEvictionPolicyIsReported(t *testing.T) {
	t.Parallel()
	server := testkit.StartRedisServer(t, "maxmemory-policy allkeys-lru")
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), "redis://"+server.Addr())
	r.worker("").awaitLog("Set maxmemory-policy to noeviction")
	r.start("api", "API_ADDR=127.0.0.1:0").awaitLog("Set maxmemory-policy to noeviction")
}

// TestSentinelFailover kills the master under load. Sentinels and servers have different
// passwords.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	lines := []string{"user default on >other ~* &* +@all", "user postcard on >secret ~* &* +@all", "masterauth other", "repl-diskless-sync-delay 0"}
	master := testkit.StartRedisServer(t, lines...)
	replica := testkit.StartRedisServer(t, append(lines, fmt.Sprintf("replicaof 127.0.0.1 %d", master.Port))...)
	admin := redis.NewClient(&redis.Options{Addr: replica.Addr(), Password: "other"})
	defer admin.Close()
	testkit.Eventually(t, "the replica is in sync", func() bool {
		info, err := admin.Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
	var sentinels []string
	for range 3 {
		s := testkit.StartSentinel(t, fmt.Sprintf("sentinel monitor mymaster 127.0.0.1 %d 2", master.Port),
			"sentinel auth-pass mymaster other", "sentinel down-after-milliseconds mymaster 1000", "sentinel failover-timeout mymaster 3000", "requirepass guard")
		sentinels = append(sentinels, s.Addr())
		guard := redis.NewSentinelClient(&redis.Options{Addr: s.Addr(), Password: "guard"})
		defer guard.Close()
		testkit.Eventually(t, "the sentinel knows the replica", func() bool {
			replicas, err := guard.Replicas(t.Context(), "mymaster").Result()
			return err == nil && len(replicas) == 1
		})
	}
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t),
		fmt.Sprintf("redis-sentinel://postcard:secret@%s/2?master=mymaster&sentinel_password=guard", strings.Join(sentinels, ",")))
	w := r.worker("")
	w.awaitLog("worker started")
	messages := r.create(100)
	testkit.Eventually(t, "some messages are sent", func() bool { return len(r.sim.Ledger()) > 5 })
	master.Kill()
	for i := range 40 {
		messages = append(messages, r.createTo(fmt.Sprintf("+1416%07d", 5552000+i)))
	}
	w.awaitLog("Redis works again")
	r.wantAllDelivered(messages)
}

// switchable is one address that leads to one server and then to another, as a service
// of a managed Redis does in a failover. Open connections stay where they are.
type switchable struct {
	listener net.Listener
	mu       sync.Mutex
	target   string
}

func newSwitchable(t *testing.T, target string) *switchable {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s := &switchable{listener: listener, target: target}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go s.forward(client)
		}
	}()
	return s
}

func (s *switchable) switchTo(target string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = target
}

func (s *switchable) forward(client net.Conn) {
	defer client.Close()
	s.mu.Lock()
	target := s.target
	s.mu.Unlock()
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}

// TestFailoverBehindOneAddress leaves the former master running, as a replica, so that
// no connection ends.
func TestFailoverBehindOneAddress(t *testing.T) {
	t.Parallel()
	former, next := testkit.StartRedisServer(t), testkit.StartRedisServer(t)
	address := newSwitchable(t, former.Addr())
	r := newRigOn(t, plivosim.Config{}, testkit.Database(t), "redis://"+address.listener.Addr().String())
	w := r.worker("")
	w.awaitLog("worker started")
	messages := r.create(50)
	testkit.Eventually(t, "some messages are sent", func() bool { return len(r.sim.Ledger()) > 5 })
	admin := redis.NewClient(&redis.Options{Addr: former.Addr()})
	defer admin.Close()
	address.switchTo(next.Addr())
	if err := admin.ReplicaOf(t.Context(), "127.0.0.1", strconv.Itoa(next.Port)).Err(); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		messages = append(messages, r.createTo(fmt.Sprintf("+1416%07d", 5553000+i)))
	}
	r.wantAllDelivered(messages)
	if status, body, err := get(t.Context(), w.metrics+"/readyz"); err != nil || status != http.StatusOK {
		t.Errorf("got %d %s %v, want a ready worker", status, body, err)
	}
}

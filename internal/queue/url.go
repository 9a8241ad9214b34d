package queue

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Limits for a Redis that is down or does not respond.
const (
	dialTimeout     = time.Second
	responseTimeout = time.Second
)

// connectionLifetime limits how long a connection is used. After a failover behind one
// address, connections to the former master would otherwise live on.
const connectionLifetime = 5 * time.Minute

// maxRetries is how often go-redis repeats a command after a network error.
const maxRetries = 1

// target says where and how to connect: exactly one field is set.
type target struct {
	server   *redis.Options
	sentinel *redis.FailoverOptions
}

// The errors of parseURL name the part of REDIS_URL and its rule, never a value: in a
// URL that is not valid, any part may contain the password.
var (
	errURLScheme   = errors.New("REDIS_URL must start with redis://, rediss://, unix:// or redis-sentinel://")
	errURLEncoding = errors.New("REDIS_URL: the user name and the password must be percent-encoded, for example %40 for @, %2F for /, %3A for :, %25 for %")
	errURLHost     = errors.New("REDIS_URL: what follows the user name and password must be host or host:port, with a port from 1 to 65535 and an IPv6 address in brackets")
	errURLSentinel = errors.New("REDIS_URL: redis-sentinel:// needs the addresses of the sentinels, separated by commas, and the name of their master, like redis-sentinel://host1:26379,host2:26379/0?master=mymaster")
	errURLSocket   = errors.New("REDIS_URL: a socket needs an absolute path, like unix:///run/redis/redis.sock?db=0")
	errURLDatabase = errors.New("REDIS_URL: the database, which is the path or the parameter db, must be a number from 0")
	errURLQuery    = errors.New("REDIS_URL: a parameter after the question mark is unknown or has a value that is not valid")
)

// parseURL reads the forms of REDIS_URL:
//
//	redis://[[user]:password@]host[:port][/database]
//	rediss://...                                        the same over TLS
//	unix://[[user]:password@]/path/of/socket[?db=database]
//	redis-sentinel://[[user]:password@]host[:port][,host[:port]...][/database]?master=name
//	rediss-sentinel://...                               the same over TLS
//
// The user and password are those of the servers. The sentinels' own are the parameters
// sentinel_username and sentinel_password. A password without a user name also goes to
// the sentinels, as asynq sends it; servers and sentinels without a password accept it.
// redis-socket:// is another name of unix://.
func parseURL(text string) (target, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return target{}, errURLScheme
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	user, hosts := "", authority
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		user, hosts = authority[:i+1], authority[i+1:]
	}
	if misplaced := user == "" && strings.Contains(tail, "@") && !strings.Contains(tail, "sentinel_"); misplaced {
		return target{}, errURLEncoding
	}
	if _, err := url.Parse("redis://" + user + "host"); err != nil {
		return target{}, errURLEncoding
	}
	switch scheme {
	case "redis", "rediss":
		return parseServer(scheme+"://"+user, hosts, tail)
	case "unix", "redis-socket":
		return parseSocket("unix://"+user, hosts, tail)
	case "redis-sentinel":
		return parseSentinels("redis://"+user, hosts, tail)
	case "rediss-sentinel":
		return parseSentinels("rediss://"+user, hosts, tail)
	default:
		return target{}, errURLScheme
	}
}

func parseServer(start, host, tail string) (target, error) {
	if _, err := addressOf(host, "6379"); err != nil {
		return target{}, err
	}
	o, err := redis.ParseURL(start + host + tail)
	if err != nil || o.DB < 0 {
		return target{}, explainTail(tail)
	}
	return target{server: withDefaults(o)}, nil
}

func parseSocket(start, host, tail string) (target, error) {
	if host != "" || !strings.HasPrefix(tail, "/") {
		return target{}, errURLSocket
	}
	o, err := redis.ParseURL(start + tail)
	if err != nil || o.DB < 0 {
		return target{}, explainTail("/" + tail[strings.IndexAny(tail+"?", "?"):])
	}
	return target{server: withDefaults(o)}, nil
}

// parseSentinels leaves most to go-redis, which has another form of this URL: one host,
// whose user and password are the sentinels', and the rest as parameters.
func parseSentinels(start, hosts, tail string) (target, error) {
	u, err := url.Parse(start + "host" + tail)
	if err != nil {
		return target{}, explainTail(tail)
	}
	query := u.Query()
	var addresses []string
	for host := range strings.SplitSeq(hosts, ",") {
		address, err := addressOf(host, "26379")
		if err != nil {
			return target{}, err
		}
		addresses = append(addresses, address)
	}
	master := cmp.Or(query.Get("master"), query.Get("master_name"))
	if hosts == "" || master == "" {
		return target{}, errURLSentinel
	}
	sentinelUser, sentinelPassword := query.Get("sentinel_username"), query.Get("sentinel_password")
	for _, name := range []string{"master", "master_name", "sentinel_username", "sentinel_password"} {
		query.Del(name)
	}
	u.RawQuery = query.Encode()
	o, err := redis.ParseFailoverURL(u.String())
	if err != nil || o.DB < 0 {
		return target{}, explainTail(tail)
	}
	o.MasterName, o.SentinelAddrs = master, addresses
	o.Username, o.Password = o.SentinelUsername, o.SentinelPassword
	if sentinelPassword != "" || o.Username != "" {
		o.SentinelUsername, o.SentinelPassword = sentinelUser, sentinelPassword
	}
	if o.TLSConfig != nil {
		o.TLSConfig.ServerName = "" // crypto/tls then expects each server's own name
	}
	server := withDefaults(&redis.Options{
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ConnMaxLifetime: o.ConnMaxLifetime, MaxRetries: o.MaxRetries,
	})
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = server.DialTimeout, server.ReadTimeout, server.WriteTimeout
	o.ConnMaxLifetime, o.MaxRetries = server.ConnMaxLifetime, server.MaxRetries
	o.DialerRetries, o.DisableIdentity = server.DialerRetries, server.DisableIdentity
	return target{sentinel: o}, nil
}

// withDefaults sets what the URL does not.
func withDefaults(o *redis.Options) *redis.Options {
	o.DialTimeout = cmp.Or(o.DialTimeout, dialTimeout)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, responseTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, responseTimeout)
	o.ConnMaxLifetime = cmp.Or(o.ConnMaxLifetime, connectionLifetime)
	o.MaxRetries = cmp.Or(o.MaxRetries, maxRetries)
	o.DialerRetries = 1      // a command that failed is repeated anyway
	o.DisableIdentity = true // needs no right to CLIENT SETINFO
	return o
}

// addressOf returns host:port for a host with or without a port.
func addressOf(host, defaultPort string) (string, error) {
	u, err := url.Parse("redis://" + host)
	if err != nil || u.Hostname() == "" || u.Host != host || (strings.Contains(u.Hostname(), ":") && host[0] != '[') {
		return "", errURLHost
	}
	port := cmp.Or(u.Port(), defaultPort)
	if _, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", port); err != nil || port == "0" {
		return "", errURLHost
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// explainTail returns the error for the path and parameters of a URL, which go-redis
// has rejected with an error that contains them.
func explainTail(tail string) error {
	path, query, _ := strings.Cut(tail, "?")
	for _, r := range strings.Trim(path, "/") {
		if r < '0' || r > '9' {
			return errURLDatabase
		}
	}
	if values, err := url.ParseQuery(query); err == nil && strings.Trim(values.Get("db"), "0123456789") != "" {
		return errURLDatabase
	}
	return errURLQuery
}

package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// problem is what an error says about Redis, or about how we connect to it.
type problem struct {
	text string // for operators: what is wrong and what to change

	// configuration says that the problem stays until somebody changes a setting.
	configuration bool
	// total says that every command fails with it, so commands are held back.
	total bool
	// replaced says that another server may answer a new connection, so the present
	// connections are discarded.
	replaced bool
}

// problems are the problems by the code with which Redis' answer begins.
var problems = map[string]*problem{
	"NOAUTH":      {text: "Redis requires a password: add it to REDIS_URL, like redis://user:password@host:6379", configuration: true, total: true, replaced: true},
	"WRONGPASS":   {text: "Redis rejects the user name or the password of REDIS_URL: correct them there or in Redis", configuration: true, total: true, replaced: true},
	"NOPERM":      {text: "the Redis user of REDIS_URL lacks a permission: give it those that the README lists under Redis", configuration: true},
	"LOADING":     {text: "Redis is loading its data", total: true, replaced: true},
	"MASTERDOWN":  {text: "Redis is a replica that has lost its master", total: true, replaced: true},
	"CLUSTERDOWN": {text: "the Redis cluster is down", total: true, replaced: true},
	"READONLY":    {text: "Redis is read-only: it is a replica, or was the master before a failover", replaced: true},
	"NOREPLICAS":  {text: "Redis accepts no writes, because it has too few replicas (min-replicas-to-write)", replaced: true},
	"MISCONF":     {text: "Redis accepts no writes, because it cannot save its data: look at its log and at its disk", replaced: true},
	"OOM":         {text: "Redis is full: raise maxmemory, or remove other data"},
	"MOVED":       cluster,
	"ASK":         cluster,
	"CROSSSLOT":   cluster,
}

var (
	cluster      = &problem{text: "REDIS_URL leads to a Redis Cluster, which is not supported: use one server, or a master with replicas and Sentinel", configuration: true}
	noPassword   = &problem{text: "REDIS_URL has a password, but Redis has none: remove it from REDIS_URL or set it in Redis", configuration: true, total: true}
	noDatabase   = &problem{text: "Redis has no database with the number in REDIS_URL", configuration: true, total: true}
	tooMany      = &problem{text: "Redis accepts no more connections (maxclients)", total: true}
	noServer     = &problem{text: "REDIS_URL does not lead to a Redis server, perhaps to a sentinel: for Sentinel, use redis-sentinel://", configuration: true, total: true}
	noMaster     = &problem{text: "the sentinels in REDIS_URL do not know its master: correct the parameter master", configuration: true, total: true}
	tlsFailed    = &problem{text: "TLS with Redis fails: use rediss:// for a server with TLS and redis:// for others; its certificate must be valid for the host in REDIS_URL", configuration: true, total: true}
	unreachable  = &problem{text: "Redis cannot be reached", total: true}
	errNoMaster  = errors.New("the sentinels do not know the master")
	phraseErrors = []struct {
		phrase  string
		problem *problem
	}{
		{"The user executing the script can't", problems["NOPERM"]}, // Redis 7, in a script
		{"ERR invalid password", problems["WRONGPASS"]},
		{"called without any password configured", noPassword},
		{"DB index is out of range", noDatabase},
		{"SELECT is not allowed in cluster mode", cluster},
		{"max number of clients", tooMany},
		{"ERR unknown command", noServer},
	}
)

// problemOf returns the problem behind an error, or nil for an error that says nothing
// about Redis as a whole.
func problemOf(err error) *problem {
	if err == nil || errors.Is(err, errHeldBack) || errors.Is(err, redis.ErrClosed) || errors.Is(err, redis.ErrPoolTimeout) {
		return nil
	}
	if errors.Is(err, errNoMaster) {
		return noMaster
	}
	if answer := redis.Error(nil); errors.As(err, &answer) {
		return problemOfAnswer(answer.Error())
	}
	var dial *net.OpError
	if !errors.As(err, &dial) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return nil // the caller's
	}
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	if errors.As(err, &certificate) || errors.As(err, &record) || errors.As(err, &alert) {
		return tlsFailed
	}
	return unreachable
}

// problemOfAnswer also finds the code where Redis 6 reports the error of a command in a
// script: "ERR Error running script (call to f_...): @user_script:4: -READONLY ...".
func problemOfAnswer(answer string) *problem {
	code, _, _ := strings.Cut(answer, " ")
	if _, inScript, ok := strings.Cut(answer, ": -"); ok && code == "ERR" {
		code, _, _ = strings.Cut(inScript, " ")
	}
	if p := problems[code]; p != nil {
		return p
	}
	for _, e := range phraseErrors {
		if strings.Contains(answer, e.phrase) {
			return e.problem
		}
	}
	return nil
}

package queue

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// options are what parseURL reads, for servers and sentinels alike.
type options struct {
	Network, Addr, User, Password          string
	DB                                     int
	TLS                                    bool
	ServerName                             string
	Sentinels                              []string
	Master, SentinelUser, SentinelPassword string
}

func optionsOf(t target) options {
	if o := t.sentinel; o != nil {
		got := options{
			User: o.Username, Password: o.Password, DB: o.DB, TLS: o.TLSConfig != nil, Sentinels: o.SentinelAddrs,
			Master: o.MasterName, SentinelUser: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
		}
		if got.TLS {
			got.ServerName = o.TLSConfig.ServerName
		}
		return got
	}
	o := t.server
	got := options{Network: o.Network, Addr: o.Addr, User: o.Username, Password: o.Password, DB: o.DB, TLS: o.TLSConfig != nil}
	if got.TLS {
		got.ServerName = o.TLSConfig.ServerName
	}
	return got
}

func TestParseURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]options{
		"redis://host":                                {Network: "tcp", Addr: "host:6379"},
		"redis://host/":                               {Network: "tcp", Addr: "host:6379"},
		"redis://host:6380/2":                         {Network: "tcp", Addr: "host:6380", DB: 2},
		"redis://host?db=3":                           {Network: "tcp", Addr: "host:6379", DB: 3},
		"redis://:secret@host":                        {Network: "tcp", Addr: "host:6379", Password: "secret"},
		"redis://user:secret@host:6379/2":             {Network: "tcp", Addr: "host:6379", User: "user", Password: "secret", DB: 2},
		"redis://us%40er:p%2Fa%3As%25s@host":          {Network: "tcp", Addr: "host:6379", User: "us@er", Password: "p/a:s%s"},
		"redis://user:pa@ss:word@host":                {Network: "tcp", Addr: "host:6379", User: "user", Password: "pa@ss:word"},
		"redis://[::1]":                               {Network: "tcp", Addr: "[::1]:6379"},
		"redis://user:secret@[fe80::1]:7000/1":        {Network: "tcp", Addr: "[fe80::1]:7000", User: "user", Password: "secret", DB: 1},
		"rediss://user:secret@host":                   {Network: "tcp", Addr: "host:6379", User: "user", Password: "secret", TLS: true, ServerName: "host"},
		"unix:///run/redis.sock":                      {Network: "unix", Addr: "/run/redis.sock"},
		"unix://user:secret@/run/r.sock?db=4":         {Network: "unix", Addr: "/run/r.sock", User: "user", Password: "secret", DB: 4},
		"redis-socket://:secret@/run/r.sock":          {Network: "unix", Addr: "/run/r.sock", Password: "secret"},
		"redis-sentinel://s1?master=m":                {Sentinels: []string{"s1:26379"}, Master: "m"},
		"redis-sentinel://s1:1,s2,[::1]:3/5?master=m": {Sentinels: []string{"s1:1", "s2:26379", "[::1]:3"}, Master: "m", DB: 5},
		"redis-sentinel://:both@s1:1,s2:2?master=m":   {Sentinels: []string{"s1:1", "s2:2"}, Master: "m", Password: "both", SentinelPassword: "both"},
		"redis-sentinel://user:a%40b@s1:1,s2:2/1?master=m&sentinel_username=s&sentinel_password=c%40d": {
			Sentinels: []string{"s1:1", "s2:2"}, Master: "m", DB: 1, User: "user", Password: "a@b", SentinelUser: "s", SentinelPassword: "c@d",
		},
		"redis-sentinel://user:secret@s1?master=m":                         {Sentinels: []string{"s1:26379"}, Master: "m", User: "user", Password: "secret"},
		"redis-sentinel://:secret@s1?master=m&sentinel_password=other":     {Sentinels: []string{"s1:26379"}, Master: "m", Password: "secret", SentinelPassword: "other"},
		"redis-sentinel://s1?master=m&sentinel_password=other":             {Sentinels: []string{"s1:26379"}, Master: "m", SentinelPassword: "other"},
		"rediss-sentinel://user:secret@s1,s2?master=m&sentinel_password=x": {Sentinels: []string{"s1:26379", "s2:26379"}, Master: "m", User: "user", Password: "secret", SentinelPassword: "x", TLS: true},
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			got, err := parseURL(url)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, optionsOf(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInvalidURLIsExplainedWithoutItsParts(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]error{
		"":                                      errURLScheme,
		"hush":                                  errURLScheme,
		"http://user:hush@host":                 errURLScheme,
		"redis:user:hush@host":                  errURLScheme,
		"redis://":                              errURLHost,
		"redis://user:hush@":                    errURLHost,
		"redis://user:hush@host:port":           errURLHost,
		"redis://user:hush@host:0":              errURLHost,
		"redis://user:hush@host:70000":          errURLHost,
		"redis://user:hush@ho st":               errURLHost,
		"redis://user:hush@::1":                 errURLHost,
		"redis://user:12hu/sh@host":             errURLEncoding,
		"redis://user:hu#sh@host":               errURLEncoding,
		"redis://user:hu?sh@host":               errURLEncoding,
		"redis://user:12?hush@host":             errURLEncoding,
		"redis://user:hush%zz@host":             errURLEncoding,
		"redis://user:hush[@host":               errURLEncoding,
		"redis://user:hush@host/hush":           errURLDatabase,
		"redis://user:hush@host/-1":             errURLDatabase,
		"redis://user:hush@host/1/2":            errURLDatabase,
		"redis://user:hush@host?db=hush":        errURLDatabase,
		"redis://user:hush@host?hush=1":         errURLQuery,
		"redis://user:hush@host?pool_size=hush": errURLQuery,
		"unix://user:hush@host/path":            errURLSocket,
		"unix://user:hush@":                     errURLSocket,
		"unix:///hush?db=hush":                  errURLDatabase,
		"unix:///path?hush=1":                   errURLQuery,
		"redis-sentinel://:hush@s1,s2":          errURLSentinel,
		"redis-sentinel://:hush@?master=m":      errURLHost,
		"redis-sentinel://:hush@s1,?master=m":   errURLHost,
		"redis-sentinel://:hu/sh@s1?master=m":   errURLEncoding,
		"redis-sentinel://s1/hush?master=m":     errURLDatabase,
		"redis-sentinel://s1?master=m&hush=m":   errURLQuery,
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			_, err := Connect(url)
			if !errors.Is(err, want) {
				t.Errorf("got error %v, want %v", err, want)
			}
			if err != nil && (strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "sh@")) {
				t.Errorf("the error shows a part of the URL: %v", err)
			}
		})
	}
}

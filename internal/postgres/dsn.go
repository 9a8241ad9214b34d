package postgres

import (
	"errors"
	"fmt"
	"maps"
	"net"
	neturl "net/url"
	"slices"
	"strings"

	"github.com/lib/pq"
)

// Connection strings are read here and not by the driver, which knows neither
// several hosts with ports nor the parameters that other clients add, takes unknown
// parameters for settings of the server, and quotes values in its errors. No error
// here shows a value: each may be a part of a password.

// parameters are those of a connection string, by libpq's names.
type parameters map[string]string

var errNotAConnectionString = errors.New("it must be a URL that starts with postgres:// or postgresql://, or a list like host=localhost dbname=postcard user=postcard")

// errUnescaped is what a URL is refused with when characters of its password seem to
// have ended the password.
var errUnescaped = errors.New("it cannot be split into user, password, host and database; " +
	"probably the password has a character that a URL cannot contain: write %40 for @, %2F for /, %3F for ?, %23 for # and %25 for %")

// parseURL returns the driver's configuration for a connection string, in any form
// that libpq takes. Its Runtime are settings of the server for each session.
func parseURL(url string) (pq.Config, error) {
	p, err := parseParameters(url)
	if err != nil {
		return pq.Config{}, fmt.Errorf("reading the connection string: %w", err)
	}
	config, err := pq.NewConfig(p.String())
	if err != nil {
		return pq.Config{}, fmt.Errorf("reading the connection string: %w", p.explain())
	}
	return config, nil
}

// listenString returns the driver's connection string for a connection that listens.
// It has no settings for the session, and a limit for dialing.
func listenString(url string) (string, error) {
	if _, err := parseURL(url); err != nil {
		return "", err
	}
	p, err := parseParameters(url)
	if err != nil {
		return "", err
	}
	maps.DeleteFunc(p, func(name, _ string) bool { return !driverParameters[name] })
	return p.String(), nil
}

// driverParameters are the parameters that the driver reads. It sends others to the
// server as settings of the session.
var driverParameters = setOf(`host hostaddr port dbname user password passfile options application_name
	fallback_application_name sslmode sslnegotiation sslcert sslkey sslrootcert sslsni ssl_min_protocol_version
	ssl_max_protocol_version sslinline krbsrvname krbspn connect_timeout client_encoding datestyle tz
	target_session_attrs min_protocol_version max_protocol_version service`)

// ignoredParameters have no meaning here: libpq's for its own sockets and for GSS
// encryption, those of other clients' pools, and those that name the client.
var ignoredParameters = setOf(`keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout
	gssencmode gssdelegation sslcompression load_balance_hosts channel_binding
	pgbouncer pool_timeout connection_limit socket_timeout statement_cache_size prepared_statements
	prepared_statement_cache_size statement_cache_capacity prepareThreshold default_query_exec_mode
	pool_max_conns pool_min_conns pool_max_conn_lifetime pool_max_conn_idle_time pool_mode pool_size
	max_pool_size min_pool_size supa uselibpqcompat binary_parameters disable_prepared_binary_result ssl schema
	sslaccept sslidentity sslpassword`)

func setOf(names string) map[string]bool {
	set := map[string]bool{}
	for _, name := range strings.Fields(names) {
		set[name] = true
	}
	return set
}

// connectTimeout limits, in seconds, how long opening a connection to one host takes
// unless the connection string says so. A server that sleeps when nobody uses it
// needs some seconds to wake up.
const connectTimeout = "10"

func parseParameters(url string) (parameters, error) {
	p, err := split(strings.TrimSpace(url))
	if err != nil {
		return nil, err
	}
	if err := p.checkTarget(); err != nil {
		return nil, err
	}
	if err := p.checkTLS(); err != nil {
		return nil, err
	}
	if schema := p["schema"]; schema != "" && schema != "public" && p["search_path"] == "" {
		p["search_path"] = schema // Prisma's name for it
	}
	maps.DeleteFunc(p, func(name, _ string) bool { return ignoredParameters[name] })
	if p["connect_timeout"] == "" {
		p["connect_timeout"] = connectTimeout
	}
	return p, nil
}

// split splits a URL or a list of names and values.
func split(s string) (parameters, error) {
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		if rest, ok := strings.CutPrefix(s, scheme); ok {
			return splitURL(rest)
		}
	}
	if name, _, ok := strings.Cut(s, "="); !ok || !isName(strings.TrimSpace(name)) {
		return nil, errNotAConnectionString
	}
	return splitList(s)
}

// splitURL splits user:password@host:port,host:port/database?name=value.
func splitURL(rest string) (parameters, error) {
	p := parameters{}
	rest, query, _ := strings.Cut(rest, "?")
	authority, database, _ := strings.Cut(rest, "/")
	hosts := authority
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		user, password, _ := strings.Cut(authority[:at], ":")
		p["user"], p["password"], hosts = user, password, authority[at+1:]
	}
	if strings.ContainsAny(database, "@#") || strings.ContainsAny(hosts, "#") {
		return nil, errUnescaped
	}
	p["dbname"] = database
	if err := p.addHosts(hosts); err != nil {
		return nil, err
	}
	for _, pair := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' }) {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || !isName(name) || strings.Contains(value, "@") && !driverParameters[name] {
			return nil, errUnescaped
		}
		p[name] = value
	}
	for name, value := range p {
		decoded, err := neturl.PathUnescape(value)
		if err != nil {
			return nil, errUnescaped
		}
		p[name] = decoded
	}
	if p["database"] != "" {
		p["dbname"] = p["database"]
	}
	maps.DeleteFunc(p, func(name, value string) bool { return value == "" || name == "database" })
	return p, nil
}

// addHosts adds host and port from a comma-separated list like h1:5432,[::1],h2.
func (p parameters) addHosts(list string) error {
	if list == "" {
		return nil
	}
	var hosts, ports []string
	for _, item := range strings.Split(list, ",") {
		host, port := item, ""
		if strings.Contains(strings.TrimPrefix(item[strings.LastIndex(item, "]")+1:], "]"), ":") {
			var err error
			if host, port, err = net.SplitHostPort(item); err != nil {
				return errUnescaped
			}
		}
		if strings.Trim(port, "0123456789") != "" {
			return errUnescaped
		}
		hosts, ports = append(hosts, strings.Trim(host, "[]")), append(ports, port)
	}
	p["host"] = strings.Join(hosts, ",")
	if strings.Trim(strings.Join(ports, ""), ",") != "" {
		for i := range ports {
			if ports[i] == "" {
				ports[i] = "5432" // the driver refuses an empty first port
			}
		}
		p["port"] = strings.Join(ports, ",")
	}
	return nil
}

// isName reports whether s can be the name of a parameter. Settings of extensions
// have a dot.
func isName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") == ""
}

var errBadList = errors.New("it cannot be split into names and values; write name=value name=value, put a value with spaces between single quotes, and a backslash before ' and \\")

// splitList splits name=value name='value with spaces', as libpq does.
func splitList(s string) (parameters, error) {
	p := parameters{}
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		name, rest, ok := strings.Cut(s, "=")
		if name = strings.TrimSpace(name); !ok || !isName(name) {
			return nil, errBadList
		}
		value, rest, err := cutValue(strings.TrimLeft(rest, " \t\r\n"))
		if err != nil {
			return nil, err
		}
		p[name], s = value, rest
	}
	return p, nil
}

// cutValue cuts a value off the list. A quoted value ends at its quote, others at a
// space.
func cutValue(s string) (value, rest string, err error) {
	quoted := strings.HasPrefix(s, "'")
	s = strings.TrimPrefix(s, "'")
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
		case quoted && s[i] == '\'':
			return value, s[i+1:], nil
		case !quoted && strings.ContainsRune(" \t\r\n", rune(s[i])):
			return value, s[i:], nil
		}
		value += s[i : i+1]
	}
	if quoted {
		return "", "", errBadList
	}
	return value, "", nil
}

// checkTarget checks which servers are acceptable. Of several hosts, only one can be
// written to unless the connection string says otherwise.
func (p parameters) checkTarget() error {
	switch p["target_session_attrs"] {
	case "any", "read-write", "primary":
	case "":
		if strings.Contains(p["host"]+p["hostaddr"], ",") {
			p["target_session_attrs"] = string(pq.TargetSessionAttrsReadWrite)
		}
	default:
		return errors.New("its target_session_attrs must be any, read-write or primary, because Postcard writes")
	}
	return nil
}

var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// checkTLS checks the parameters of the encryption.
//
// channel_binding=require asks the client to make sure that nobody stands between it
// and the server, by a login that is bound to the server's certificate. The driver
// has no such login. Checking the certificate and its name makes sure of the same, so
// it raises sslmode to verify-full, with the system's certificates unless
// sslrootcert names others.
func (p parameters) checkTLS() error {
	switch {
	case p["sslmode"] == "no-verify": // node-postgres' name for it
		p["sslmode"] = "require"
	case p["sslmode"] == "" && (p["ssl"] == "true" || p["ssl"] == "1"):
		p["sslmode"] = "require"
	case p["sslmode"] == "" && p["ssl"] == "false":
		p["sslmode"] = "disable"
	}
	if mode := p["sslmode"]; mode != "" && !slices.Contains(sslModes, mode) {
		return fmt.Errorf("its sslmode must be one of %s", strings.Join(sslModes, ", "))
	}
	if p["gssencmode"] == "require" {
		return errors.New("its gssencmode=require is not supported; use TLS: sslmode=verify-full")
	}
	switch p["channel_binding"] {
	case "", "disable", "prefer":
	case "require":
		if slices.Contains([]string{"disable", "allow", "prefer"}, p["sslmode"]) {
			return errors.New("its channel_binding=require needs TLS: set sslmode=require or sslmode=verify-full")
		}
		p["sslmode"] = "verify-full"
	default:
		return errors.New("its channel_binding must be disable, prefer or require")
	}
	if p["sslrootcert"] == "system" && p["sslmode"] != "" && p["sslmode"] != "verify-full" {
		return errors.New("its sslrootcert=system needs sslmode=verify-full: anybody can have a certificate that the system accepts, for another name")
	}
	return nil
}

// explain returns an error that names the parameter which the driver refuses, and
// not its value.
func (p parameters) explain() error {
	if _, err := pq.NewConfig(""); err != nil {
		return fmt.Errorf("the environment has a variable for Postgres that cannot be used: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if _, err := pq.NewConfig(parameters{name: p[name]}.String()); err != nil {
			return fmt.Errorf("its parameter %s has a value that cannot be used", name)
		}
	}
	return errors.New("its parameters do not fit together; as many ports as hosts are needed, or one port")
}

// String returns the driver's form of the connection string.
func (p parameters) String() string {
	escaper := strings.NewReplacer(`'`, `\'`, `\`, `\\`)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s='%s' ", name, escaper.Replace(p[name]))
	}
	return strings.TrimSpace(b.String())
}

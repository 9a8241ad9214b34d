package queue

import (
	"net/http"

	"github.com/hibiken/asynqmon"
)

// Dashboard is asynqmon, a web UI of the queues for operators. It has no
// authentication of its own; mount it behind one.
type Dashboard struct {
	asynqmon *asynqmon.HTTPHandler
	base     string
}

// NewDashboard returns a dashboard to be mounted at path. Browsers see it at base + path. It
// opens its own connections, to the same Redis as c. Unless writable, it rejects every
// change.
func NewDashboard(c *Connection, base, path string, writable bool) *Dashboard {
	return &Dashboard{asynqmon.New(asynqmon.Options{RootPath: base + path, RedisConnOpt: c, ReadOnly: !writable}), base}
}

// ServeHTTP restores the path that the browser asked for, because asynqmon has one path both
// for its routes and its links.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	external, address := *r, *r.URL
	address.Path = d.base + r.URL.Path
	if r.URL.RawPath != "" {
		address.RawPath = d.base + r.URL.RawPath
	}
	external.URL = &address
	d.asynqmon.ServeHTTP(w, &external)
}

// Close closes the dashboard's connections.
func (d *Dashboard) Close() error { return d.asynqmon.Close() }

// DashboardCSP is the Content-Security-Policy for asynqmon's pages, which contain
// inline scripts and styles. It blocks their optional web font, and their manifest, whose
// icons have paths outside the dashboard.
const DashboardCSP = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self'; manifest-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"

package queue

import "github.com/hibiken/asynqmon"

// Dashboard is asynqmon, a web UI of the queues for operators. It has no
// authentication of its own; mount it behind one.
type Dashboard struct{ *asynqmon.HTTPHandler }

// NewDashboard returns a dashboard to be mounted at path. It opens its own connections,
// to the same Redis as c. Unless writable, it rejects every change.
func NewDashboard(c *Connection, path string, writable bool) *Dashboard {
	return &Dashboard{asynqmon.New(asynqmon.Options{RootPath: path, RedisConnOpt: c, ReadOnly: !writable})}
}

// DashboardCSP is the Content-Security-Policy for asynqmon's pages, which contain
// inline scripts and styles. It blocks their optional web font.
const DashboardCSP = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"

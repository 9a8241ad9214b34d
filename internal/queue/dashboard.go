package queue

import (
	"errors"

	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
)

// Dashboard is asynqmon, the operators' view of the queue. It asks nobody who
// they are: whoever mounts it must.
type Dashboard struct{ *asynqmon.HTTPHandler }

// NewDashboard makes the dashboard for the path it will be mounted at. Unless
// writable, it refuses every change.
func NewDashboard(redisURL, path string, writable bool) (*Dashboard, error) {
	opt, err := asynq.ParseRedisURI(redisURL)
	if err != nil {
		return nil, errors.New("reading REDIS_URL: it is not a Redis URL") // the cause would repeat its password
	}
	return &Dashboard{asynqmon.New(asynqmon.Options{RootPath: path, RedisConnOpt: opt, ReadOnly: !writable})}, nil
}

// DashboardCSP is the policy that asynqmon's pages need: they carry inline
// scripts and styles, and ask for a web font that may as well be missing.
const DashboardCSP = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"

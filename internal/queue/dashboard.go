package queue

import (
	"errors"

	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
)

// Dashboard is asynqmon, a web UI of the queues for operators. It has no
// authentication of its own; mount it behind one.
type Dashboard struct{ *asynqmon.HTTPHandler }

// NewDashboard returns a dashboard to be mounted at path. Unless writable, it
// rejects every change.
func NewDashboard(redisURL, path string, writable bool) (*Dashboard, error) {
	opt, err := asynq.ParseRedisURI(redisURL)
	if err != nil {
		return nil, errRedisURL
	}
	return &Dashboard{asynqmon.New(asynqmon.Options{RootPath: path, RedisConnOpt: opt, ReadOnly: !writable})}, nil
}

// errRedisURL does not wrap the parser's error, which may contain the password.
var errRedisURL = errors.New("REDIS_URL is not a valid Redis URL, like redis://localhost:6379")

// DashboardCSP is the Content-Security-Policy for asynqmon's pages, which contain
// inline scripts and styles. It blocks their optional web font.
const DashboardCSP = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"

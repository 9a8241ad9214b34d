package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// lateBeat is the time without a heartbeat after which a process may have stopped for a
// while, so that callbacks may have been missed.
const lateBeat = 10 * time.Second

// beatAPI records the first heartbeat of a process with a break, because it did not
// receive earlier callbacks.
const beatAPI = `
INSERT INTO api_processes (id) VALUES ($1)
ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp(),
    broken_at = CASE WHEN $2 OR api_processes.beat_at < clock_timestamp() - $3 * interval '1 second' THEN clock_timestamp() ELSE api_processes.broken_at END`

// BeatAPI records that an api process is alive. It records a break when broken is true or
// the heartbeat is late: callbacks may have been missed.
func (s *Store) BeatAPI(ctx context.Context, process uuid.UUID, broken bool) error {
	_, err := s.db.ExecContext(ctx, beatAPI, process, broken, lateBeat.Seconds())
	return wrapError(err, "recording a heartbeat of the api")
}

const deleteOldProcesses = `
DELETE FROM api_processes WHERE id IN (
    SELECT id FROM api_processes WHERE beat_at < now() - interval '1 day' LIMIT $1 FOR UPDATE SKIP LOCKED)`

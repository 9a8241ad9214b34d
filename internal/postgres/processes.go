package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/operator"
)

// beatWorker inserts the row again if it has been deleted, because the process was suspended
// for a day.
const beatWorker = `
INSERT INTO worker_processes (id, host, version, settings) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp()`

// BeatWorker records that a worker is alive.
func (s *Store) BeatWorker(ctx context.Context, p operator.Process) error {
	settings, err := json.Marshal(p.Settings)
	if err != nil {
		return fmt.Errorf("encoding settings: %w", err)
	}
	_, err = s.db.ExecContext(ctx, beatWorker, p.ID, p.Host, p.Version, string(settings))
	return wrapError(err, "recording a heartbeat of a worker")
}

const describeAPI = `UPDATE api_processes SET host = $2, version = $3, settings = $4 WHERE id = $1`

// DescribeAPI records what an api process is that has sent a heartbeat.
func (s *Store) DescribeAPI(ctx context.Context, p operator.Process) error {
	settings, err := json.Marshal(p.Settings)
	if err != nil {
		return fmt.Errorf("encoding settings: %w", err)
	}
	_, err = s.db.ExecContext(ctx, describeAPI, p.ID, p.Host, p.Version, string(settings))
	return wrapError(err, "describing an api process")
}

const selectProcesses = `
SELECT id, kind, host, version, settings, started_at, beat_at, beat_at > clock_timestamp() - $1 * interval '1 second' AS alive FROM (
    SELECT id, 'worker' AS kind, host, version, settings, started_at, beat_at FROM worker_processes
    UNION ALL
    SELECT id, 'api', host, version, settings, started_at, beat_at FROM api_processes
) p WHERE beat_at > now() - interval '1 day'
ORDER BY kind DESC, alive DESC, started_at DESC, id LIMIT 200`

// Processes returns the api and worker processes that have been alive in the last day:
// workers first, those that are alive first, and the newest first.
func (s *Store) Processes(ctx context.Context) ([]operator.Process, error) {
	var rows []struct {
		ID        uuid.UUID `db:"id"`
		Kind      string    `db:"kind"`
		Host      string    `db:"host"`
		Version   string    `db:"version"`
		Settings  []byte    `db:"settings"`
		StartedAt time.Time `db:"started_at"`
		BeatAt    time.Time `db:"beat_at"`
		Alive     bool      `db:"alive"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectProcesses, operator.AliveFor.Seconds()); err != nil {
		return nil, wrapError(err, "reading processes")
	}
	processes := make([]operator.Process, len(rows))
	for i, r := range rows {
		processes[i] = operator.Process{
			ID: r.ID, Kind: operator.Kind(r.Kind), Host: r.Host, Version: r.Version, StartedAt: r.StartedAt, BeatAt: r.BeatAt, Alive: r.Alive,
		}
		if err := json.Unmarshal(r.Settings, &processes[i].Settings); err != nil {
			return nil, fmt.Errorf("decoding the settings of a process: %w", err)
		}
	}
	return processes, nil
}

const deleteOldWorkers = `
DELETE FROM worker_processes WHERE id IN (
    SELECT id FROM worker_processes WHERE beat_at < now() - interval '1 day' LIMIT $1 FOR UPDATE SKIP LOCKED)`

const selectSchemaVersion = `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`

// SchemaVersion returns the number of the last migration.
func (s *Store) SchemaVersion(ctx context.Context) (int64, error) {
	var version int64
	err := s.db.GetContext(ctx, &version, selectSchemaVersion)
	return version, wrapError(err, "reading the version of the schema")
}

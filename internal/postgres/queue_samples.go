package postgres

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/operator"
)

const saveQueueSample = `
INSERT INTO queue_samples (sampled_at, queued, waiting, preparing, sending, in_doubt, held, tasks)
VALUES (date_trunc('minute', now()), $1, $2, $3, $4, $5, $6, $7) ON CONFLICT (sampled_at) DO NOTHING`

// SaveQueueSample stores a sample of the current minute, unless there is one.
func (s *Store) SaveQueueSample(ctx context.Context, sample operator.Sample) error {
	_, err := s.db.ExecContext(ctx, saveQueueSample, sample.Queued, sample.Waiting, sample.Preparing, sample.Sending, sample.InDoubt, sample.Held, sample.Tasks)
	return wrapError(err, "storing a sample of the queue")
}

// selectQueueSamples selects the highest values of each of at most 120 parts of the period,
// so that a short peak is not left out.
const selectQueueSamples = `
SELECT date_bin(greatest(60, $1::double precision / 120) * interval '1 second', sampled_at, 'epoch') AS at, max(queued) AS queued, max(waiting) AS waiting,
    max(preparing) AS preparing, max(sending) AS sending, max(in_doubt) AS in_doubt, max(held) AS held, max(tasks) AS tasks
FROM queue_samples WHERE sampled_at > now() - $1::double precision * interval '1 second' GROUP BY 1 ORDER BY 1`

// QueueSamples returns samples of the last period, oldest first. Those of long periods are
// the highest of several minutes.
func (s *Store) QueueSamples(ctx context.Context, period time.Duration) ([]operator.Sample, error) {
	var rows []struct {
		At        time.Time `db:"at"`
		Queued    int       `db:"queued"`
		Waiting   int       `db:"waiting"`
		Preparing int       `db:"preparing"`
		Sending   int       `db:"sending"`
		InDoubt   int       `db:"in_doubt"`
		Held      int       `db:"held"`
		Tasks     *int      `db:"tasks"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectQueueSamples, period.Seconds()); err != nil {
		return nil, wrapError(err, "reading samples of the queue")
	}
	samples := make([]operator.Sample, len(rows))
	for i, r := range rows {
		samples[i] = operator.Sample(r)
	}
	return samples, nil
}

const deleteOldSamples = `
DELETE FROM queue_samples WHERE sampled_at IN (
    SELECT sampled_at FROM queue_samples WHERE sampled_at < now() - interval '7 days' LIMIT $1 FOR UPDATE SKIP LOCKED)`

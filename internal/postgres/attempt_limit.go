package postgres

import (
	"context"

	"github.com/postcard-mms/postcard/internal/mms"
)

// countsTowardsLimit says whether an attempt t counts towards MAX_ATTEMPTS: Plivo
// rejected it for now, or its outcome stayed unknown. While Plivo cannot be reached, a
// message waits until it expires.
const countsTowardsLimit = `(t.outcome = 'unknown' OR (t.outcome = 'transient_failure' AND t.http_status IS NOT NULL))`

const failUnresolved = `
WITH changed AS (
    UPDATE messages SET status = 'failed', reason = 'unresolved', version = version + 1, updated_at = now(), final_at = now()
    WHERE id = $1 AND attempts = $2 AND status = 'in_doubt' AND NOT held
      AND (SELECT count(*) FROM attempts t WHERE t.message_id = $1 AND ` + countsTowardsLimit + `) >= $3
    RETURNING id, status, attempts
), attempt AS (
    UPDATE attempts a SET next_check_at = NULL FROM changed WHERE a.message_id = changed.id AND a.ordinal = changed.attempts
), event AS (
    INSERT INTO message_events (message_id, kind, status, attempt, detail)
    SELECT id, 'unresolved', status, attempts, 'unresolved' FROM changed
)
SELECT id FROM changed`

// AttemptLimit is a store that queues a message in doubt again only while it may have
// another attempt.
type AttemptLimit struct {
	*Store
	Max int // MAX_ATTEMPTS
}

// RetryInDoubt is Store.RetryInDoubt for a message that may have another attempt. Any other
// message fails: its outcome is unknown, and later evidence still moves it to submitted.
func (l AttemptLimit) RetryInDoubt(ctx context.Context, ref mms.AttemptRef) (bool, error) {
	failed, err := l.exec(ctx, "failing a message without another attempt", failUnresolved, ref.MessageID, ref.Ordinal, l.Max)
	if err != nil || failed == 1 {
		return failed == 1, err
	}
	return l.Store.RetryInDoubt(ctx, ref)
}

package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"postcard/internal/mms"
)

// acceptor stores messages that are accepted at the same time with one statement,
// since a commit costs the same for one as for many. It waits for nobody: while
// fewer than lanes statements are under way, a message is stored at once; those
// that come meanwhile are stored together as soon as a lane is free.
type acceptor struct {
	mu      sync.Mutex
	waiting []*pending
	busy    int // lanes
}

// lanes is how many statements store messages side by side, and groupMax how many
// messages one of them takes.
const (
	lanes    = 2
	groupMax = 128
)

// pending is an order that somebody waits for.
type pending struct {
	order mms.Order
	taken mms.Taken
	ok    bool
	done  chan struct{}
}

// groupable reports whether the order is of the simple kind that groups are made
// of: sent at once, and not in place of another.
func groupable(o mms.Order) bool { return o.SendAt == nil && o.AgainOf == uuid.Nil }

// acceptInGroup stores a message together with others. It reports false when the
// message was not stored, for whatever reason: alone it will be found out.
func (s *Store) acceptInGroup(ctx context.Context, o mms.Order) (mms.Taken, bool) {
	p := &pending{order: o, done: make(chan struct{})}
	a := &s.acceptor
	a.mu.Lock()
	a.waiting = append(a.waiting, p)
	if a.busy < lanes {
		a.busy++
		go s.storeGroups()
	}
	a.mu.Unlock()
	select {
	case <-p.done:
		return p.taken, p.ok
	case <-ctx.Done():
		return mms.Taken{}, false
	}
}

// storeGroups is one lane: it works until nobody waits.
func (s *Store) storeGroups() {
	for {
		group := s.acceptor.next()
		if group == nil {
			return
		}
		s.storeGroup(group)
		for _, p := range group {
			close(p.done)
		}
	}
}

// next takes those who wait, at most groupMax, and of those with the same
// idempotency key one: the others are to find what it has stored. It gives the
// lane back when nobody waits.
func (a *acceptor) next() []*pending {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		a.busy--
		return nil
	}
	var group, left []*pending
	keys := map[string]bool{}
	for _, p := range a.waiting {
		key := p.order.Idempotency.Key
		if key != "" {
			key = p.order.Owner.String() + key
		}
		if len(group) == groupMax || key != "" && keys[key] {
			left = append(left, p)
			continue
		}
		keys[key] = true
		group = append(group, p)
	}
	a.waiting = left
	return group
}

// acceptGroup is acceptMessage for many. What it does not return is not stored.
// Parameters, one element for each message: $1 id, $2 user, $3 sender,
// $4 recipient, $5 text, $6 valid for seconds, $7 priority, $8 metadata, $9 API
// key, $10 idempotency key, $11 fingerprint. Of caps: $12 the message's number,
// $13 holder, $14 cap, $15 how many of the group count for it up to this one. Of
// pictures: $16 message, $17 position, $18 URL.
var acceptGroup = `
WITH i AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::float8[], $7::smallint[], $8::jsonb[], $9::uuid[], $10::text[], $11::bytea[])
        WITH ORDINALITY AS u (id, user_id, sender, recipient, text, valid_for, priority, metadata, api_key_id, key, fingerprint, n)
), caps AS MATERIALIZED (
    SELECT c.*, c.cap - ` + sentToday + ` AS room FROM unnest($12::int[], $13::uuid[], $14::int[], $15::int[]) AS c (n, holder, cap, rank)
), fit AS MATERIALIZED (
    SELECT i.* FROM i
    WHERE NOT EXISTS (SELECT FROM caps c WHERE c.n = i.n AND c.rank > c.room)
      AND (i.key = '' OR pg_try_advisory_xact_lock(hashtextextended(i.user_id || ' ' || i.key, 0)))
), keys AS (
    INSERT INTO idempotency_keys AS k (user_id, key, fingerprint, message_id)
    SELECT user_id, key, fingerprint, id FROM fit WHERE key <> ''
    ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, message_id = EXCLUDED.message_id, batch_id = NULL, created_at = now()
        WHERE k.created_at <= now() - interval '24 hours'
    RETURNING message_id
), m AS (
    INSERT INTO messages (id, user_id, sender, recipient, text, status, next_attempt_at, relay_at, expires_at, priority, metadata, api_key_id)
    SELECT id, user_id, sender, recipient, text, 'queued', now(), now() + ` + relayGrace + `, now() + valid_for * interval '1 second', priority, metadata, api_key_id
    FROM fit WHERE key = '' OR id IN (SELECT message_id FROM keys)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, created_at, expires_at
), media AS (
    INSERT INTO message_media (message_id, position, url)
    SELECT u.id, u.position, u.url FROM unnest($16::uuid[], $17::smallint[], $18::text[]) AS u (id, position, url) JOIN m ON m.id = u.id
), event AS (
    INSERT INTO message_events (message_id, kind, status) SELECT id, 'accepted', 'queued' FROM m
), counted AS (
    INSERT INTO daily_counts AS d (holder, day, slot, messages)
    SELECT c.holder, ` + today + `, (random() * 15)::smallint, count(*) FROM m JOIN i ON i.id = m.id JOIN caps c ON c.n = i.n GROUP BY c.holder ORDER BY c.holder
    ON CONFLICT (holder, day, slot) DO UPDATE SET messages = d.messages + EXCLUDED.messages
)
SELECT id, created_at, expires_at FROM m`

// storeGroup stores what can be stored of a group, and says so in it.
func (s *Store) storeGroup(group []*pending) {
	// Nobody's request ends it: each waits for others, too.
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	args, err := groupArgs(group)
	if err != nil {
		return
	}
	var rows []struct {
		ID        uuid.UUID `db:"id"`
		CreatedAt time.Time `db:"created_at"`
		ExpiresAt time.Time `db:"expires_at"`
	}
	if err := s.db.SelectContext(ctx, &rows, acceptGroup, args...); err != nil {
		return // each will learn the cause alone
	}
	byID := make(map[uuid.UUID]*pending, len(group))
	for _, p := range group {
		byID[p.order.ID] = p
	}
	for _, row := range rows {
		p := byID[row.ID]
		m := p.order.Message
		m.CreatedAt, m.ExpiresAt = row.CreatedAt, row.ExpiresAt
		p.taken, p.ok = mms.Taken{Message: m.AsAccepted()}, true
		s.changed(row.ID)
	}
}

func groupArgs(group []*pending) ([]any, error) {
	n := len(group)
	ids, users, senders, recipients, texts := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	objects, keys, valid, priorities := make([]string, n), make([]string, n), make([]float64, n), make([]int64, n)
	apiKeys, fingerprints := make([]uuid.NullUUID, n), make([][]byte, n)
	var capOf, capSizes, ranks, positions []int64
	var holders, pictured, urls []string
	counts := map[uuid.UUID]int64{}
	for i, p := range group {
		o := p.order
		var err error
		if objects[i], err = metadataJSON(o.Metadata); err != nil {
			return nil, err
		}
		ids[i], users[i], senders[i], recipients[i], texts[i] = o.ID.String(), o.Owner.String(), string(o.Sender), string(o.Recipient), o.Text
		valid[i], priorities[i], keys[i] = o.ValidFor.Seconds(), int64(o.Priority), o.Idempotency.Key
		apiKeys[i], fingerprints[i] = nullID(o.KeyID), o.Idempotency.Fingerprint[:]
		for _, c := range o.Caps {
			counts[c.Holder]++
			capOf, holders = append(capOf, int64(i+1)), append(holders, c.Holder.String())
			capSizes, ranks = append(capSizes, int64(c.Messages)), append(ranks, counts[c.Holder])
		}
		for position, url := range o.MediaURLs {
			pictured, positions, urls = append(pictured, ids[i]), append(positions, int64(position+1)), append(urls, url)
		}
	}
	return []any{
		pq.Array(ids), pq.Array(users), pq.Array(senders), pq.Array(recipients), pq.Array(texts), pq.Array(valid), pq.Array(priorities),
		pq.Array(objects), pq.Array(apiKeys), pq.Array(keys), pq.ByteaArray(fingerprints),
		pq.Array(capOf), pq.Array(holders), pq.Array(capSizes), pq.Array(ranks), pq.Array(pictured), pq.Array(positions), pq.Array(urls),
	}, nil
}

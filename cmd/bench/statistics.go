package main

import (
	"context"
	"fmt"
	"time"
)

// benchStatistics measures how much sending slows down when the planner's statistics are
// those of empty tables, as at the start of the first burst. That case is measured first,
// because Postgres keeps the statistics of columns once it has gathered them.
func benchStatistics(ctx context.Context, s *stack, r *report) error {
	cells := []cell{{latency: 0, inFlight: 32, workers: 1}, {latency: 100 * time.Millisecond, inFlight: 32, workers: 1}}
	perSecond := map[bool]map[cell]float64{true: {}, false: {}}
	for _, empty := range []bool{true, false} {
		for _, c := range cells {
			if !s.cells.MatchString(c.name()) {
				continue
			}
			how := c.sending()
			how.emptyStatistics = empty
			sent, err := s.dispatch(ctx, how)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name(), err)
			}
			perSecond[empty][c] = sent.perSecond
		}
	}
	for _, c := range cells {
		fresh, measured := perSecond[false][c]
		if !measured {
			continue
		}
		stale := perSecond[true][c]
		r.add("sent with statistics of empty tables, "+c.name(), stale, "messages/s", "")
		r.add("sent with current statistics, "+c.name(), fresh, "messages/s", "")
		r.add("empty / current statistics, "+c.name(), stale/fresh, "", "≥ 0.9")
	}
	return nil
}

// freezeStatistics analyzes the empty tables of messages and keeps autovacuum from doing
// so again until restore is called.
func (s *stack) freezeStatistics(ctx context.Context) (restore func() error, err error) {
	for _, table := range messageTables {
		if _, err := s.db.ExecContext(ctx, `ALTER TABLE `+table+` SET (autovacuum_enabled = false)`); err != nil {
			return nil, fmt.Errorf("turning autovacuum off: %w", err)
		}
	}
	if err := s.analyze(ctx); err != nil {
		return nil, err
	}
	return func() error {
		for _, table := range messageTables {
			if _, err := s.db.ExecContext(ctx, `ALTER TABLE `+table+` RESET (autovacuum_enabled)`); err != nil {
				return fmt.Errorf("turning autovacuum on again: %w", err)
			}
		}
		return nil
	}, nil
}

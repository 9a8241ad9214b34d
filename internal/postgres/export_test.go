package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// ClaimTogether claims messages with one statement, and reports which of them it got.
func (s *Store) ClaimTogether(ctx context.Context, ids ...uuid.UUID) map[uuid.UUID]bool {
	var group []*pending[claimCall]
	for _, id := range ids {
		group = append(group, &pending[claimCall]{what: claimCall{id: id, token: uuid.NewString(), lease: time.Minute}})
	}
	s.claimGroup(ctx, group)
	claimed := map[uuid.UUID]bool{}
	for _, p := range group {
		claimed[p.what.id] = p.ok
	}
	return claimed
}

// ReleaseStatement and ProbeStatement look at the lines again and again.
const (
	ReleaseStatement = release
	ProbeStatement   = probe
)

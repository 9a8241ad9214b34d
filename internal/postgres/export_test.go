package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/groupcommit"
)

// ClaimTogether claims messages with one statement, and reports which of them it got.
func (s *Store) ClaimTogether(ctx context.Context, ids ...uuid.UUID) map[uuid.UUID]bool {
	var group []*groupcommit.Item[claimCall]
	for _, id := range ids {
		group = append(group, &groupcommit.Item[claimCall]{Value: claimCall{id: id, token: uuid.NewString(), lease: time.Minute}})
	}
	s.claimGroup(ctx, group)
	claimed := map[uuid.UUID]bool{}
	for _, p := range group {
		claimed[p.Value.id] = p.OK
	}
	return claimed
}

// ReleaseStatement and ProbeStatement look at the lines again and again.
const (
	ReleaseStatement = release
	ProbeStatement   = probe
)

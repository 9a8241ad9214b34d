package postgres

import "context"

var (
	ZZClaimGroup     = &claimGroupQ
	ZZAcceptAttempts = acceptAttempts
)

var claimGroupQ = claimGroup

type ZZClaimRow = claimRow

func (s *Store) ZZSelect(ctx context.Context, dest any, q string, args ...any) error {
	return s.db.SelectContext(ctx, dest, q, args...)
}

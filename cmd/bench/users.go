package main

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/google/uuid"
)

const selectUser = `SELECT id FROM users WHERE email = $1` // also the id of their workspace

// workspace returns the one of the user that api creates at its start and credentials logs in.
func (s *stack) workspace(ctx context.Context) (id uuid.UUID, err error) {
	if err := s.db.QueryRowContext(ctx, selectUser, email).Scan(&id); err != nil {
		return uuid.Nil, fmt.Errorf("reading the user: %w", err)
	}
	return id, nil
}

// user is a user with an API key, and a workspace of the same id.
type user struct {
	id  uuid.UUID
	key string
}

// insertUser inserts a user who cannot log in, and their API key.
const insertUser = `
WITH u AS (
    INSERT INTO users (id, email, password_hash, role) VALUES ($1, $2, repeat('x', 60), 'user') RETURNING id, email
), w AS (
    INSERT INTO workspaces (id, name) SELECT id, email FROM u RETURNING id
)
INSERT INTO api_keys (id, workspace_id, created_by, name, key_hash) SELECT $3, id, id, 'bench', $4 FROM w`

// users adds n users.
func (s *stack) users(ctx context.Context, n int) ([]user, error) {
	all := make([]user, n)
	for i := range all {
		u := user{id: uuid.New(), key: fmt.Sprintf("pc_bench-%d", i)}
		hash := sha256.Sum256([]byte(u.key))
		if _, err := s.db.ExecContext(ctx, insertUser, u.id, fmt.Sprintf("user%d@example.com", i), uuid.New(), hash[:]); err != nil {
			return nil, fmt.Errorf("adding a user: %w", err)
		}
		all[i] = u
	}
	return all, nil
}

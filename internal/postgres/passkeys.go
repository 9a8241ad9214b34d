package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
)

type passkeyRow struct {
	ID           uuid.UUID  `db:"id"`
	CredentialID []byte     `db:"credential_id"`
	Credential   []byte     `db:"credential"`
	Name         string     `db:"name"`
	CreatedAt    time.Time  `db:"created_at"`
	LastUsedAt   *time.Time `db:"last_used_at"`
}

const selectPasskeys = `
SELECT id, credential_id, credential, name, created_at, last_used_at FROM passkeys WHERE user_id = $1 ORDER BY id`

func (s *Store) passkeys(ctx context.Context, user uuid.UUID) ([]identity.Passkey, error) {
	var rows []passkeyRow
	if err := s.db.SelectContext(ctx, &rows, selectPasskeys, user); err != nil {
		return nil, wrapError(err, "reading passkeys")
	}
	var list []identity.Passkey
	for _, r := range rows {
		list = append(list, identity.Passkey(r))
	}
	return list, nil
}

var addPasskey = changeFactors("id", `changed AS (
    INSERT INTO passkeys (id, user_id, credential_id, credential, name)
    SELECT $2, locked.id, $3, $4, $5 FROM locked WHERE (SELECT count(*) FROM passkeys WHERE user_id = $1) < $7
    RETURNING user_id
), `+replaceCodes("changed", "$6"))

// AddPasskey adds a passkey of the user, and replaces the recovery codes if codes are
// given. It ends the user's sessions. It returns identity.ErrFactorExists if somebody has
// the passkey, or identity.ErrTooManyPasskeys.
func (s *Store) AddPasskey(ctx context.Context, user uuid.UUID, p identity.Passkey, codes [][32]byte) error {
	added, err := s.changes(ctx, "adding a passkey", addPasskey, user, p.ID, p.CredentialID, string(p.Credential), p.Name, bytesOf(codes), identity.MaxPasskeys)
	if violates(err, "passkeys_credential") {
		return identity.ErrFactorExists
	}
	if err == nil && !added {
		return identity.ErrTooManyPasskeys
	}
	return err
}

const usePasskey = `
UPDATE passkeys SET credential = $3, last_used_at = now() WHERE user_id = $1 AND credential_id = $2`

// UsePasskey records that the user has logged in with a passkey, and its new state. It
// returns identity.ErrNoFactor if the passkey has been removed.
func (s *Store) UsePasskey(ctx context.Context, user uuid.UUID, p identity.Passkey) error {
	return s.changeFactor(ctx, "recording the use of a passkey", usePasskey, user, p.CredentialID, string(p.Credential))
}

var removePasskey = changeFactors("id", `changed AS (
    DELETE FROM passkeys USING locked WHERE user_id = locked.id AND passkeys.id = $2 RETURNING user_id
), codes AS (
    DELETE FROM recovery_codes c USING changed WHERE c.user_id = changed.user_id
    AND NOT EXISTS (SELECT FROM passkeys p WHERE p.user_id = changed.user_id AND p.id <> $2)
    AND NOT EXISTS (SELECT FROM totp_factors t WHERE t.user_id = changed.user_id AND t.confirmed_at IS NOT NULL)
)`)

// RemovePasskey removes a passkey of the user, and the recovery codes if no other second
// factor is left. It ends the user's sessions. It returns identity.ErrNoFactor.
func (s *Store) RemovePasskey(ctx context.Context, user, id uuid.UUID) error {
	return s.changeFactor(ctx, "removing a passkey", removePasskey, user, id)
}

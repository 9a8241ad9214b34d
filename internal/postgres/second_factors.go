package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/identity"
)

const selectFactors = `
SELECT t.secret, t.confirmed_at, coalesce(t.last_step, 0) AS last_step, now() AS now,
    (SELECT count(*) FROM recovery_codes c WHERE c.user_id = $1 AND c.used_at IS NULL) AS codes
FROM (VALUES (1)) AS one LEFT JOIN totp_factors t ON t.user_id = $1`

// SecondFactors returns the user's second factors; none for an unknown user.
func (s *Store) SecondFactors(ctx context.Context, user uuid.UUID) (identity.SecondFactors, error) {
	var row struct {
		Secret      []byte     `db:"secret"`
		ConfirmedAt *time.Time `db:"confirmed_at"`
		LastStep    int64      `db:"last_step"`
		Now         time.Time  `db:"now"`
		Codes       int        `db:"codes"`
	}
	if err := s.db.GetContext(ctx, &row, selectFactors, user); err != nil {
		return identity.SecondFactors{}, wrapError(err, "reading second factors")
	}
	passkeys, err := s.passkeys(ctx, user)
	factors := identity.SecondFactors{RecoveryCodes: row.Codes, Now: row.Now, Passkeys: passkeys}
	if row.Secret != nil {
		factors.TOTP = &identity.TOTP{Sealed: row.Secret, ConfirmedAt: row.ConfirmedAt, LastStep: row.LastStep}
	}
	return factors, err
}

const startTOTP = `
INSERT INTO totp_factors (user_id, secret) VALUES ($1, $2)
ON CONFLICT (user_id) DO UPDATE SET secret = EXCLUDED.secret, created_at = now() WHERE totp_factors.confirmed_at IS NULL`

// StartTOTP stores the encrypted secret of an authenticator app that ConfirmTOTP
// confirms. It returns identity.ErrFactorExists if the user has a confirmed one.
func (s *Store) StartTOTP(ctx context.Context, user uuid.UUID, sealed []byte) error {
	started, err := s.changes(ctx, "starting to set up an authenticator app", startTOTP, user, sealed)
	if err == nil && !started {
		return identity.ErrFactorExists
	}
	return err
}

// changeFactors surrounds a statement that adds or removes a second factor. It locks the user
// first, and ends the user's sessions. changed selects the user_id if something has changed.
func changeFactors(user, statements string) string {
	return `
WITH locked AS (
    SELECT id FROM users WHERE ` + user + ` = $1 FOR NO KEY UPDATE
), ` + statements + `, user_sessions_locked AS (
    SELECT s.id FROM user_sessions s JOIN changed ON changed.user_id = s.user_id ORDER BY s.id FOR UPDATE OF s
), ended AS (
    DELETE FROM user_sessions WHERE id IN (SELECT id FROM user_sessions_locked)
)
SELECT pg_notify('` + AccessRevokedChannel + `', user_id::text) FROM changed`
}

var confirmTOTP = changeFactors("id", `changed AS (
    UPDATE totp_factors SET confirmed_at = now(), last_step = $3 FROM locked
    WHERE user_id = locked.id AND secret = $2 AND confirmed_at IS NULL RETURNING user_id
), `+replaceCodes("changed", "$4"))

// replaceCodes replaces the recovery codes of the user_id of a CTE by the hashes in a
// parameter, unless that is empty.
func replaceCodes(users, hashes string) string {
	return `old_codes AS (
    DELETE FROM recovery_codes c USING ` + users + ` u WHERE c.user_id = u.user_id AND cardinality(` + hashes + `::bytea[]) > 0
), new_codes AS (
    INSERT INTO recovery_codes (user_id, hash) SELECT u.user_id, hash FROM ` + users + ` u, unnest(` + hashes + `::bytea[]) hash ORDER BY hash
)`
}

// ConfirmTOTP makes the authenticator app that StartTOTP stored a second factor, whose
// first code had this time step, and replaces the recovery codes. It ends the user's
// sessions. It returns identity.ErrNoFactor if there is no such unconfirmed secret.
func (s *Store) ConfirmTOTP(ctx context.Context, user uuid.UUID, sealed []byte, step int64, codes [][32]byte) error {
	return s.changeFactor(ctx, "confirming an authenticator app", confirmTOTP, user, sealed, step, bytesOf(codes))
}

const useTOTP = `
UPDATE totp_factors SET last_step = $2, secret = $3 WHERE user_id = $1 AND confirmed_at IS NOT NULL AND last_step < $2`

// UseTOTP records that a code of this time step was used, and stores the secret, which
// may have been encrypted anew. It returns false if a code of this step or of a later one
// has been used before.
func (s *Store) UseTOTP(ctx context.Context, user uuid.UUID, step int64, sealed []byte) (bool, error) {
	return s.changes(ctx, "recording the use of a code", useTOTP, user, step, sealed)
}

var removeTOTP = changeFactors("id", `changed AS (
    DELETE FROM totp_factors USING locked WHERE user_id = locked.id RETURNING user_id
), codes AS (
    DELETE FROM recovery_codes c USING changed WHERE c.user_id = changed.user_id
    AND NOT EXISTS (SELECT FROM passkeys p WHERE p.user_id = changed.user_id)
)`)

// RemoveTOTP removes the user's authenticator app, and the recovery codes if no other
// second factor is left. It ends the user's sessions. It returns identity.ErrNoFactor.
func (s *Store) RemoveTOTP(ctx context.Context, user uuid.UUID) error {
	return s.changeFactor(ctx, "removing an authenticator app", removeTOTP, user)
}

const useRecoveryCode = `
UPDATE recovery_codes SET used_at = now() WHERE user_id = $1 AND hash = ANY($2) AND used_at IS NULL`

// UseRecoveryCode uses up the code that has one of the hashes. It returns false if there
// is none, or it has been used.
func (s *Store) UseRecoveryCode(ctx context.Context, user uuid.UUID, hashes [][32]byte) (bool, error) {
	return s.changes(ctx, "using a recovery code", useRecoveryCode, user, bytesOf(hashes))
}

var replaceRecoveryCodes = `
WITH locked AS (
    SELECT id AS user_id FROM users WHERE id = $1 FOR NO KEY UPDATE
), ` + replaceCodes("locked", "$2") + `
SELECT FROM locked`

// ReplaceRecoveryCodes replaces the user's recovery codes.
func (s *Store) ReplaceRecoveryCodes(ctx context.Context, user uuid.UUID, hashes [][32]byte) error {
	_, err := s.db.ExecContext(ctx, replaceRecoveryCodes, user, bytesOf(hashes))
	return wrapError(err, "replacing recovery codes")
}

var resetFactors = changeFactors("email", `changed AS (
    SELECT id AS user_id FROM locked
), totp AS (
    DELETE FROM totp_factors t USING changed WHERE t.user_id = changed.user_id
), codes AS (
    DELETE FROM recovery_codes c USING changed WHERE c.user_id = changed.user_id
), keys AS (
    DELETE FROM passkeys p USING changed WHERE p.user_id = changed.user_id
)`)

// ResetFactors removes all second factors of a user and ends the user's sessions. It
// returns identity.ErrNoUser.
func (s *Store) ResetFactors(ctx context.Context, email string) error {
	return s.updateUser(ctx, "resetting second factors", resetFactors, email)
}

func (s *Store) changeFactor(ctx context.Context, doing, query string, args ...any) error {
	changed, err := s.changes(ctx, doing, query, args...)
	if err == nil && !changed {
		return identity.ErrNoFactor
	}
	return err
}

// changes reports whether the statement has changed or returned a row.
func (s *Store) changes(ctx context.Context, doing, query string, args ...any) (bool, error) {
	result, err := s.db.ExecContext(ctx, query, args...)
	if err != nil {
		return false, wrapError(err, doing)
	}
	n, err := result.RowsAffected()
	return n > 0, wrapError(err, doing)
}

func bytesOf(hashes [][32]byte) pq.ByteaArray {
	list := make(pq.ByteaArray, len(hashes))
	for i := range hashes {
		list[i] = hashes[i][:]
	}
	return list
}

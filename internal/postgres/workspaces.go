package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/identity"
)

const insertWorkspace = `
WITH w AS (
    INSERT INTO workspaces (id, name)
    SELECT $1, $2 WHERE (SELECT count(*) FROM members WHERE user_id = $3 AND workspace_id <> $1) < $4
    ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name RETURNING id
)
INSERT INTO members (workspace_id, user_id, permissions) SELECT id, $3, '{read,send,manage}' FROM w
ON CONFLICT (workspace_id, user_id) DO UPDATE SET permissions = EXCLUDED.permissions`

// CreateWorkspace adds a workspace, which the user may manage. It returns
// identity.ErrTooManyMembers when the user has identity.MaxWorkspaces. It is idempotent by
// the id, because database/sql repeats a statement whose connection broke.
func (s *Store) CreateWorkspace(ctx context.Context, id uuid.UUID, name string, user uuid.UUID) error {
	result, err := s.db.ExecContext(ctx, insertWorkspace, id, name, user, identity.MaxWorkspaces)
	if err != nil {
		return wrapError(err, "adding a workspace")
	}
	return oneRow(result, identity.ErrTooManyMembers)
}

// oneRow returns missing if a statement has changed nothing.
func oneRow(result sql.Result, missing error) error {
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(missing, err)
	}
	return nil
}

const renameWorkspace = `UPDATE workspaces SET name = $2 WHERE id = $1`

// RenameWorkspace changes the name of a workspace. It returns identity.ErrNoWorkspace.
func (s *Store) RenameWorkspace(ctx context.Context, id uuid.UUID, name string) error {
	result, err := s.db.ExecContext(ctx, renameWorkspace, id, name)
	if err != nil {
		return wrapError(err, "renaming a workspace")
	}
	return oneRow(result, identity.ErrNoWorkspace)
}

const updateDailyCap = `UPDATE workspaces SET daily_cap = nullif($2, 0) WHERE id = $1`

// SetDailyCap sets how many messages may be created in a workspace per UTC day; 0 for
// the installation's default. It returns identity.ErrNoWorkspace.
func (s *Store) SetDailyCap(ctx context.Context, id uuid.UUID, messages int) error {
	result, err := s.db.ExecContext(ctx, updateDailyCap, id, messages)
	if err != nil {
		return wrapError(err, "setting a daily cap")
	}
	return oneRow(result, identity.ErrNoWorkspace)
}

const selectWorkspaces = `
SELECT w.id, w.name, coalesce(w.daily_cap, 0) AS daily_cap, w.created_at, (SELECT count(*) FROM members m WHERE m.workspace_id = w.id) AS members
FROM workspaces w ORDER BY w.created_at, w.id`

// WorkspaceSummary describes a workspace for an operator.
type WorkspaceSummary struct {
	identity.Workspace
	CreatedAt time.Time
	Members   int
}

// AllWorkspaces returns every workspace, the oldest first.
func (s *Store) AllWorkspaces(ctx context.Context) ([]WorkspaceSummary, error) {
	var rows []struct {
		ID        uuid.UUID `db:"id"`
		Name      string    `db:"name"`
		DailyCap  int       `db:"daily_cap"`
		CreatedAt time.Time `db:"created_at"`
		Members   int       `db:"members"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectWorkspaces); err != nil {
		return nil, wrapError(err, "listing workspaces")
	}
	list := make([]WorkspaceSummary, len(rows))
	for i, row := range rows {
		list[i] = WorkspaceSummary{identity.Workspace{ID: row.ID, Name: row.Name, DailyCap: row.DailyCap}, row.CreatedAt, row.Members}
	}
	return list, nil
}

func permissionsOf(names pq.StringArray) []identity.Permission {
	permissions := make([]identity.Permission, len(names))
	for i, name := range names {
		permissions[i] = identity.Permission(name)
	}
	return permissions
}

const selectMembers = `
SELECT m.user_id, u.email, m.permissions, m.created_at FROM members m JOIN users u ON u.id = m.user_id
WHERE m.workspace_id = $1 ORDER BY u.email`

// Members returns the members of a workspace, by email.
func (s *Store) Members(ctx context.Context, workspace uuid.UUID) ([]identity.Member, error) {
	var rows []struct {
		UserID      uuid.UUID      `db:"user_id"`
		Email       string         `db:"email"`
		Permissions pq.StringArray `db:"permissions"`
		CreatedAt   time.Time      `db:"created_at"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectMembers, workspace); err != nil {
		return nil, wrapError(err, "listing members")
	}
	members := make([]identity.Member, len(rows))
	for i, row := range rows {
		members[i] = identity.Member{UserID: row.UserID, Email: row.Email, Permissions: permissionsOf(row.Permissions), Since: row.CreatedAt}
	}
	return members, nil
}

// lockWorkspace makes changes of a workspace's members wait for each other, so that two
// managers cannot remove each other at the same moment.
const lockWorkspace = `SELECT id FROM workspaces WHERE id = $1 FOR NO KEY UPDATE`

const countManagers = `SELECT count(*) FROM members WHERE workspace_id = $1 AND 'manage' = ANY (permissions)`

const updateMember = `
WITH m AS (
    UPDATE members SET permissions = $3 WHERE workspace_id = $1 AND user_id = $2 RETURNING user_id
)
SELECT pg_notify('` + AccessRevokedChannel + `', user_id::text) FROM m`

const deleteMember = `
WITH m AS (
    DELETE FROM members WHERE workspace_id = $1 AND user_id = $2 RETURNING user_id
)
SELECT pg_notify('` + AccessRevokedChannel + `', user_id::text) FROM m`

// SetPermissions changes what a member may do. It returns identity.ErrNoMember, and
// identity.ErrLastManager if nobody else may manage the workspace.
func (s *Store) SetPermissions(ctx context.Context, workspace, user uuid.UUID, permissions []identity.Permission) error {
	return s.changeMember(ctx, "changing a member", workspace, updateMember, workspace, user, pq.Array(permissions))
}

// RemoveMember removes a member. Their API keys go on working: those belong to the
// workspace. It returns identity.ErrNoMember, and identity.ErrLastManager if nobody else may
// manage the workspace.
func (s *Store) RemoveMember(ctx context.Context, workspace, user uuid.UUID) error {
	return s.changeMember(ctx, "removing a member", workspace, deleteMember, workspace, user)
}

func (s *Store) changeMember(ctx context.Context, doing string, workspace uuid.UUID, statement string, args ...any) error {
	return s.inTransaction(ctx, doing, func(tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, lockWorkspace, workspace); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		if err := oneRow(result, identity.ErrNoMember); err != nil {
			return err
		}
		var managers int
		if err := tx.GetContext(ctx, &managers, countManagers, workspace); err != nil {
			return err
		}
		if managers == 0 {
			return identity.ErrLastManager
		}
		return nil
	})
}

// inTransaction commits what change does unless it fails. A transaction is not repeated
// when its connection breaks, so change need not be idempotent.
func (s *Store) inTransaction(ctx context.Context, doing string, change func(*sqlx.Tx) error) error {
	ctx, cancel := s.db.withTimeout(ctx)
	defer cancel()
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return wrapError(err, doing)
	}
	defer tx.Rollback() //nolint:errcheck // does nothing after the commit
	if err := change(tx); err != nil {
		return wrapError(err, doing)
	}
	return wrapError(tx.Commit(), doing)
}

const selectUserID = `SELECT id FROM users WHERE email = $1`

const upsertMember = `
WITH m AS (
    INSERT INTO members (workspace_id, user_id, permissions) VALUES ($1, $2, $3)
    ON CONFLICT (workspace_id, user_id) DO UPDATE SET permissions = EXCLUDED.permissions RETURNING user_id
)
SELECT pg_notify('` + AccessRevokedChannel + `', user_id::text) FROM m`

// AddMember makes the user with the email a member, or changes what the member may do. It
// returns identity.ErrNoUser, identity.ErrNoWorkspace or identity.ErrLastManager.
func (s *Store) AddMember(ctx context.Context, workspace uuid.UUID, email string, permissions []identity.Permission) error {
	var user uuid.UUID
	err := s.db.GetContext(ctx, &user, selectUserID, email)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.ErrNoUser
	}
	if err != nil {
		return wrapError(err, "adding a member")
	}
	err = s.changeMember(ctx, "adding a member", workspace, upsertMember, workspace, user, pq.Array(permissions))
	if violates(err, "members_workspace_id_fkey") {
		return identity.ErrNoWorkspace
	}
	return err
}

const insertInvitation = `
INSERT INTO invitations AS i (id, workspace_id, email, permissions, token_hash, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + $7 * interval '1 day')
ON CONFLICT ON CONSTRAINT invitations_one_per_email DO UPDATE SET id = EXCLUDED.id, permissions = EXCLUDED.permissions,
    token_hash = EXCLUDED.token_hash, created_by = EXCLUDED.created_by, created_at = now(), expires_at = EXCLUDED.expires_at`

// countMembers selects how many others are members or invited, and whether the email is a
// member's.
const countMembers = `
SELECT (SELECT count(*) FROM members WHERE workspace_id = $1) + (SELECT count(*) FROM invitations WHERE workspace_id = $1 AND email <> $2) AS others,
    EXISTS (SELECT FROM members m JOIN users u ON u.id = m.user_id WHERE m.workspace_id = $1 AND u.email = $2) AS member`

// CreateInvitation adds an invitation that is valid for identity.InvitationDays. It replaces
// an earlier one of the same email, whose link then no longer works. It returns
// identity.ErrAlreadyMember and identity.ErrTooManyMembers.
func (s *Store) CreateInvitation(ctx context.Context, i identity.Invitation, hash [32]byte) error {
	return s.inTransaction(ctx, "adding an invitation", func(tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, lockWorkspace, i.WorkspaceID); err != nil {
			return err
		}
		var count struct {
			Others int  `db:"others"`
			Member bool `db:"member"`
		}
		if err := tx.GetContext(ctx, &count, countMembers, i.WorkspaceID, i.Email); err != nil {
			return err
		}
		switch {
		case count.Member:
			return identity.ErrAlreadyMember
		case count.Others >= identity.MaxMembers:
			return identity.ErrTooManyMembers
		}
		_, err := tx.ExecContext(ctx, insertInvitation,
			i.ID, i.WorkspaceID, i.Email, pq.Array(i.Permissions), hash[:], i.CreatedBy, identity.InvitationDays)
		return err
	})
}

const invitationColumns = `i.id, i.workspace_id, w.name AS workspace, i.email, i.permissions, i.created_by, i.created_at, i.expires_at,
    EXISTS (SELECT FROM users u WHERE u.email = i.email) AS known`

type invitationRow struct {
	ID          uuid.UUID      `db:"id"`
	WorkspaceID uuid.UUID      `db:"workspace_id"`
	Workspace   string         `db:"workspace"`
	Email       string         `db:"email"`
	Permissions pq.StringArray `db:"permissions"`
	CreatedBy   uuid.UUID      `db:"created_by"`
	CreatedAt   time.Time      `db:"created_at"`
	ExpiresAt   time.Time      `db:"expires_at"`
	Known       bool           `db:"known"`
}

func (r invitationRow) invitation() identity.Invitation {
	return identity.Invitation{
		ID: r.ID, WorkspaceID: r.WorkspaceID, Workspace: r.Workspace, Email: r.Email, Permissions: permissionsOf(r.Permissions),
		CreatedBy: r.CreatedBy, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, Known: r.Known,
	}
}

const selectInvitations = `
SELECT ` + invitationColumns + ` FROM invitations i JOIN workspaces w ON w.id = i.workspace_id
WHERE i.workspace_id = $1 AND i.expires_at > now() ORDER BY i.email`

// Invitations returns the invitations to a workspace that can still be accepted, by email.
func (s *Store) Invitations(ctx context.Context, workspace uuid.UUID) ([]identity.Invitation, error) {
	var rows []invitationRow
	if err := s.db.SelectContext(ctx, &rows, selectInvitations, workspace); err != nil {
		return nil, wrapError(err, "listing invitations")
	}
	list := make([]identity.Invitation, len(rows))
	for i, row := range rows {
		list[i] = row.invitation()
	}
	return list, nil
}

const selectInvitation = `
SELECT ` + invitationColumns + ` FROM invitations i JOIN workspaces w ON w.id = i.workspace_id
WHERE i.token_hash = $1 AND i.expires_at > now()`

// InvitationByToken returns the invitation with this hash of its token, or
// identity.ErrNoInvitation.
func (s *Store) InvitationByToken(ctx context.Context, hash [32]byte) (identity.Invitation, error) {
	return invitationByToken(ctx, s.db, hash)
}

func invitationByToken(ctx context.Context, db getter, hash [32]byte) (identity.Invitation, error) {
	var row invitationRow
	err := db.GetContext(ctx, &row, selectInvitation, hash[:])
	if errors.Is(err, sql.ErrNoRows) {
		return identity.Invitation{}, identity.ErrNoInvitation
	}
	return row.invitation(), wrapError(err, "reading an invitation")
}

const deleteInvitation = `DELETE FROM invitations WHERE id = $1 AND workspace_id = $2`

// WithdrawInvitation makes an invitation's link useless. It returns
// identity.ErrNoInvitation.
func (s *Store) WithdrawInvitation(ctx context.Context, workspace, id uuid.UUID) error {
	result, err := s.db.ExecContext(ctx, deleteInvitation, id, workspace)
	if err != nil {
		return wrapError(err, "withdrawing an invitation")
	}
	return oneRow(result, identity.ErrNoInvitation)
}

// insertMember gives a member the permissions of an invitation beside those that they have.
const insertMember = `
WITH m AS (
    INSERT INTO members AS m (workspace_id, user_id, permissions) VALUES ($1, $2, $3)
    ON CONFLICT (workspace_id, user_id) DO UPDATE SET permissions = ARRAY(SELECT DISTINCT unnest(m.permissions || EXCLUDED.permissions))
    RETURNING user_id
)
SELECT pg_notify('` + AccessRevokedChannel + `', user_id::text) FROM m`

const insertInvitedUser = `INSERT INTO users (id, email, password_hash, role) VALUES ($1, $2, $3, 'user')`

// AcceptInvitation makes the user a member of the workspace that the invitation is for, and
// returns the workspace. It returns identity.ErrNoInvitation, also if it was used before,
// identity.ErrOtherEmail, and identity.ErrTooManyMembers if the user has
// identity.MaxWorkspaces.
func (s *Store) AcceptInvitation(ctx context.Context, hash [32]byte, user identity.User) (workspace uuid.UUID, err error) {
	return s.join(ctx, "accepting an invitation", hash, user, func(*sqlx.Tx) error { return nil })
}

// CreateInvitedUser adds a user who accepts an invitation and gets no workspace of their
// own. It returns the errors of AcceptInvitation, and identity.ErrEmailTaken.
func (s *Store) CreateInvitedUser(ctx context.Context, hash [32]byte, user identity.User) (workspace uuid.UUID, err error) {
	return s.join(ctx, "adding an invited user", hash, user, func(tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, insertInvitedUser, user.ID, user.Email, string(user.PasswordHash))
		if violates(err, "users_email_taken") {
			return identity.ErrEmailTaken
		}
		return err
	})
}

// join uses an invitation up. prepare may create the user before.
func (s *Store) join(ctx context.Context, doing string, hash [32]byte, user identity.User, prepare func(*sqlx.Tx) error) (workspace uuid.UUID, err error) {
	err = s.inTransaction(ctx, doing, func(tx *sqlx.Tx) error {
		invitation, err := invitationByToken(ctx, tx, hash)
		if err != nil {
			return err
		}
		if invitation.Email != user.Email {
			return identity.ErrOtherEmail
		}
		if err := prepare(tx); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, lockWorkspace, invitation.WorkspaceID); err != nil {
			return err
		}
		var others int
		if err := tx.GetContext(ctx, &others, countWorkspaces, user.ID, invitation.WorkspaceID); err != nil {
			return err
		}
		if others >= identity.MaxWorkspaces {
			return identity.ErrTooManyMembers
		}
		if _, err := tx.ExecContext(ctx, insertMember, invitation.WorkspaceID, user.ID, pq.Array(invitation.Permissions)); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, useInvitation, hash[:])
		if err != nil {
			return err
		}
		workspace = invitation.WorkspaceID
		return oneRow(result, identity.ErrNoInvitation) // another request may have used it
	})
	return workspace, err
}

const countWorkspaces = `SELECT count(*) FROM members WHERE user_id = $1 AND workspace_id <> $2`

const useInvitation = `DELETE FROM invitations WHERE token_hash = $1 AND expires_at > now()`

const deleteOldInvitations = `
DELETE FROM invitations WHERE id IN (
    SELECT id FROM invitations WHERE expires_at < now() - interval '1 day' LIMIT $1 FOR UPDATE SKIP LOCKED)`

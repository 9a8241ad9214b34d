package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/operator"
)

const beginVerification = `INSERT INTO verifications (source) VALUES ($1) RETURNING id`

// BeginVerification records that an audit has begun, and returns its id.
func (s *Store) BeginVerification(ctx context.Context, source operator.Source) (int64, error) {
	var id int64
	err := s.db.GetContext(ctx, &id, beginVerification, string(source))
	return id, wrapError(err, "recording the begin of an audit")
}

// storedFinding is a finding as the table verifications has it.
type storedFinding struct {
	Invariant string `json:"invariant"`
	What      string `json:"what"`
	Count     int    `json:"count"`
	Broken    bool   `json:"broken"`
}

const finishVerification = `UPDATE verifications SET finished_at = clock_timestamp(), findings = $2, broken = $3 WHERE id = $1`

// FinishVerification stores the findings of an audit.
func (s *Store) FinishVerification(ctx context.Context, id int64, findings []audit.Finding) error {
	stored := make([]storedFinding, len(findings))
	for i, f := range findings {
		stored[i] = storedFinding(f)
	}
	encoded, err := json.Marshal(stored)
	if err != nil {
		return fmt.Errorf("encoding findings: %w", err)
	}
	_, err = s.db.ExecContext(ctx, finishVerification, id, string(encoded), operator.CountBroken(findings))
	return wrapError(err, "storing the findings of an audit")
}

const failVerification = `UPDATE verifications SET finished_at = clock_timestamp(), problem = $2 WHERE id = $1`

// FailVerification stores why an audit did not finish.
func (s *Store) FailVerification(ctx context.Context, id int64, problem string) error {
	_, err := s.db.ExecContext(ctx, failVerification, id, problem)
	return wrapError(err, "storing that an audit failed")
}

const selectVerifications = `
SELECT id, source, started_at, finished_at, findings, broken, problem FROM verifications ORDER BY started_at DESC, id DESC LIMIT $1`

// Verifications returns the last audits, the newest first.
func (s *Store) Verifications(ctx context.Context, limit int) ([]operator.Verification, error) {
	var rows []struct {
		ID         int64      `db:"id"`
		Source     string     `db:"source"`
		StartedAt  time.Time  `db:"started_at"`
		FinishedAt *time.Time `db:"finished_at"`
		Findings   []byte     `db:"findings"`
		Broken     int        `db:"broken"`
		Problem    string     `db:"problem"`
	}
	if err := s.db.SelectContext(ctx, &rows, selectVerifications, limit); err != nil {
		return nil, wrapError(err, "reading audits")
	}
	list := make([]operator.Verification, len(rows))
	for i, r := range rows {
		list[i] = operator.Verification{
			ID: r.ID, Source: operator.Source(r.Source), StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, Broken: r.Broken, Problem: r.Problem,
		}
		var stored []storedFinding
		if err := json.Unmarshal(r.Findings, &stored); err != nil {
			return nil, fmt.Errorf("decoding the findings of an audit: %w", err)
		}
		for _, f := range stored {
			list[i].Findings = append(list[i].Findings, audit.Finding(f))
		}
	}
	return list, nil
}

// verificationDue is true if no job has begun an audit since 03:00 UTC, or since the day
// before if it is earlier.
const verificationDue = `
SELECT NOT EXISTS (SELECT FROM verifications WHERE source = 'job'
    AND started_at >= (date_trunc('day', (now() - interval '3 hours') AT TIME ZONE 'UTC') + interval '3 hours') AT TIME ZONE 'UTC')`

// VerificationDue reports whether the audit of this night has not begun yet.
func (s *Store) VerificationDue(ctx context.Context) (bool, error) {
	var due bool
	err := s.db.GetContext(ctx, &due, verificationDue)
	return due, wrapError(err, "reading whether an audit is due")
}

const deleteOldVerifications = `
DELETE FROM verifications WHERE id IN (
    SELECT id FROM verifications WHERE started_at < now() - interval '400 days' LIMIT $1 FOR UPDATE SKIP LOCKED)`

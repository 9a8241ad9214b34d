package maintenance

import (
	"context"
	"errors"
	"time"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/operator"
)

// VerificationStore audits the database and keeps the results.
type VerificationStore interface {
	VerificationDue(ctx context.Context) (bool, error)
	BeginVerification(ctx context.Context, source operator.Source) (int64, error)
	FinishVerification(ctx context.Context, id int64, findings []audit.Finding) error
	FailVerification(ctx context.Context, id int64, problem string) error
}

// verificationProblem is stored for an audit that failed; the log has the error.
const verificationProblem = "The audit did not finish. The log of the worker says why."

// Verification returns the job that audits the records every night after 03:00 UTC. One
// process at a time runs it. run makes the audit, like "postcard verify".
func Verification(withLease WithLease, store VerificationStore, run func(context.Context) ([]audit.Finding, error)) Job {
	return Job{Name: "verification", Interval: 10 * time.Minute, Run: func(ctx context.Context) error {
		return withLease(ctx, "verification", func(ctx context.Context) error {
			due, err := store.VerificationDue(ctx)
			if err != nil || !due {
				return err
			}
			id, err := store.BeginVerification(ctx, operator.ByJob)
			if err != nil {
				return err
			}
			findings, err := run(ctx)
			if err != nil {
				return errors.Join(err, store.FailVerification(context.WithoutCancel(ctx), id, verificationProblem))
			}
			return store.FinishVerification(ctx, id, findings)
		})
	}}
}

package maintenance

import (
	"context"
	"log/slog"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// SilenceStore measures how long Plivo has been silent about attempts in doubt, and queues
// their messages again. RetrySilent reports false when the doubt was resolved before.
// SilenceOff returns for how long the rule stays off because it was wrong; RefuteMissed
// brings that up to date.
type SilenceStore interface {
	RefuteMissed(ctx context.Context) error
	SilenceOff(ctx context.Context) (time.Duration, error)
	Silences(ctx context.Context, p mms.SilencePolicy, limit int) ([]mms.Silence, error)
	RetrySilent(ctx context.Context, s mms.Silence, p mms.SilencePolicy) (bool, error)
}

// Silence returns the job that queues messages in doubt again when Plivo's silence shows
// that it does not have them (decision 7). It does nothing unless policy.After is set.
func Silence(store SilenceStore, policy mms.SilencePolicy, logger *slog.Logger) Job {
	s := &silence{store: store, policy: policy, logger: logger}
	return Job{Name: "silence", Interval: 5 * time.Second, Run: s.run}
}

type silence struct {
	store  SilenceStore
	policy mms.SilencePolicy
	logger *slog.Logger
	off    bool // at the last run
}

func (s *silence) run(ctx context.Context) error {
	if s.policy.After == 0 {
		return nil
	}
	if err := s.store.RefuteMissed(ctx); err != nil {
		return err
	}
	off, err := s.store.SilenceOff(ctx)
	if err != nil {
		return err
	}
	s.logOff(ctx, off)
	if s.off {
		return nil
	}
	silences, err := s.store.Silences(ctx, s.policy, batchSize)
	if err != nil {
		return err
	}
	for _, silent := range silences {
		if err := s.decide(ctx, silent); err != nil {
			return err
		}
	}
	return nil
}

func (s *silence) decide(ctx context.Context, silent mms.Silence) error {
	if !s.policy.Evidence(silent) {
		return nil
	}
	changed, err := s.store.RetrySilent(ctx, silent, s.policy)
	if changed {
		s.logger.WarnContext(ctx, "queued a message in doubt again", silent.LogAttr(), slog.String("evidence", silent.Description()))
	}
	return err
}

// logOff logs when the rule is switched off and when it works again.
func (s *silence) logOff(ctx context.Context, off time.Duration) {
	if off > 0 && !s.off {
		s.logger.ErrorContext(ctx, "DOUBT_SILENCE was wrong: Plivo had accepted a message that it had not reported, which may have been sent twice; the rule is off",
			slog.Duration("off_for", off.Round(time.Second)))
	}
	if off == 0 && s.off {
		s.logger.InfoContext(ctx, "DOUBT_SILENCE works again")
	}
	s.off = off > 0
}

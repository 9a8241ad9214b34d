package maintenance

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// silenceStore is a SilenceStore that finds the silences.
type silenceStore struct {
	callLog
	off      time.Duration
	silences []mms.Silence
}

func (s *silenceStore) RefuteMissed(context.Context) error { s.add("refute"); return nil }

func (s *silenceStore) SilenceOff(context.Context) (time.Duration, error) {
	s.add("off")
	return s.off, nil
}

func (s *silenceStore) Silences(context.Context, mms.SilencePolicy, int) ([]mms.Silence, error) {
	s.add("measure")
	return s.silences, nil
}

func (s *silenceStore) RetrySilent(_ context.Context, silent mms.Silence, _ mms.SilencePolicy) (bool, error) {
	s.add("retry %d", silent.Ordinal)
	return true, nil
}

func TestSilence(t *testing.T) {
	t.Parallel()
	silent := mms.Silence{AttemptRef: mms.AttemptRef{MessageID: uuid.New(), Ordinal: 1}, Lasted: 2 * time.Minute, Accepted: 100, Reported: 100}
	unreported := silent
	unreported.Ordinal, unreported.Reported = 2, 90
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	store := &silenceStore{silences: []mms.Silence{silent, unreported}}

	runOnce(t, Silence(store, mms.SilencePolicy{}, logger))
	store.check(t)

	job := Silence(store, mms.SilencePolicy{After: 90 * time.Second}, logger)
	runOnce(t, job)
	store.check(t, "refute", "off", "measure", "retry 1")

	store.calls, store.off = nil, 24*time.Hour
	runOnce(t, job)
	runOnce(t, job)
	store.check(t, "refute", "off", "refute", "off")
	if got := strings.Count(log.String(), "DOUBT_SILENCE was wrong"); got != 1 {
		t.Errorf("got %d notices that the rule is off, want 1:\n%s", got, &log)
	}

	store.calls, store.off = nil, 0
	runOnce(t, job)
	store.check(t, "refute", "off", "measure", "retry 1")
	if !strings.Contains(log.String(), "DOUBT_SILENCE works again") {
		t.Errorf("the log does not say that the rule works again:\n%s", &log)
	}
}

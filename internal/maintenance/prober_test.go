package maintenance

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeProberStore probes with one message.
type fakeProberStore struct {
	log    *callLog
	pauses []mms.Pause
}

func (s *fakeProberStore) Probe(context.Context) ([]mms.Task, error) {
	s.log.add("probe")
	return []mms.Task{testTask(3)}, nil
}

func (s *fakeProberStore) Pauses(context.Context) ([]mms.Pause, error) { return s.pauses, nil }

func TestProberProbesDuringAPause(t *testing.T) {
	t.Parallel()
	var logged strings.Builder
	log := &callLog{}
	store := &fakeProberStore{log: log}
	job := Prober(store, fakeEnqueuer{log}, slog.New(slog.NewTextHandler(&logged, nil)))
	pause := []mms.Pause{{Cause: mms.ReasonCredit}}
	for _, store.pauses = range [][]mms.Pause{nil, pause, pause, nil} {
		runOnce(t, job)
	}
	log.check(t, "probe", "enqueue 3:1", "probe", "enqueue 3:1")
	for _, text := range []string{"sending is paused", "sending has resumed"} {
		if n := strings.Count(logged.String(), text); n != 1 {
			t.Errorf("got %q logged %d times, want once:\n%s", text, n, logged.String())
		}
	}
}

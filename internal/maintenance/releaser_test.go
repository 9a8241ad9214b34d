package maintenance

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeReleaserStore releases two messages, or probes with a third.
type fakeReleaserStore struct {
	log    *callLog
	pauses []mms.Pause
}

func (s *fakeReleaserStore) Release(_ context.Context, ahead time.Duration) ([]mms.Task, error) {
	s.log.add("release %s ahead", ahead)
	return []mms.Task{testTask(1), testTask(2)}, nil
}

func (s *fakeReleaserStore) Probe(context.Context) ([]mms.Task, error) {
	s.log.add("probe")
	return []mms.Task{testTask(3)}, nil
}

func (s *fakeReleaserStore) Pauses(context.Context) ([]mms.Pause, error) { return s.pauses, nil }

type fakeEnqueuer struct{ log *callLog }

func (q fakeEnqueuer) Enqueue(_ context.Context, t mms.Task) error {
	q.log.add("enqueue %s", taskName(t))
	return nil
}

func TestReleaserProbesDuringAPause(t *testing.T) {
	t.Parallel()
	var logged strings.Builder
	log := &callLog{}
	store := &fakeReleaserStore{log: log}
	job := Releaser(store, fakeEnqueuer{log}, slog.New(slog.NewTextHandler(&logged, nil)))
	pause := []mms.Pause{{Cause: mms.ReasonCredit}}
	for _, store.pauses = range [][]mms.Pause{nil, pause, pause, nil} {
		runOnce(t, job)
	}
	release := []string{"release 300ms ahead", "enqueue 1:1", "enqueue 2:1"}
	probe := []string{"probe", "enqueue 3:1"}
	log.check(t, slices.Concat(release, probe, probe, release)...)
	for _, text := range []string{"sending is paused", "sending has resumed"} {
		if n := strings.Count(logged.String(), text); n != 1 {
			t.Errorf("got %q logged %d times, want once:\n%s", text, n, logged.String())
		}
	}
}

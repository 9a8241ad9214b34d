package maintenance

import (
	"context"
	"testing"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// fakeReleaserStore releases two messages.
type fakeReleaserStore struct{ log *callLog }

func (s fakeReleaserStore) Release(_ context.Context, ahead time.Duration) ([]mms.Task, error) {
	s.log.add("release %s ahead", ahead)
	return []mms.Task{testTask(1), testTask(2)}, nil
}

type fakeEnqueuer struct{ log *callLog }

func (q fakeEnqueuer) Enqueue(_ context.Context, t mms.Task) error {
	q.log.add("enqueue %s", taskName(t))
	return nil
}

func TestReleaserEnqueuesWhatItReleases(t *testing.T) {
	t.Parallel()
	log := &callLog{}
	runOnce(t, Releaser(fakeReleaserStore{log}, fakeEnqueuer{log}))
	log.check(t, "release 300ms ahead", "enqueue 1:1", "enqueue 2:1")
}

package maintenance

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

var (
	errStoreDown = errors.New("the database is down")
	errQueueDown = errors.New("the queue is down")
)

func discardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// callLog records the calls of fakes as text, in order.
type callLog struct {
	mu    sync.Mutex
	calls []string
}

func (l *callLog) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, fmt.Sprintf(format, args...))
}

// sorted sorts the calls, for jobs whose calls run concurrently.
func (l *callLog) sorted() *callLog {
	slices.Sort(l.calls)
	return l
}

func (l *callLog) check(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, l.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func runOnce(t *testing.T, job Job) {
	t.Helper()
	if err := job.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// batches returns a function that returns the sizes in order and then fails the
// test.
func batches(t *testing.T, sizes ...int) func() (int, error) {
	return func() (int, error) {
		if len(sizes) == 0 {
			t.Error("the job asked for a batch after a short one")
			return 0, nil
		}
		n := sizes[0]
		sizes = sizes[1:]
		return n, nil
	}
}

// testTask is the first task of message n, which taskName prints as "n:1".
func testTask(n byte) mms.Task { return mms.Task{MessageID: uuid.UUID{15: n}, Generation: 1} }

func taskName(t mms.Task) string { return fmt.Sprintf("%s:%d", shortID(t.MessageID), t.Generation) }

// shortID is the last digit of an id.
func shortID(id uuid.UUID) string { return id.String()[35:] }

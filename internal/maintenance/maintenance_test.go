package maintenance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

var errDown = errors.New("the database is down")

// books plays both the store and the queue of a caretaker, and notes in words
// what is asked of them.
type books struct {
	forgotten bool // the queue has lost its memory
	queueDown bool
	pages     [][]mms.TaskCheck // that are due, a sweep's page each
	states    map[string]mms.TaskState
	movedOn   bool
	pauses    []mms.Pause
	full      int // how many full batches of work there are
	mu        sync.Mutex
	calls     []string
}

func (b *books) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, fmt.Sprintf(format, args...))
}

func (b *books) HasMarker(context.Context) (bool, error) {
	if b.queueDown {
		return false, errDown
	}
	return !b.forgotten, nil
}

func (b *books) SetMarker(context.Context) error     { b.note("remind"); return nil }
func (b *books) CheckAllTasks(context.Context) error { b.note("relay all"); return nil }

func (b *books) TakeForTaskCheck(context.Context, int) ([]mms.TaskCheck, error) {
	if len(b.pages) == 0 {
		return nil, nil
	}
	page := b.pages[0]
	b.pages = b.pages[1:]
	return page, nil
}

func (b *books) NextTaskGeneration(_ context.Context, t mms.Task) (bool, error) {
	b.note("next generation of %s", name(t))
	return !b.movedOn, nil
}

func (b *books) RecordRequeued(_ context.Context, ids []uuid.UUID) error {
	var names []string
	for _, id := range ids {
		names = append(names, id.String()[35:])
	}
	b.note("relayed %s", strings.Join(names, ","))
	return nil
}

// EnsureTask knows tasks by the last digit of their message, and generation.
func (b *books) EnsureTask(_ context.Context, item mms.TaskCheck) (mms.TaskState, error) {
	b.note("ensure %s in %s", name(item.Task), item.Wait)
	state, ok := b.states[name(item.Task)]
	if !ok {
		return 0, errors.New("the queue broke off")
	}
	return state, nil
}

func name(t mms.Task) string { return fmt.Sprintf("%s:%d", t.MessageID.String()[35:], t.Generation) }

func item(n byte, wait time.Duration) mms.TaskCheck {
	return mms.TaskCheck{Task: mms.Task{MessageID: uuid.UUID{15: n}, Generation: 1}, Wait: wait}
}

func (b *books) sorted() []string {
	slices.Sort(b.calls)
	return b.calls
}

func newRelay(b *books) *taskRelay {
	return &taskRelay{store: b, queue: b, logger: slog.New(slog.DiscardHandler)}
}

func TestRelayPutsBackWhatIsMissing(t *testing.T) {
	t.Parallel()
	b := &books{
		pages: [][]mms.TaskCheck{{item(1, 0), item(2, time.Minute), item(3, 0), item(4, 0)}},
		states: map[string]mms.TaskState{
			"1:1": mms.TaskAdded, "2:1": mms.TaskPresent, "3:1": mms.TaskStuck, "3:2": mms.TaskAdded, "4:1": mms.TaskStuck, "4:2": mms.TaskPresent,
		},
	}
	if err := newRelay(b).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"ensure 1:1 in 0s", "ensure 2:1 in 1m0s", "ensure 3:1 in 0s", "ensure 3:2 in 0s", "ensure 4:1 in 0s", "ensure 4:2 in 0s",
		"next generation of 3:1", "next generation of 4:1", "relayed 1,3",
	}
	if diff := cmp.Diff(want, b.sorted()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestRelayLeavesAMessageThatMovedOn(t *testing.T) {
	t.Parallel()
	b := &books{pages: [][]mms.TaskCheck{{item(1, 0)}}, states: map[string]mms.TaskState{"1:1": mms.TaskStuck}, movedOn: true}
	if err := newRelay(b).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ensure 1:1 in 0s", "next generation of 1:1"}, b.sorted()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestRelayTakesNothingWhileTheQueueIsAway(t *testing.T) {
	t.Parallel()
	b := &books{queueDown: true, pages: [][]mms.TaskCheck{{item(1, 0)}}}
	if err := newRelay(b).run(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("Sweep() = %v, want the queue's error", err)
	}
	if len(b.pages) != 1 {
		t.Error("messages were taken, and come up again only later")
	}
}

// TestRelayReactsToLostMemory wants the reminder last: a relay that dies before
// it leaves the work to the next.
func TestRelayReactsToLostMemory(t *testing.T) {
	t.Parallel()
	b := &books{forgotten: true}
	if err := newRelay(b).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"relay all", "remind"}, b.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestRelayNotesWhatItDidBeforeTheQueueBrokeOff(t *testing.T) {
	t.Parallel()
	b := &books{pages: [][]mms.TaskCheck{{item(1, 0)}, nil}, states: map[string]mms.TaskState{"1:1": mms.TaskAdded}}
	relay := newRelay(b)
	if _, err := relay.checkBatch(t.Context(), []mms.TaskCheck{item(1, 0), item(9, 0)}); err == nil {
		t.Error("the error of the queue was lost")
	}
	// Which of the two came first is open; one that was added is noted.
	added := slices.Contains(b.calls, "ensure 1:1 in 0s")
	if noted := slices.Contains(b.calls, "relayed 1"); noted != added {
		t.Errorf("added: %v, noted: %v", added, noted)
	}
}

// TestRelayGoesOnWhileTasksAreMissing has it come to the last page when the queue
// lost some, and leave a queue alone that is only long.
func TestRelayGoesOnWhileTasksAreMissing(t *testing.T) {
	t.Parallel()
	page := func(task byte) []mms.TaskCheck {
		items := make([]mms.TaskCheck, batchSize)
		for i := range items {
			items[i] = item(2, 0)
		}
		items[batchSize/2] = item(task, 0)
		return items
	}
	states := map[string]mms.TaskState{"1:1": mms.TaskAdded, "2:1": mms.TaskPresent}
	for name, tt := range map[string]struct {
		pages [][]mms.TaskCheck
		want  int
	}{
		"tasks are missing on each page": {[][]mms.TaskCheck{page(1), page(1), {item(2, 0)}}, 2*batchSize + 1},
		"none is missing on the second":  {[][]mms.TaskCheck{page(1), page(2), page(1)}, 2 * batchSize},
		"none is missing on the first":   {[][]mms.TaskCheck{page(2), page(1)}, batchSize},
	} {
		b := &books{pages: tt.pages, states: states}
		if err := newRelay(b).run(t.Context()); err != nil {
			t.Fatal(err)
		}
		looks := 0
		for _, call := range b.calls {
			if strings.HasPrefix(call, "ensure") {
				looks++
			}
		}
		if looks != tt.want {
			t.Errorf("%s: %d tasks were looked at, want %d", name, looks, tt.want)
		}
	}
}

func (b *books) Release(_ context.Context, ahead time.Duration) ([]mms.Task, error) {
	b.note("release %s ahead", ahead)
	return []mms.Task{item(1, 0).Task, item(2, 0).Task}, nil
}

func (b *books) Probe(context.Context) ([]mms.Task, error) {
	b.note("probe")
	return []mms.Task{item(3, 0).Task}, nil
}

func (b *books) Pauses(context.Context) ([]mms.Pause, error) { return b.pauses, nil }

func (b *books) Enqueue(_ context.Context, t mms.Task) error {
	b.note("enqueue %s", name(t))
	return nil
}

func TestPacerProbesDuringAPause(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	b := &books{}
	releaser := Releaser(b, b, slog.New(slog.NewTextHandler(&log, nil)))
	broke := []mms.Pause{{Cause: mms.ReasonCredit}}
	for _, b.pauses = range [][]mms.Pause{nil, broke, broke, nil} {
		if err := releaser.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	release := []string{"release 300ms ahead", "enqueue 1:1", "enqueue 2:1"}
	probe := []string{"probe", "enqueue 3:1"}
	if diff := cmp.Diff(slices.Concat(release, probe, probe, release), b.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if begins, ends := strings.Count(log.String(), "sending is paused"), strings.Count(log.String(), "sending has resumed"); begins != 1 || ends != 1 {
		t.Errorf("the pause was logged %d times and its end %d times:\n%s", begins, ends, log.String())
	}
}

// some is how much work of a full-batch kind is left.
func (b *books) some(what string) (int, error) {
	b.note("%s", what)
	b.full--
	if b.full >= 0 {
		return batchSize, nil
	}
	return 1, nil
}

func (b *books) ExpireQueued(context.Context, int) (int, error) { return b.some("expire") }
func (b *books) ReapLeases(context.Context, int) (int, error)   { return b.some("doubt") }

func (b *books) CloseUnreported(_ context.Context, silence time.Duration, _ int) (int, error) {
	return b.some("close after " + silence.String())
}

func TestCaretakersGoOnUntilAllIsDone(t *testing.T) {
	t.Parallel()
	b := &books{full: 2}
	if err := Expirer(b.ExpireQueued).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.full = 1
	if err := LeaseReaper(b.ReapLeases, slog.New(slog.DiscardHandler)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.full = 1
	if err := UnreportedCloser(b.CloseUnreported).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"expire", "expire", "expire", "doubt", "doubt", "close after 24h0m0s", "close after 24h0m0s"}
	if diff := cmp.Diff(want, b.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestEvery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		ctx, cancel := context.WithCancel(t.Context())
		wake := make(chan struct{})
		begun := time.Now()
		var at []time.Duration
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			job := Job{Name: "task relay", Interval: time.Minute, Wake: wake, Run: func(context.Context) error {
				at = append(at, time.Since(begun))
				if len(at) == 2 || len(at) == 3 {
					return errDown
				}
				return nil
			}}
			Run(ctx, job, slog.New(slog.NewTextHandler(&log, nil)))
		}()
		time.Sleep(30 * time.Second)
		wake <- struct{}{}
		time.Sleep(3 * time.Minute)
		cancel()
		<-ended
		want := []time.Duration{0, 30 * time.Second, time.Minute, 2 * time.Minute, 3 * time.Minute}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("sweeps (-want +got):\n%s", diff)
		}
		if failed, mended := strings.Count(log.String(), "is failing"), strings.Count(log.String(), "has recovered"); failed != 1 || mended != 1 {
			t.Errorf("the failure was logged %d times and its end %d times:\n%s", failed, mended, log.String())
		}
	})
}

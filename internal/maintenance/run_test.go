package maintenance

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRunRepeatsUntilCanceled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var logged strings.Builder
		ctx, cancel := context.WithCancel(t.Context())
		wake := make(chan struct{})
		start := time.Now()
		var runs []time.Duration
		job := Job{Name: "task relay", Interval: time.Minute, Wake: wake, Run: func(context.Context) error {
			runs = append(runs, time.Since(start))
			if len(runs) == 2 || len(runs) == 3 {
				return errStoreDown
			}
			return nil
		}}
		done := make(chan struct{})
		go func() {
			defer close(done)
			Run(ctx, job, slog.New(slog.NewTextHandler(&logged, nil)))
		}()
		time.Sleep(30 * time.Second)
		wake <- struct{}{}
		time.Sleep(3 * time.Minute)
		cancel()
		<-done
		want := []time.Duration{0, 30 * time.Second, time.Minute, 2 * time.Minute, 3 * time.Minute}
		if diff := cmp.Diff(want, runs); diff != "" {
			t.Errorf("runs (-want +got):\n%s", diff)
		}
		for _, text := range []string{"task relay is failing", "task relay has recovered"} {
			if n := strings.Count(logged.String(), text); n != 1 {
				t.Errorf("got %q logged %d times, want once:\n%s", text, n, logged.String())
			}
		}
	})
}

package app

import (
	"context"
	"errors"
	"testing"

	"github.com/postcard-mms/postcard/internal/queue"
)

func TestQueueHealthNamesFaults(t *testing.T) {
	t.Parallel()
	errDown := errors.New("secret host is down")
	tests := map[string]struct {
		faults      queue.Faults
		faultsErr   error
		stuck       bool
		progressErr error
		want        string
	}{
		"ok":                  {want: "ok"},
		"wrong key":           {faults: queue.Faults{WrongKeys: []string{"asynq:{messages}:pending"}}, want: "wrong type of key: asynq:{messages}:pending"},
		"paused and stuck":    {faults: queue.Faults{Paused: []string{"messages", "webhooks"}}, stuck: true, want: "paused: messages, webhooks; messages without progress"},
		"stuck":               {stuck: true, want: "messages without progress"},
		"Redis is down":       {faultsErr: errDown, stuck: true, want: "unknown"},
		"database is down":    {progressErr: errDown, want: "unknown"},
		"paused, no database": {faults: queue.Faults{Paused: []string{"messages"}}, progressErr: errDown, want: "paused: messages"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := queueHealth(
				func(context.Context) (queue.Faults, error) { return tt.faults, tt.faultsErr },
				func(context.Context) (bool, error) { return tt.stuck, tt.progressErr })
			if got := d.state(t.Context()); got != tt.want || d.required {
				t.Errorf("got %q, required %t, want %q, not required", got, d.required, tt.want)
			}
		})
	}
}

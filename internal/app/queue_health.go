package app

import (
	"context"
	"strings"

	"github.com/postcard-mms/postcard/internal/queue"
)

// queueHealth returns the entry of /readyz that says whether messages make progress. It
// makes no process unready: to restart one, or to send it no requests, would not help.
func queueHealth(faults func(context.Context) (queue.Faults, error), withoutProgress func(context.Context) (bool, error)) dependency {
	return dependency{name: "queue", state: func(ctx context.Context) string {
		found, err := faults(ctx)
		if err != nil {
			return "unknown"
		}
		var states []string
		if len(found.WrongKeys) > 0 {
			states = append(states, "wrong type of key: "+strings.Join(found.WrongKeys, ", "))
		}
		if len(found.Paused) > 0 {
			states = append(states, "paused: "+strings.Join(found.Paused, ", "))
		}
		stuck, err := withoutProgress(ctx)
		switch {
		case err != nil && len(states) == 0:
			return "unknown"
		case stuck:
			states = append(states, "messages without progress")
		case len(states) == 0:
			return "ok"
		}
		return strings.Join(states, "; ")
	}}
}

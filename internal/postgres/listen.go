package postgres

import (
	"context"
	"log/slog"
	"time"

	"github.com/lib/pq"
)

// RelayChannel is notified when a message needs the relay before its time.
const RelayChannel = "relay"

const (
	listenRetryMin = 100 * time.Millisecond
	listenRetryMax = 10 * time.Second
)

// Listen returns a channel that gets a value soon after each notification on
// the database's channel, and after each time the connection was lost, since
// notifications may have been missed. It listens until ctx ends.
func Listen(ctx context.Context, url, channel string, logger *slog.Logger) (<-chan struct{}, error) {
	listener := pq.NewListener(url, listenRetryMin, listenRetryMax, func(_ pq.ListenerEventType, err error) {
		if err != nil {
			logger.WarnContext(ctx, "listening to the database was interrupted", slog.Any("error", err))
		}
	})
	if err := listener.Listen(channel); err != nil {
		listener.Close()
		return nil, translate(err, "listening to the database")
	}
	wake := make(chan struct{}, 1)
	go func() {
		defer listener.Close()
		for {
			select {
			case <-listener.Notify: // nil after a reconnection
			case <-ctx.Done():
				return
			}
			select {
			case wake <- struct{}{}:
			default: // somebody was told already
			}
		}
	}()
	return wake, nil
}

package postgres

import (
	"context"
	"log/slog"
	"time"

	"github.com/lib/pq"
)

// The channels of the database that processes listen to.
const (
	TaskCheckChannel      = "task_check"      // a message needs the relay before its time
	MessageChangesChannel = "message_changes" // messages have changed: their ids, separated by spaces
	AccessRevokedChannel  = "access_revoked"  // an access has ended: the id of an API key, or of a user
)

const (
	listenRetryMin = 100 * time.Millisecond
	listenRetryMax = 10 * time.Second
)

// Listen returns a channel that gets each notification on the database's
// channel, and "" after each time the connection was lost, since notifications
// may have been missed. It listens until ctx ends; who receives too slowly holds
// up nobody else.
func Listen(ctx context.Context, url, channel string, logger *slog.Logger) (<-chan string, error) {
	listener := pq.NewListener(url, listenRetryMin, listenRetryMax, func(_ pq.ListenerEventType, err error) {
		if err != nil {
			logger.WarnContext(ctx, "listening to the database was interrupted", slog.Any("error", err))
		}
	})
	if err := listener.Listen(channel); err != nil {
		listener.Close()
		return nil, wrapError(err, "listening to the database")
	}
	heard := make(chan string, 1)
	go func() {
		defer listener.Close()
		for {
			payload := ""
			select {
			case n := <-listener.Notify:
				if n != nil { // nil after a reconnection
					payload = n.Extra
				}
			case <-ctx.Done():
				return
			}
			select {
			case heard <- payload:
			case <-ctx.Done():
				return
			}
		}
	}()
	return heard, nil
}

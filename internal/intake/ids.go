package intake

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// IDs makes the ids of messages and batches. They are UUIDv7, by the database's clock:
// lists are in the order of the ids, and filters and statistics by time look for ids of
// that time. A nil *IDs uses the clock of this process.
type IDs struct {
	now   func(context.Context) (time.Time, error)
	ahead atomic.Int64 // how many milliseconds the database's clock is ahead of this process's
}

// NewIDs returns IDs by the clock that now reads. Before the first Measure it uses the
// clock of this process.
func NewIDs(now func(context.Context) (time.Time, error)) *IDs { return &IDs{now: now} }

// MeasureInterval is how often Measure must be called, because clocks are set.
const MeasureInterval = time.Minute

// Measure compares the two clocks.
func (ids *IDs) Measure(ctx context.Context) error {
	before := time.Now()
	now, err := ids.now(ctx)
	if err != nil {
		return fmt.Errorf("comparing clocks: %w", err)
	}
	ids.ahead.Store(now.Sub(before.Add(time.Since(before) / 2)).Milliseconds())
	return nil
}

// next returns a new id.
func (ids *IDs) next() (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return id, fmt.Errorf("generating an id: %w", err)
	}
	if ids == nil {
		return id, nil
	}
	// The first 48 bits are the time in milliseconds.
	first := binary.BigEndian.Uint64(id[:8])
	binary.BigEndian.PutUint64(id[:8], (first>>16+uint64(ids.ahead.Load()))<<16|first&0xffff)
	return id, nil
}

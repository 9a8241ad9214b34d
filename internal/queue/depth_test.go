package queue_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// TestDepthCountsTasks enqueues messages of each priority.
func TestDepthCountsTasks(t *testing.T) {
	t.Parallel()
	c := newTestQueue(t).client
	for i, priority := range []mms.Priority{mms.High, mms.Normal, mms.Bulk} {
		if n, err := c.Depth(t.Context()); err != nil || n != i {
			t.Errorf("Depth() = %d, %v, want %d", n, err, i)
		}
		if err := c.Enqueue(t.Context(), mms.Task{MessageID: uuid.New(), Generation: 1, Priority: priority}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := c.Depth(t.Context()); err != nil || n != 3 {
		t.Errorf("Depth() = %d, %v, want 3", n, err)
	}
}

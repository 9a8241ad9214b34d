package testkit

import (
	"testing"
	"time"
)

// defaultTimeout is how long a test waits for a condition. It is much longer than
// conditions take, and only elapses when the test fails.
const defaultTimeout = time.Minute

// Eventually waits until cond holds, and fails the test if it does not within a
// minute. The description says what is awaited.
func Eventually(t testing.TB, description string, cond func() bool) {
	t.Helper()
	EventuallyWithin(t, defaultTimeout, description, cond)
}

// EventuallyWithin is Eventually with a timeout.
func EventuallyWithin(t testing.TB, timeout time.Duration, description string, cond func() bool) {
	t.Helper()
	start := time.Now()
	for !cond() {
		waited := time.Since(start)
		if waited > timeout {
			t.Fatalf("still waiting after %v: %s", timeout, description)
		}
		time.Sleep(pollInterval(waited))
	}
}

// pollInterval grows with the time waited, up to 100 ms: many tests poll a database
// at the same time, and a long wait need not end to the millisecond.
func pollInterval(waited time.Duration) time.Duration {
	return min(max(waited/20, 5*time.Millisecond), 100*time.Millisecond)
}

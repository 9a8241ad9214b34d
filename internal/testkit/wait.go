package testkit

import (
	"testing"
	"time"
)

// patience is how long a test waits for something that ought to happen: far
// longer than it takes, since it is only used up when the test fails.
const patience = 30 * time.Second

// Eventually waits until cond holds, and fails the test when it does not in
// good time. what says what was awaited.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	EventuallyWithin(t, patience, what, cond)
}

// EventuallyWithin is Eventually for what may take longer.
func EventuallyWithin(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting after %v: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

package intake

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestIDsFollowTheDatabase has a process whose clock differs from the database's.
func TestIDsFollowTheDatabase(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour} {
		var err error
		ids := NewIDs(func(context.Context) (time.Time, error) { return time.Now().Add(ahead), err })
		if err := ids.Measure(t.Context()); err != nil {
			t.Fatal(err)
		}
		err = errors.New("the database is down")
		if err := ids.Measure(t.Context()); err == nil {
			t.Error("Measure() succeeded without a database, want an error")
		}
		id, idErr := ids.next()
		seconds, nanoseconds := id.Time().UnixTime()
		got := time.Until(time.Unix(seconds, nanoseconds))
		if idErr != nil || id.Version() != 7 || id.Variant().String() != "RFC4122" || (got-ahead).Abs() > time.Minute {
			t.Errorf("database ahead by %v: got id %s of a time in %v, %v", ahead, id, got, idErr)
		}
		if second, err := ids.next(); err != nil || second == id {
			t.Errorf("got the same id twice, or an error: %s, %v", second, err)
		}
	}
}

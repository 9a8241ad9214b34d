package plivosim

import "time"

// mpsQueue limits messages per second as documented: messages leave the account's queue
// and then the sender number's queue, each in the order of arrival. The departure time is
// computed on arrival, so no goroutine is needed.
type mpsQueue struct {
	accountInterval, numberInterval time.Duration // between two messages; 0: no queue
	accountNext                     time.Time
	numberNext                      map[string]time.Time
}

func (s *Simulator) newQueue() mpsQueue {
	return mpsQueue{
		accountInterval: s.interval(s.cfg.AccountRate),
		numberInterval:  s.interval(s.cfg.NumberRate),
		numberNext:      make(map[string]time.Time),
	}
}

func (s *Simulator) interval(perSecond float64) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	return s.scaled(time.Duration(float64(time.Second) / perSecond))
}

// join returns how long a message from the number is queued. If that exceeds its expiry,
// the message does not occupy the queue; it fails at the time it would have left.
func (q *mpsQueue) join(now time.Time, from string, expiry time.Duration) (wait time.Duration, expired bool) {
	account := later(now, q.accountNext)
	departure := later(account, q.numberNext[from])
	wait = departure.Sub(now)
	if wait > expiry {
		return wait, true
	}
	q.accountNext = account.Add(q.accountInterval)
	q.numberNext[from] = departure.Add(q.numberInterval)
	return wait, false
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

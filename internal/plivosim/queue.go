package plivosim

import "time"

// mpsQueue paces messages as Plivo documents: they leave the account's queue
// and then the sender number's queue, each in the order of arrival. A message's
// turn is known when it joins, so no worker is needed.
type mpsQueue struct {
	accountGap, numberGap time.Duration // between two messages; 0: no queue
	accountNext           time.Time
	numberNext            map[string]time.Time
}

func (s *Simulator) newQueue() mpsQueue {
	return mpsQueue{
		accountGap: s.gap(s.cfg.AccountRate),
		numberGap:  s.gap(s.cfg.NumberRate),
		numberNext: make(map[string]time.Time),
	}
}

func (s *Simulator) gap(perSecond float64) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	return s.scaled(time.Duration(float64(time.Second) / perSecond))
}

// join returns how long a message from the number waits for its turn. When that
// is longer than its expiry, it takes no turn and fails when it would have come.
func (q *mpsQueue) join(now time.Time, from string, expiry time.Duration) (wait time.Duration, expired bool) {
	account := later(now, q.accountNext)
	turn := later(account, q.numberNext[from])
	wait = turn.Sub(now)
	if wait > expiry {
		return wait, true
	}
	q.accountNext = account.Add(q.accountGap)
	q.numberNext[from] = turn.Add(q.numberGap)
	return wait, false
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

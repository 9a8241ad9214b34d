package plivosim

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// epoch is the state between two calls of Reset. mu guards its fields except ctx and
// cancel.
type epoch struct {
	ctx    context.Context // ends with Reset or Close
	cancel context.CancelFunc

	mu            sync.Mutex
	messages      []*message // in order of acceptance
	requests      []*Request // in order of arrival
	uploads       []*Upload  // in order of arrival
	contents      []*content // in order of arrival
	faults        []Fault
	random        *rand.Rand
	onceSeen      map[onceKey]bool
	requestLog    window
	listLog       window
	inFlight      int
	queue         mpsQueue
	optedOut      map[pair]bool
	noCreditUntil time.Time // the account has no credit before this time
}

func (s *Simulator) newEpoch() *epoch {
	ctx, cancel := context.WithCancel(context.Background())
	return &epoch{
		ctx:        ctx,
		cancel:     cancel,
		random:     rand.New(rand.NewPCG(s.cfg.Seed, 0)),
		onceSeen:   make(map[onceKey]bool),
		optedOut:   make(map[pair]bool),
		requestLog: window{limit: s.cfg.RequestRate, span: requestWindow},
		listLog:    window{limit: s.cfg.ListRate, span: listWindow},
		queue:      s.newQueue(),
	}
}

func (s *Simulator) current() *epoch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

package plivosim

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// era is everything that Reset throws away. Its fields are guarded by mu,
// except ctx and cancel.
type era struct {
	ctx    context.Context // ends with Reset or Close
	cancel context.CancelFunc

	mu         sync.Mutex
	messages   []*message // in order of acceptance
	requests   []*Request // in order of arrival
	faults     []Fault
	random     *rand.Rand
	onceSeen   map[onceKey]bool
	requestLog window
	listLog    window
	underWay   int
	queue      mpsQueue
	optedOut   map[pair]bool
	brokeUntil time.Time // the account has no credit before this time
}

func (s *Simulator) newEra() *era {
	ctx, cancel := context.WithCancel(context.Background())
	return &era{
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

func (s *Simulator) current() *era {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.era
}

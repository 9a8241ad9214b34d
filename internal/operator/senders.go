package operator

import (
	"context"
	"slices"
	"sync"

	"github.com/postcard-mms/postcard/internal/mms"
)

// SenderNumber is a sender that has a row: one that was added or changed on the page, or one
// of a process's environment.
type SenderNumber struct {
	Number  mms.PhoneNumber
	OnPage  bool // added on the page; otherwise it exists only for processes that have it in their environment
	Resting bool
}

// SenderNumbers lists the senders that have a row, in the order of their numbers.
type SenderNumbers interface {
	SenderNumbers(ctx context.Context) ([]SenderNumber, error)
}

// SenderList knows which senders exist and which of them rest. Refresh makes it current. It
// is safe for concurrent use.
type SenderList struct {
	environment []mms.PhoneNumber
	store       SenderNumbers

	mu     sync.Mutex
	all    []mms.PhoneNumber // those of the environment first
	active []mms.PhoneNumber // those that do not rest
}

// NewSenderList returns the list of a process with these senders in its environment. Until
// Refresh, it has only them.
func NewSenderList(environment []mms.PhoneNumber, store SenderNumbers) *SenderList {
	return &SenderList{environment: environment, store: store, all: environment, active: environment}
}

// Refresh reads the senders from the store. After an error the list stays as it is.
func (l *SenderList) Refresh(ctx context.Context) error {
	stored, err := l.store.SenderNumbers(ctx)
	if err != nil {
		return err
	}
	all := slices.Clone(l.environment)
	resting := map[mms.PhoneNumber]bool{}
	for _, s := range stored {
		if s.OnPage && !slices.Contains(all, s.Number) {
			all = append(all, s.Number)
		}
		resting[s.Number] = s.Resting
	}
	active := slices.DeleteFunc(slices.Clone(all), func(n mms.PhoneNumber) bool { return resting[n] })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all, l.active = all, active
	return nil
}

// All returns every sender. The caller must not change the slice.
func (l *SenderList) All() []mms.PhoneNumber {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// Active returns the senders that do not rest. The caller must not change the slice.
func (l *SenderList) Active() []mms.PhoneNumber {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active
}

// Environment returns the senders of the process's environment.
func (l *SenderList) Environment() []mms.PhoneNumber { return l.environment }

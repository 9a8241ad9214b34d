package plivosim

import (
	"errors"
	"fmt"
	"slices"
)

// Fault applies a scenario to message requests regardless of their recipient's suffix, or
// to uploads, which know UploadFailed and some scenarios of message requests. Requests that fail authentication, limits or validation never reach a fault.
type Fault struct {
	Scenario    Scenario `json:"scenario"`
	Count       int      `json:"count"`       // how many requests it applies to; 0: until cleared
	Probability float64  `json:"probability"` // chance per request, up to 1; 0: always
	Recipient   string   `json:"recipient"`   // applies only to this recipient, in any format; empty: to all
	Upload      bool     `json:"upload"`      // applies to uploads instead of message requests
}

// onceKey identifies a recipient whose first request met a scenario that applies once.
type onceKey struct {
	scenario  Scenario
	recipient string
}

// SetFault adds a fault, or replaces the one with the same scenario and recipient, or
// scenario and Upload. The
// first fault that applies is used, in the order in which they were set. It returns an
// error if a field is invalid.
func (s *Simulator) SetFault(f Fault) error {
	_, known := s.scripts[f.Scenario]
	switch {
	case f.Upload && !slices.Contains(uploadScenarios(), f.Scenario):
		return fmt.Errorf("uploads do not know the scenario %q", f.Scenario)
	case f.Upload && f.Recipient != "":
		return errors.New("uploads have no recipient")
	case !f.Upload && !known:
		return fmt.Errorf("unknown scenario %q", f.Scenario)
	}
	if f.Count < 0 {
		return fmt.Errorf("count must not be negative, got %d", f.Count)
	}
	if !(f.Probability >= 0 && f.Probability <= 1) {
		return fmt.Errorf("probability must be between 0 and 1, got %v", f.Probability)
	}
	f.Recipient = digitsOf(f.Recipient)
	s.current().setFault(f)
	return nil
}

// ClearFaults removes all faults, and lets scenarios that apply once apply again.
func (s *Simulator) ClearFaults() {
	e := s.current()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = nil
	clear(e.onceSeen)
}

func (e *epoch) setFault(f Fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.IndexFunc(e.faults, func(old Fault) bool {
		return old.Scenario == f.Scenario && old.Recipient == f.Recipient && old.Upload == f.Upload
	})
	if i >= 0 {
		e.faults[i] = f
		return
	}
	e.faults = append(e.faults, f)
}

// choose returns the script for a request and decrements the count of its fault.
func (s *Simulator) choose(e *epoch, from, recipient string) script {
	e.mu.Lock()
	defer e.mu.Unlock()
	name, hit := e.useFault(func(f Fault) bool {
		return !f.Upload && (f.Recipient == "" || f.Recipient == recipient)
	})
	if !hit {
		name = s.magicScenario(recipient)
	}
	if !hit && e.optedOut[pair{digitsOf(from), recipient}] {
		name = FailedOptedOut
	}
	chosen := s.scripts[name]
	if !chosen.once {
		return chosen
	}
	key := onceKey{name, recipient}
	if e.onceSeen[key] {
		return s.scripts[Delivered]
	}
	e.onceSeen[key] = true
	return chosen
}

// chooseForUpload returns the scenario of an upload, and whether there is one.
func (e *epoch) chooseForUpload() (Scenario, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.useFault(func(f Fault) bool { return f.Upload })
}

// useFault returns the first fault that applies, and decrements its count.
func (e *epoch) useFault(applies func(Fault) bool) (Scenario, bool) {
	for i, f := range e.faults {
		if !applies(f) {
			continue
		}
		if f.Probability > 0 && e.random.Float64() >= f.Probability {
			continue
		}
		if f.Count == 1 {
			e.faults = slices.Delete(e.faults, i, i+1)
		} else if f.Count > 1 {
			e.faults[i].Count--
		}
		return f.Scenario, true
	}
	return "", false
}

// magicScenario returns the scenario of a recipient 1 AAA 555 01NN.
func (s *Simulator) magicScenario(recipient string) Scenario {
	if len(recipient) == 11 && recipient[4:9] == "55501" {
		if name, ok := s.magic[recipient[9:]]; ok {
			return name
		}
	}
	return Delivered
}

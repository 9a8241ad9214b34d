package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

const (
	quickReports = 0.1 // time scale of the doubt scenarios: a message is delivered after 0.3 s

	plivoListRate = 20 // Plivo's limit of lists per minute
	plivoPage     = 20 // messages per list

	doubtWait    = 3 * time.Minute  // the worker's default
	doubtSilence = 90 * time.Second // the shortest that the worker allows

	doubtGiveUp = 30 * time.Minute // after which messages count as not settled
)

// doubt configures a doubt scenario.
type doubt struct {
	faults []plivosim.Fault // while messages are created
	vars   []string         // of the worker

	// bar returns how long it may take from the last fault until all messages are settled,
	// when Plivo lists that many.
	bar func(listed int) time.Duration
}

// benchDoubt answers a fifth of the messages with 500 and loses the answer to every
// twentieth. An error waits for doubtWait and then for Plivo's list, which returns 400
// messages per minute.
func benchDoubt(ctx context.Context, s *stack, r *report) error {
	return s.doubt(ctx, r, doubt{
		faults: []plivosim.Fault{
			{Scenario: plivosim.ServerError, Probability: 0.2},
			{Scenario: plivosim.AcceptThenDrop, Probability: 0.05 / (1 - 0.2)}, // of those without an error
		},
		bar: func(listed int) time.Duration {
			return doubtWait + time.Duration(listed)*time.Minute/(plivoListRate*plivoPage)
		},
	})
}

// benchDoubtSilence answers a fifth of the messages with 500, and lets the worker take the
// silence about them as evidence.
func benchDoubtSilence(ctx context.Context, s *stack, r *report) error {
	return s.doubt(ctx, r, doubt{
		faults: []plivosim.Fault{{Scenario: plivosim.ServerError, Probability: 0.2}},
		vars:   []string{"DOUBT_SILENCE=" + doubtSilence.String()},
		bar:    func(int) time.Duration { return 3 * time.Minute },
	})
}

// doubt creates messages while the simulator has faults, and measures how long it takes
// from the last fault until no message is queued or in doubt.
func (s *stack) doubt(ctx context.Context, r *report, d doubt) error {
	api, key, _, err := s.apiWithKey(ctx)
	if err != nil {
		return err
	}
	vars := append([]string{"PUBLIC_URL=" + api.url, "DOUBT_WAIT=" + doubtWait.String()}, d.vars...)
	if _, err := s.worker(ctx, vars...); err != nil {
		return err
	}
	created, err := s.createWithFaults(ctx, api, key, d.faults)
	if err != nil {
		return err
	}
	faults, lastFault := s.metFaults(d.faults)
	unsettled, err := s.settle(ctx, lastFault.Add(doubtGiveUp))
	if err != nil {
		return err
	}
	took := time.Since(lastFault)
	accepted, twice := s.acceptedMessages()
	r.add("messages created", float64(created), "", "")
	r.add("requests with a fault", float64(faults), "", "")
	r.add("last fault to all settled", took.Seconds(), "s", fmt.Sprintf("≤ %.0f", d.bar(accepted+twice).Seconds()))
	r.add("messages not settled", float64(unsettled), "", "0")
	r.add("messages not sent", float64(created-accepted), "", "0")
	r.add("messages sent twice", float64(twice), "", "0")
	return nil
}

// createWithFaults creates 20 messages per second for a minute, each for a recipient of its
// own, and waits until each has been sent once. The simulator has the faults meanwhile.
func (s *stack) createWithFaults(ctx context.Context, api *process, key string, faults []plivosim.Fault) (created int, err error) {
	const rate, length = 20, time.Minute
	for _, f := range faults {
		if err := s.sim.SetFault(f); err != nil {
			return 0, err
		}
	}
	if _, _, err := openLoop(ctx, rate, length, poster(api.url, "/api/send-mms", bearer(key), sendBody, http.StatusAccepted)); err != nil {
		return 0, err
	}
	if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM messages`).Scan(&created); err != nil {
		return 0, fmt.Errorf("counting messages: %w", err)
	}
	for len(s.sim.Requests()) < created {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
	}
	s.sim.ClearFaults()
	return created, nil
}

// metFaults returns how many requests met one of the faults, and when the last one did.
func (s *stack) metFaults(faults []plivosim.Fault) (n int, last time.Time) {
	for _, q := range s.sim.Requests() {
		if slices.ContainsFunc(faults, func(f plivosim.Fault) bool { return f.Scenario == q.Scenario }) {
			n++
			last = q.At
		}
	}
	return n, last
}

// settle waits until no message is queued or in doubt, and returns how many still are at
// the deadline.
func (s *stack) settle(ctx context.Context, deadline time.Time) (unsettled int, err error) {
	for {
		err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM messages WHERE status IN ('queued', 'sending', 'in_doubt')`).Scan(&unsettled)
		if err != nil {
			return 0, fmt.Errorf("counting messages: %w", err)
		}
		if unsettled == 0 || time.Now().After(deadline) {
			return unsettled, nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// acceptedMessages returns how many messages the simulator accepted, and how many of them
// more than once. It tells them apart by their recipients.
func (s *stack) acceptedMessages() (accepted, twice int) {
	times := map[string]int{}
	for _, e := range s.sim.Ledger() {
		times[e.To]++
		if times[e.To] == 2 {
			twice++
		}
	}
	return len(times), twice
}

// Package audit compares Postcard's attempts with the provider's records. It only
// reads. The checks that need no provider are in the store: see its Audit.
package audit

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// Store provides the attempts, by token.
type Store interface {
	AttemptRecords(ctx context.Context) (map[string]AttemptRecord, error)
}

// CompareLedger compares our attempts with a simulator's ledger. It matches them by
// the token in the callback URL, or by UUID for a message without callback URL.
func CompareLedger(ctx context.Context, store Store, ledger []LedgerEntry) ([]Finding, error) {
	attempts, err := store.AttemptRecords(ctx)
	if err != nil {
		return nil, err
	}
	byUUID := map[string]AttemptRecord{}
	for _, attempt := range attempts {
		byUUID[attempt.PlivoUUID] = attempt
	}
	c := comparison{accepted: map[uuid.UUID]int{}, resends: map[uuid.UUID]int{}}
	for _, entry := range ledger {
		attempt, known := attempts[entry.Token]
		if entry.Token == "" {
			attempt, known = byUUID[entry.PlivoUUID]
		}
		c.add(attempt, known, entry)
	}
	return c.findings(attempts, ledger), nil
}

// comparison counts differences between attempts and a ledger.
type comparison struct {
	accepted map[uuid.UUID]int // how often the provider accepted a message
	resends  map[uuid.UUID]int // how often the events allow another call after a doubt
	withoutAttempt, otherUUID, otherStatus,
	notRecorded int
}

func (c *comparison) add(attempt AttemptRecord, known bool, entry LedgerEntry) {
	if !known {
		c.withoutAttempt++
		return
	}
	c.accepted[attempt.MessageID]++
	c.resends[attempt.MessageID] = attempt.Retries
	switch {
	case attempt.Outcome != mms.Accepted && !open(attempt.Status) && attempt.Retries == 0:
		c.notRecorded++
	case attempt.Outcome == mms.Accepted && attempt.PlivoUUID != entry.PlivoUUID:
		c.otherUUID++
	case attempt.Outcome == mms.Accepted && attempt.Retries == 0 && !sameStatus(attempt.Status, entry.State):
		c.otherStatus++
	}
}

// open reports whether the outcome of a message's attempt may still change.
func open(s mms.Status) bool { return s == mms.Sending || s == mms.InDoubt }

// sameStatus compares our status with the provider's state. Both must be final to
// differ: a report may still be on its way.
func sameStatus(ours mms.Status, theirs string) bool {
	reported, ok := mms.StatusFromReport(theirs)
	return !ours.Final() || !ok || !reported.Final() || ours == reported
}

func (c *comparison) findings(attempts map[string]AttemptRecord, ledger []LedgerEntry) []Finding {
	uuids := map[string]bool{}
	for _, entry := range ledger {
		uuids[entry.PlivoUUID] = true
	}
	missing := 0
	for _, attempt := range attempts {
		if attempt.Outcome == mms.Accepted && !uuids[attempt.PlivoUUID] {
			missing++
		}
	}
	twice, unexplained := 0, 0
	for id, n := range c.accepted {
		if n > 1 {
			twice++
			if n > 1+c.resends[id] {
				unexplained++
			}
		}
	}
	return []Finding{
		{Invariant: "I2", What: "messages in the provider's ledger", Count: len(ledger)},
		{Invariant: "I2", What: "our messages that the provider accepted more than once", Count: twice},
		mustBeZero("I2", "messages accepted more often than their events explain", unexplained),
		mustBeZero("I2", "ledger entries without an attempt of ours", c.withoutAttempt),
		mustBeZero("I2", "ledger entries whose attempt is not recorded as accepted", c.notRecorded),
		mustBeZero("I2", "accepted attempts that are not in the ledger", missing),
		mustBeZero("I2", "accepted attempts with another UUID than in the ledger", c.otherUUID),
		mustBeZero("I3", "messages whose final status differs from the ledger's", c.otherStatus),
	}
}

// listLag bounds how far Plivo's list lags behind (about a minute was observed; Plivo
// documents no limit) and the difference between our clock and Plivo's.
const listLag = 5 * time.Minute

// CompareListed compares our attempts with the messages that Plivo lists for a span of
// time, by UUID. Listed messages that are not ours are no error: other systems may send
// through the same account.
func CompareListed(ctx context.Context, store Store, listed []mms.Listed, from, to time.Time) ([]Finding, error) {
	attempts, err := store.AttemptRecords(ctx)
	if err != nil {
		return nil, err
	}
	byUUID := map[string]mms.Listed{}
	for _, l := range listed {
		byUUID[l.PlivoUUID] = l
	}
	ours, missing, otherStatus := 0, 0, 0
	for _, attempt := range attempts {
		l, found := byUUID[attempt.PlivoUUID]
		switch {
		case attempt.Outcome != mms.Accepted:
		case found:
			ours++
			if attempt.Retries == 0 && !sameStatus(attempt.Status, l.State) {
				otherStatus++
			}
		case attempt.StartedAt.After(from.Add(listLag)) && attempt.StartedAt.Before(to.Add(-listLag)):
			missing++
		}
	}
	return []Finding{
		{Invariant: "I2", What: "messages that Plivo lists", Count: len(byUUID)},
		{Invariant: "I2", What: "listed messages that are not ours", Count: len(byUUID) - ours},
		mustBeZero("I2", "accepted attempts that Plivo does not list", missing),
		mustBeZero("I3", "messages whose final status differs from the one that Plivo lists", otherStatus),
	}, nil
}

// mustBeZero returns a finding that is broken unless count is 0.
func mustBeZero(invariant, what string, count int) Finding {
	return Finding{Invariant: invariant, What: what, Count: count, Broken: count > 0}
}

// QueueFindings returns what was found in the queue in Redis: keys of the wrong type, and
// queues that an operator has paused.
func QueueFindings(wrongKeys, paused []string) []Finding {
	return []Finding{
		named("keys in Redis that are of the wrong type; delete them", wrongKeys, true),
		named("paused queues", paused, false),
	}
}

// named returns a finding that names what was found. It is broken if anything was found that
// must not be there.
func named(what string, found []string, forbidden bool) Finding {
	f := Finding{Invariant: "I1", What: what, Count: len(found), Broken: forbidden && len(found) > 0}
	if len(found) > 0 {
		f.What += ": " + strings.Join(found, ", ")
	}
	return f
}

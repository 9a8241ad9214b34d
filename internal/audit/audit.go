// Package audit holds Postcard's records against the provider's. It changes
// nothing. What the records alone can show is checked by the store.
package audit

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
)

// Store is the record of all messages.
type Store interface {
	AttemptRecords(ctx context.Context) (map[string]AttemptRecord, error)
}

// CompareLedger holds a simulator's ledger against our attempts, by the token
// in the callback URL of each, or by the UUID where there is no such URL.
func CompareLedger(ctx context.Context, store Store, provider []LedgerEntry) ([]Finding, error) {
	attempts, err := store.AttemptRecords(ctx)
	if err != nil {
		return nil, err
	}
	c := comparison{there: map[uuid.UUID]int{}, resent: map[uuid.UUID]int{}}
	byUUID := map[string]AttemptRecord{}
	for _, attempt := range attempts {
		byUUID[attempt.PlivoUUID] = attempt
	}
	for _, message := range provider {
		attempt, ok := attempts[message.Token]
		if message.Token == "" {
			attempt, ok = byUUID[message.PlivoUUID]
		}
		c.add(attempt, ok, message)
	}
	return c.findings(attempts, provider), nil
}

// comparison counts what does not fit together.
type comparison struct {
	there  map[uuid.UUID]int // messages of ours by how often the provider has them
	resent map[uuid.UUID]int
	strangers, unlike, otherState,
	unnoticed int
}

func (c *comparison) add(attempt AttemptRecord, ours bool, message LedgerEntry) {
	if !ours {
		c.strangers++
		return
	}
	c.there[attempt.MessageID]++
	c.resent[attempt.MessageID] = attempt.Resends
	switch {
	case attempt.Outcome != mms.Accepted && !open(attempt.Status) && attempt.Resends == 0:
		c.unnoticed++
	case attempt.Outcome == mms.Accepted && attempt.PlivoUUID != message.PlivoUUID:
		c.unlike++
	case attempt.Outcome == mms.Accepted && attempt.Resends == 0 && !sameState(attempt.Status, message.State):
		c.otherState++
	}
}

// open statuses may still come to agree with the provider's.
func open(s mms.Status) bool { return s == mms.Sending || s == mms.InDoubt }

// sameState compares our final status with the provider's; one that is not
// final on either side is still on its way.
func sameState(ours mms.Status, theirs string) bool {
	reported, ok := mms.StatusFromReport(theirs)
	return !ours.Final() || !ok || !reported.Final() || ours == reported
}

func (c *comparison) findings(attempts map[string]AttemptRecord, provider []LedgerEntry) []Finding {
	uuids := map[string]bool{}
	for _, message := range provider {
		uuids[message.PlivoUUID] = true
	}
	missing := 0
	for _, attempt := range attempts {
		if attempt.Outcome == mms.Accepted && !uuids[attempt.PlivoUUID] {
			missing++
		}
	}
	twice, unexplained := 0, 0
	for id, n := range c.there {
		if n > 1 {
			twice++
			if n > 1+c.resent[id] {
				unexplained++
			}
		}
	}
	return []Finding{
		{Invariant: "I2", What: "messages at the provider", Count: len(provider)},
		{Invariant: "I2", What: "of ours at the provider more than once", Count: twice},
		must("I2", "of these, more often than the events explain", unexplained),
		must("I2", "at the provider without an attempt of ours", c.strangers),
		must("I2", "taken for not accepted, but at the provider", c.unnoticed),
		must("I2", "taken for accepted, but not at the provider", missing),
		must("I2", "known under another UUID than the provider's", c.unlike),
		must("I3", "whose final status is not the provider's", c.otherState),
	}
}

// settling is how long Plivo's list may lag behind (seen up to about a minute;
// not documented), and how far our clock and Plivo's may lie apart.
const settling = 5 * time.Minute

// CompareListed holds what Plivo lists from a span of time against our attempts,
// by the UUIDs. Others may send through the same account: what is listed and not
// ours is a figure, not a fault.
func CompareListed(ctx context.Context, store Store, listed []mms.Listed, from, to time.Time) ([]Finding, error) {
	attempts, err := store.AttemptRecords(ctx)
	if err != nil {
		return nil, err
	}
	at := map[string]mms.Listed{}
	for _, l := range listed {
		at[l.PlivoUUID] = l
	}
	ours, missing, otherState := 0, 0, 0
	for _, attempt := range attempts {
		l, there := at[attempt.PlivoUUID]
		switch {
		case attempt.Outcome != mms.Accepted:
		case there:
			ours++
			if attempt.Resends == 0 && !sameState(attempt.Status, l.State) {
				otherState++
			}
		case attempt.StartedAt.After(from.Add(settling)) && attempt.StartedAt.Before(to.Add(-settling)):
			missing++
		}
	}
	return []Finding{
		{Invariant: "I2", What: "messages that Plivo lists", Count: len(at)},
		{Invariant: "I2", What: "of these, not ours as far as we know", Count: len(at) - ours},
		must("I2", "taken for accepted, but not listed by Plivo", missing),
		must("I3", "whose final status is not the one that Plivo lists", otherState),
	}, nil
}

// must is a finding that is broken unless it is 0.
func must(invariant, what string, count int) Finding {
	return Finding{Invariant: invariant, What: what, Count: count, Broken: count > 0}
}

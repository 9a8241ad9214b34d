package mms

import (
	"github.com/cespare/xxhash/v2"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// Candidates returns the senders from which the store may choose for a message whose
// submitter gave from, which may be empty. It returns none if there is no choice. The store
// takes the sender of the newest message to the recipient if it is a candidate: the
// recipient sees one conversation, whatever changes in the configuration. Otherwise the
// message keeps the sender that Validate chose.
func (r Rules) Candidates(from string) []PhoneNumber {
	if from != "" || len(r.Senders) < 2 {
		return nil
	}
	return r.Senders
}

// chooseSender chooses the sender for a recipient without messages: always the same one, by
// rendezvous hashing (highest random weight). An added sender takes its share of the
// recipients, and a removed one gives its share away; the others keep their sender. The
// order of the senders does not matter.
func (r Rules) chooseSender(recipient PhoneNumber, violations *invalid.Fields) PhoneNumber {
	if recipient == "" {
		return "" // that violation has been added already
	}
	var chosen PhoneNumber
	var highest uint64
	for _, sender := range r.Senders {
		if sender == recipient {
			continue
		}
		weight := xxhash.Sum64String(string(sender) + string(recipient))
		if chosen == "" || weight > highest || weight == highest && sender < chosen {
			chosen, highest = sender, weight
		}
	}
	switch {
	case chosen != "":
	case len(r.Senders) == 0:
		violations.Add("from", "sender", "cannot be chosen: all senders of this installation rest")
	default:
		violations.Add("to", "not_sender", "must not be the sender's own number")
	}
	return chosen
}

package mms

import (
	"github.com/cespare/xxhash/v2"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// Candidates returns the senders among which the store chooses the one of a message whose
// submitter named from: none if there is no choice. The store takes the sender of the newest
// message to the recipient if it is a candidate, so that a recipient sees one conversation
// and a change of the configuration moves nobody who has got a message. Otherwise the
// message keeps the sender that Validate gave it.
func (r Rules) Candidates(from string) []PhoneNumber {
	if from != "" || len(r.Senders) < 2 {
		return nil
	}
	return r.Senders
}

// chooseSender chooses the sender of a recipient to whom nothing has been sent: always the
// same one, by rendezvous hashing (highest random weight). A sender that is added takes its
// share of the recipients and moves no others; one that is removed moves only its own. The
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
	if chosen == "" {
		violations.Add("to", "not_sender", "must not be the sender's own number")
	}
	return chosen
}

package intake_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

// senderList has one sender that rests, and one in use unless all rest.
type senderList struct{ allRest bool }

func (senderList) All() []mms.PhoneNumber { return []mms.PhoneNumber{"+14155550100", "+14155550101"} }

func (l senderList) Active() []mms.PhoneNumber {
	if l.allRest {
		return nil
	}
	return []mms.PhoneNumber{"+14155550101"}
}

// TestSendersOfTheMoment creates messages while the only sender of the rules rests.
func TestSendersOfTheMoment(t *testing.T) {
	t.Parallel()
	in, _ := newIntake(&fakeStore{})
	in.Senders = senderList{}
	got, err := in.CreateMessage(t.Context(), mms.Submitter{User: uuid.New()}, params)
	if err != nil || got.Sender != "+14155550101" {
		t.Errorf("got sender %q, %v, want the one in use", got.Sender, err)
	}
	in.Senders = senderList{allRest: true}
	var violations invalid.Fields
	if _, err := in.CreateMessage(t.Context(), mms.Submitter{User: uuid.New()}, params); !errors.As(err, &violations) || violations[0].Rule != "sender" {
		t.Errorf("while all rest: got error %v, want a violation", err)
	}
}

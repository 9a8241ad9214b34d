package mms

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/postcard-mms/postcard/internal/invalid"
)

// recipients of the tests of the choice of senders.
const recipients = 1000

func testRecipient(i int) PhoneNumber { return PhoneNumber(fmt.Sprintf("+1416%07d", 2000000+7*i)) }

// choices returns the sender of each recipient.
func choices(t interface{ Fatalf(string, ...any) }, senders []PhoneNumber) []PhoneNumber {
	chosen := make([]PhoneNumber, recipients)
	var violations invalid.Fields
	for i := range chosen {
		chosen[i] = Rules{Senders: senders}.chooseSender(testRecipient(i), &violations)
	}
	if len(violations) > 0 {
		t.Fatalf("got %v, want no violations", violations)
	}
	return chosen
}

func drawSenders(t *rapid.T, atLeast int) []PhoneNumber {
	numbers := rapid.SliceOfNDistinct(rapid.IntRange(0, 9999), atLeast, 12, rapid.ID[int]).Draw(t, "senders")
	var senders []PhoneNumber
	for _, n := range numbers {
		senders = append(senders, PhoneNumber(fmt.Sprintf("+1415556%04d", n)))
	}
	return senders
}

// near reports whether n of all recipients is the share, but for chance: five standard
// deviations.
func near(n int, share float64) bool {
	return math.Abs(float64(n)-share*recipients) <= 5*math.Sqrt(recipients*share*(1-share))+1
}

// TestAddedSenderTakesItsShare expects a sender that is added to n others to get 1/(n+1) of
// the recipients, and nobody else to move.
func TestAddedSenderTakesItsShare(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawSenders(t, 2)
		added := all[len(all)-1]
		before, after := choices(t, all[:len(all)-1]), choices(t, all)
		moved := 0
		for i := range before {
			if before[i] == after[i] {
				continue
			}
			if moved++; after[i] != added {
				t.Fatalf("%s moved from %s to %s, want it to move to %s only", testRecipient(i), before[i], after[i], added)
			}
		}
		if share := 1 / float64(len(all)); !near(moved, share) {
			t.Fatalf("%d of %d recipients moved, want about %.0f", moved, recipients, share*recipients)
		}
	})
}

func TestRemovedSenderMovesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawSenders(t, 2)
		i := rapid.IntRange(0, len(all)-1).Draw(t, "removed")
		before, after := choices(t, all), choices(t, slices.Delete(slices.Clone(all), i, i+1))
		for n := range before {
			if before[n] != after[n] && before[n] != all[i] {
				t.Fatalf("%s moved from %s, which is still configured, to %s", testRecipient(n), before[n], after[n])
			}
		}
	})
}

func TestOrderOfSendersDoesNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawSenders(t, 1)
		shuffled := rapid.Permutation(all).Draw(t, "shuffled")
		if diff := cmp.Diff(choices(t, all), choices(t, append(shuffled, shuffled[0]))); diff != "" {
			t.Fatalf("choices from the same senders in another order, one of them twice (-want +got):\n%s", diff)
		}
	})
}

func TestEachSenderGetsItsShare(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		senders, count := drawSenders(t, 1), map[PhoneNumber]int{}
		for _, sender := range choices(t, senders) {
			count[sender]++
		}
		for _, sender := range senders {
			if share := 1 / float64(len(senders)); !near(count[sender], share) {
				t.Fatalf("%s has %d of %d recipients, want about %.0f", sender, count[sender], recipients, share*recipients)
			}
		}
	})
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	two := []PhoneNumber{"+14155550100", "+14155550101"}
	for name, tt := range map[string]struct {
		senders []PhoneNumber
		from    string
		want    []PhoneNumber
	}{
		"one sender":  {two[:1], "", nil},
		"two senders": {two, "", two},
		"given":       {two, "+14155550101", nil},
	} {
		if diff := cmp.Diff(tt.want, Rules{Senders: tt.senders}.Candidates(tt.from)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestRestingSendersAreNotUsed has one sender in use, and then none.
func TestRestingSendersAreNotUsed(t *testing.T) {
	t.Parallel()
	const inUse, resting = PhoneNumber("+14155550100"), PhoneNumber("+14155550101")
	for name, tt := range map[string]struct {
		senders []PhoneNumber
		from    string
		want    PhoneNumber
		message string // of the violation
	}{
		"chosen":            {[]PhoneNumber{inUse}, "", inUse, ""},
		"the resting one":   {[]PhoneNumber{inUse}, string(resting), "", "rests: an admin has taken this sender out of use"},
		"an unknown one":    {[]PhoneNumber{inUse}, "+14155550102", "", notASender},
		"none is in use":    {nil, "", "", "cannot be chosen: all senders of this installation rest"},
		"one, but all rest": {nil, string(inUse), "", "rests: an admin has taken this sender out of use"},
	} {
		var violations invalid.Fields
		got := Rules{Senders: tt.senders, Resting: []PhoneNumber{inUse, resting}}.validateSender(tt.from, "+14165550123", &violations)
		if got != tt.want || violations.Of("from") != tt.message {
			t.Errorf("%s: got %q with %v, want %q with %q", name, got, violations, tt.want, tt.message)
		}
	}
}

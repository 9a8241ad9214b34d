package mms

import (
	"slices"
	"testing"
)

func TestTransitions(t *testing.T) {
	t.Parallel()
	reachable := map[Status]bool{Scheduled: true, Queued: true} // initial statuses
	for _, from := range Statuses() {
		for _, to := range Statuses() {
			if can, before := from.CanBecome(to), slices.Contains(StatusesBefore(to), from); can != before {
				t.Errorf("%s: CanBecome(%s) = %t, but StatusesBefore(%s) contains it: %t", from, to, can, to, before)
			}
			if from.CanBecome(to) {
				reachable[to] = true
			}
		}
		if !from.Known() {
			t.Errorf("%s: Known() = false, want true", from)
		}
	}
	for _, s := range Statuses() {
		if !reachable[s] {
			t.Errorf("no transition leads to %s", s)
		}
	}
	if Status("gone").Known() {
		t.Error("an invented status: Known() = true, want false")
	}
}

// TestReportedStatusesAreOrdered ensures that reports give the same result in
// whatever order they arrive.
func TestReportedStatusesAreOrdered(t *testing.T) {
	t.Parallel()
	order := []Status{Submitted, Sent, Failed, Undelivered, Delivered}
	for i, from := range order {
		for j, to := range order {
			want := i < j || from == Failed && to == Submitted // late proof
			if got := from.CanBecome(to); got != want {
				t.Errorf("%s.CanBecome(%s) = %t, want %t", from, to, got, want)
			}
		}
	}
}

func TestStatusFromReport(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]Status{
		"sent": Sent, "delivered": Delivered, "undelivered": Undelivered, "rejected": Undelivered, "failed": Failed,
		"queued": "", "read": "", "": "", "DELIVERED": "",
	} {
		if got, ok := StatusFromReport(state); got != want || ok != (want != "") {
			t.Errorf("StatusFromReport(%q) = %q, %v, want %q", state, got, ok, want)
		}
	}
}

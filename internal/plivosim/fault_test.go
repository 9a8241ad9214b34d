package plivosim_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

func (b *bench) setFault(f plivosim.Fault) {
	b.t.Helper()
	if err := b.sim.SetFault(f); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) statuses(recipients ...string) []int {
	b.t.Helper()
	var got []int
	for _, to := range recipients {
		got = append(got, b.send(params(to)).status)
	}
	return got
}

func TestFaultAppliesByCountAndRecipient(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.setFault(plivosim.Fault{Scenario: plivosim.ServerError, Count: 2})
	b.setFault(plivosim.Fault{Scenario: plivosim.RateLimited, Recipient: "+1 613 555 0101"})
	got := b.statuses(plain, "16135550101", "16135550101", plain)
	if diff := cmp.Diff([]int{500, 500, 429, 202}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestFaultIsReplacedAndCleared(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.setFault(plivosim.Fault{Scenario: plivosim.ServerError})
	b.setFault(plivosim.Fault{Scenario: plivosim.ServerError, Count: 1})
	got := b.statuses(plain, plain)
	b.setFault(plivosim.Fault{Scenario: plivosim.RateLimitedOnce})
	got = append(got, b.statuses(plain, plain)...)
	b.sim.ClearFaults()
	got = append(got, b.statuses(plain, "14155550126")...)
	if diff := cmp.Diff([]int{500, 202, 429, 202, 202, 429}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestFaultOverridesRecipientSuffix(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.setFault(plivosim.Fault{Scenario: plivosim.Delivered})
	if diff := cmp.Diff([]int{202}, b.statuses("14155550131")); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestFaultProbabilityIsReproducible(t *testing.T) {
	t.Parallel()
	run := func() []int {
		b := start(t, func(c *plivosim.Config) { c.Seed = 7 })
		b.setFault(plivosim.Fault{Scenario: plivosim.ServerError, Probability: 0.5})
		var got []int
		for range 20 {
			got = append(got, b.send(params(plain)).status)
		}
		return got
	}
	first := run()
	if diff := cmp.Diff(first, run()); diff != "" {
		t.Errorf("faults with the same seed differ:\n%s", diff)
	}
	seen := map[int]bool{}
	for _, status := range first {
		seen[status] = true
	}
	if diff := cmp.Diff(map[int]bool{202: true, 500: true}, seen); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestInvalidFaultIsRejected(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault plivosim.Fault
		want  string
	}{
		{plivosim.Fault{Scenario: "nope"}, `unknown scenario "nope"`},
		{plivosim.Fault{Scenario: plivosim.Delivered, Count: -1}, "count must not be negative, got -1"},
		{plivosim.Fault{Scenario: plivosim.Delivered, Probability: 1.5}, "probability must be between 0 and 1, got 1.5"},
		{plivosim.Fault{Scenario: plivosim.Delivered, Probability: math.NaN()}, "probability must be between 0 and 1, got NaN"},
	}
	b := start(t)
	for _, tt := range tests {
		if err := b.sim.SetFault(tt.fault); err == nil || err.Error() != tt.want {
			t.Errorf("%+v: got %v, want %s", tt.fault, err, tt.want)
		}
	}
}

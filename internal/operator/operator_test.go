package operator_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
)

// fakeStore has senders, and records changes of them. Methods that a test does not need are
// those of the embedded nil interface.
type fakeStore struct {
	operator.Store
	numbers   []operator.SenderNumber
	processes []operator.Process
	changes   []string
	err       error
}

func (f *fakeStore) SenderNumbers(context.Context) ([]operator.SenderNumber, error) {
	return f.numbers, f.err
}
func (f *fakeStore) Processes(context.Context) ([]operator.Process, error) {
	return f.processes, f.err
}

func (f *fakeStore) AddSender(_ context.Context, n mms.PhoneNumber, _ *float64) (bool, error) {
	f.changes = append(f.changes, "add "+string(n))
	return true, f.err
}

func (f *fakeStore) SetSenderRate(_ context.Context, n mms.PhoneNumber, _ *float64) error {
	f.changes = append(f.changes, "rate "+string(n))
	return f.err
}

func (f *fakeStore) RestSender(_ context.Context, n mms.PhoneNumber, _ bool) error {
	f.changes = append(f.changes, "rest "+string(n))
	return f.err
}

func (f *fakeStore) RemoveSender(_ context.Context, n mms.PhoneNumber) error {
	f.changes = append(f.changes, "remove "+string(n))
	return f.err
}

const inEnvironment, added, former = mms.PhoneNumber("+14155550100"), mms.PhoneNumber("+14155550109"), mms.PhoneNumber("+14155550108")

func newService(f *fakeStore) *operator.Service {
	return &operator.Service{Store: f, List: operator.NewSenderList([]mms.PhoneNumber{inEnvironment}, f)}
}

func TestSenderList(t *testing.T) {
	t.Parallel()
	f := &fakeStore{}
	list := operator.NewSenderList([]mms.PhoneNumber{inEnvironment}, f)
	want := func(when string, all, active []mms.PhoneNumber) {
		t.Helper()
		if diff := cmp.Diff([][]mms.PhoneNumber{all, active}, [][]mms.PhoneNumber{list.All(), list.Active()}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	want("at first", []mms.PhoneNumber{inEnvironment}, []mms.PhoneNumber{inEnvironment})
	f.numbers = []operator.SenderNumber{{Number: inEnvironment, Resting: true}, {Number: former}, {Number: added, OnPage: true}}
	if err := list.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("with rows", []mms.PhoneNumber{inEnvironment, added}, []mms.PhoneNumber{added})
	f.err = errors.New("broken")
	if err := list.Refresh(t.Context()); err == nil {
		t.Error("got no error")
	}
	want("after an error", []mms.PhoneNumber{inEnvironment, added}, []mms.PhoneNumber{added})
}

func TestChangesOfSenders(t *testing.T) {
	t.Parallel()
	f := &fakeStore{numbers: []operator.SenderNumber{{Number: former}, {Number: added, OnPage: true}}}
	s := newService(f)
	s.RefuseFictional = true
	rate, tooFast := 15.0, 1e6
	add := func(number string, rate *float64) func() error {
		return func() error { _, err := s.AddSender(t.Context(), number, rate, nil); return err }
	}
	for name, tt := range map[string]struct {
		do   func() error
		want string
	}{
		"add":                           {add("(416) 967-1111", &rate), ""},
		"add one of the environment":    {add("+14155550100", nil), "number fictional"},
		"add nothing":                   {add("", &tooFast), "number required"},
		"add no number":                 {add("12", nil), "number e164"},
		"rest":                          {func() error { _, err := s.Rest(t.Context(), "14155550100", true); return err }, ""},
		"rest a former one":             {func() error { _, err := s.Rest(t.Context(), string(former), true); return err }, operator.ErrNoSender.Error()},
		"rate":                          {func() error { _, err := s.SetRate(t.Context(), string(added), &rate, nil); return err }, ""},
		"rate that is too high":         {func() error { _, err := s.SetRate(t.Context(), string(added), &tooFast, nil); return err }, "rate range"},
		"remove":                        {func() error { _, err := s.Remove(t.Context(), string(added)); return err }, ""},
		"remove one of the environment": {func() error { _, err := s.Remove(t.Context(), string(inEnvironment)); return err }, operator.ErrSenderOfEnvironment.Error()},
		"remove an unknown one":         {func() error { _, err := s.Remove(t.Context(), "x"); return err }, operator.ErrNoSender.Error()},
	} {
		err := tt.do()
		got := ""
		var violations invalid.Fields
		switch {
		case errors.As(err, &violations):
			got = violations[0].Name + " " + violations[0].Rule
		case err != nil:
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	if len(f.changes) != 4 {
		t.Errorf("got changes %q, want 4", f.changes)
	}
	s.RefuseFictional = false
	var violations invalid.Fields
	if err := add("+14155550100", nil)(); !errors.As(err, &violations) || violations[0].Rule != "taken" {
		t.Errorf("adding a sender of the environment: got error %v, want taken", err)
	}
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	half := 0.5
	for typed, tt := range map[string]struct {
		want *float64
		rule string
	}{"": {nil, ""}, " 0.5\u200b": {&half, ""}, "fast": {nil, "type"}} {
		var violations invalid.Fields
		got := operator.ParseRate(typed, &violations)
		if diff := cmp.Diff(tt.want, got); diff != "" || (tt.rule != "") != (len(violations) > 0) {
			t.Errorf("%q: got violations %v, rate (-want +got):\n%s", typed, violations, diff)
		}
	}
}

func TestRepliesLost(t *testing.T) {
	t.Parallel()
	const inbound = "https://example.com/callbacks/plivo/inbound"
	now := time.Now()
	for name, tt := range map[string]struct {
		state   operator.NumberState
		inbound string
		lost    bool
	}{
		"not asked yet":     {operator.NumberState{}, inbound, false},
		"no application":    {operator.NumberState{CheckedAt: &now, Number: operator.Number{Found: true}}, inbound, true},
		"another URL":       {operator.NumberState{CheckedAt: &now, Number: operator.Number{Found: true, Application: true, MessageURL: "https://x"}}, inbound, true},
		"our URL":           {operator.NumberState{CheckedAt: &now, Number: operator.Number{Found: true, Application: true, MessageURL: inbound + "/"}}, inbound, false},
		"we have no URL":    {operator.NumberState{CheckedAt: &now, Number: operator.Number{Found: true}}, "", false},
		"not the account's": {operator.NumberState{CheckedAt: &now}, inbound, false},
	} {
		if got := tt.state.RepliesLost(tt.inbound); (got != "") != tt.lost {
			t.Errorf("%s: got %q, want lost: %t", name, got, tt.lost)
		}
	}
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	f := &fakeStore{processes: []operator.Process{
		{Host: "same", Alive: true, Settings: []operator.Setting{{Name: "A", Value: "1"}, {Name: "API_ADDR", Value: ":1"}}},
		{Host: "other", Alive: true, Settings: []operator.Setting{{Name: "A", Value: "2"}, {Name: "C", Value: "3"}}},
		{Host: "stopped", Settings: []operator.Setting{{Name: "A", Value: "2"}}},
	}}
	s := newService(f)
	s.OwnSettings = []operator.Setting{{Name: "A", Value: "1"}, {Name: "B", Value: "1"}, {Name: "API_ADDR", Value: ":2"}}
	got, err := s.Differences(t.Context())
	if err != nil || len(got) != 1 || len(got["A"]) != 1 || got["A"][0].Process.Host != "other" || got["A"][0].Value != "2" {
		t.Errorf("got %+v, %v, want A of the process other", got, err)
	}
}

package maintenance

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
)

// operatorStore records what the jobs for the operator's pages store.
type operatorStore struct {
	log     *callLog
	err     error
	counts  mms.OpenCounts
	sample  operator.Sample
	added   []mms.PhoneNumber
	senders []operator.SenderNumber
	due     bool
}

func (s *operatorStore) withLease(ctx context.Context, name string, work func(context.Context) error) error {
	s.log.add("lease %s", name)
	return work(ctx)
}

func (s *operatorStore) OpenCounts(context.Context) (mms.OpenCounts, error) { return s.counts, s.err }

func (s *operatorStore) SaveQueueSample(_ context.Context, sample operator.Sample) error {
	s.sample = sample
	return s.err
}

func (s *operatorStore) SendersWithoutEnvironmentRate(context.Context) ([]mms.PhoneNumber, error) {
	return s.added, s.err
}

func (s *operatorStore) SetRateLimit(_ context.Context, sender mms.PhoneNumber, interval time.Duration) error {
	s.log.add("limit %s %s", sender[len(sender)-2:], interval)
	return s.err
}

func (s *operatorStore) SenderNumbers(context.Context) ([]operator.SenderNumber, error) {
	return s.senders, s.err
}

func (s *operatorStore) ReserveGetCall(context.Context) (time.Duration, error) {
	s.log.add("reserve")
	return 0, s.err
}

func (s *operatorStore) SaveAccount(_ context.Context, authID string, a operator.Account) error {
	s.log.add("account %s %s", authID, a.Credits)
	return s.err
}

func (s *operatorStore) SaveAccountProblem(_ context.Context, _, problem string) error {
	s.log.add("account problem %s", problem)
	return s.err
}

func (s *operatorStore) SaveNumber(_ context.Context, sender mms.PhoneNumber, n operator.Number) error {
	s.log.add("number %s %s", sender[len(sender)-2:], n.Type)
	return s.err
}

func (s *operatorStore) SaveNumberProblem(_ context.Context, sender mms.PhoneNumber, problem string) error {
	s.log.add("number %s problem %s", sender[len(sender)-2:], problem)
	return s.err
}

func (s *operatorStore) CountSenderWeek(context.Context) error {
	s.log.add("count")
	return s.err
}

func (s *operatorStore) VerificationDue(context.Context) (bool, error) { return s.due, s.err }

func (s *operatorStore) BeginVerification(_ context.Context, source operator.Source) (int64, error) {
	s.log.add("begin %s", source)
	return 5, s.err
}

func (s *operatorStore) FinishVerification(_ context.Context, id int64, findings []audit.Finding) error {
	s.log.add("finish %d with %d", id, len(findings))
	return s.err
}

func (s *operatorStore) FailVerification(_ context.Context, id int64, problem string) error {
	s.log.add("fail %d: %s", id, problem)
	return s.err
}

func TestQueueSampler(t *testing.T) {
	t.Parallel()
	three := 3
	counts := mms.OpenCounts{Messages: map[mms.Status]int{mms.Queued: 9, mms.Sending: 2, mms.InDoubt: 4}, Waiting: 5, Preparing: 1, Held: 3}
	want := operator.Sample{Queued: 9, Waiting: 5, Preparing: 1, Sending: 2, InDoubt: 4, Held: 3}
	withTasks := want
	withTasks.Tasks = &three
	for name, tt := range map[string]struct {
		err  error // of Redis
		want operator.Sample
	}{"Redis answers": {nil, withTasks}, "Redis is down": {errQueueDown, want}} {
		store := &operatorStore{log: &callLog{}, counts: counts}
		runOnce(t, QueueSampler(store.withLease, store, func(context.Context) (int, error) { return 3, tt.err }))
		store.log.check(t, "lease queue_sampler")
		if diff := cmp.Diff(tt.want, store.sample); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSenderRates(t *testing.T) {
	t.Parallel()
	store := &operatorStore{log: &callLog{}, added: []mms.PhoneNumber{"+14155550108", "+14155550109"}}
	runOnce(t, SenderRates(store, func(mms.PhoneNumber) time.Duration { return time.Second }))
	store.log.check(t, "limit 08 1s", "limit 09 1s")
}

// fakeAccount is an account with one number.
type fakeAccount struct{ err error }

func (f fakeAccount) Account(context.Context) (operator.Account, error) {
	return operator.Account{Credits: "1.5"}, f.err
}

func (f fakeAccount) Number(context.Context, mms.PhoneNumber) (operator.Number, error) {
	return operator.Number{Type: "local"}, f.err
}

func TestAccountCheck(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want []string
	}{
		"Plivo answers": {nil, []string{"lease account_check", "count", "reserve", "account MA1 1.5", "reserve", "reserve", "number 00 local", "reserve", "reserve", "number 09 local"}},
		"Plivo is down": {errors.New("down"), []string{"lease account_check", "count", "reserve", "account problem down!", "reserve", "reserve", "number 00 problem down!", "reserve", "reserve", "number 09 problem down!"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &operatorStore{log: &callLog{}, senders: []operator.SenderNumber{{Number: "+14155550109", OnPage: true, Resting: true}}}
			runOnce(t, AccountCheck(AccountCheckOptions{
				Store: store, WithLease: store.withLease, Plivo: fakeAccount{tt.err}, AuthID: "MA1",
				Senders: operator.NewSenderList([]mms.PhoneNumber{"+14155550100"}, store), Problem: func(err error) string { return err.Error() + "!" },
			}))
			store.log.check(t, tt.want...)
		})
	}
}

func TestVerification(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		due  bool
		err  error
		want []string
	}{
		"not due":  {false, nil, []string{"lease verification"}},
		"due":      {true, nil, []string{"lease verification", "begin job", "finish 5 with 1"}},
		"it fails": {true, errStoreDown, []string{"lease verification", "begin job", "fail 5: " + verificationProblem}},
	} {
		store := &operatorStore{log: &callLog{}, due: tt.due}
		err := Verification(store.withLease, store, func(context.Context) ([]audit.Finding, error) {
			return []audit.Finding{{Invariant: "I1"}}, tt.err
		}).Run(t.Context())
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: got error %v, want %v", name, err, tt.err)
		}
		store.log.check(t, tt.want...)
	}
}

func TestOperatorJobsReportErrorsOfTheStore(t *testing.T) {
	t.Parallel()
	store := &operatorStore{log: &callLog{}, err: errStoreDown, due: true}
	list := operator.NewSenderList(nil, store)
	for _, job := range []Job{
		WorkerHeartbeat(func(context.Context, operator.Process) error { return store.err }, operator.Process{}),
		SenderListRefresh(list.Refresh),
		SenderRates(store, nil),
		QueueSampler(store.withLease, store, nil),
		AccountCheck(AccountCheckOptions{Store: store, WithLease: store.withLease, Senders: list}),
		Verification(store.withLease, store, nil),
	} {
		if err := job.Run(t.Context()); !errors.Is(err, errStoreDown) {
			t.Errorf("%s: got error %v, want that of the store", job.Name, err)
		}
	}
}

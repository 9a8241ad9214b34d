package operator

import (
	"context"
	"slices"
	"time"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
)

// Store keeps what the pages show. The methods that change a sender do nothing if it is gone;
// AddSender reports false if the sender exists already.
type Store interface {
	SenderNumbers
	Now(ctx context.Context) (time.Time, error)
	CheckWritable(ctx context.Context) error
	Processes(ctx context.Context) ([]Process, error)
	OpenCounts(ctx context.Context) (mms.OpenCounts, error)
	QueueSamples(ctx context.Context, period time.Duration) ([]Sample, error)
	AccountState(ctx context.Context, authID string) (AccountState, error)
	Pauses(ctx context.Context) ([]mms.Pause, error)
	EndedPauses(ctx context.Context, limit int) ([]EndedPause, error)
	SchemaVersion(ctx context.Context) (int64, error)
	Verifications(ctx context.Context, limit int) ([]Verification, error)

	Senders(ctx context.Context, environment []mms.PhoneNumber) ([]Sender, error)
	AddSender(ctx context.Context, sender mms.PhoneNumber, rate *float64) (bool, error)
	SetSenderRate(ctx context.Context, sender mms.PhoneNumber, rate *float64) error
	RestSender(ctx context.Context, sender mms.PhoneNumber, rest bool) error
	RemoveSender(ctx context.Context, sender mms.PhoneNumber) error
}

// Tasks knows the queue in Redis. Depth counts its tasks.
type Tasks interface {
	CheckWritable(ctx context.Context) error
	Depth(ctx context.Context) (int, error)
}

// Service is what the operator's pages and their API do.
type Service struct {
	Store           Store
	Tasks           Tasks
	Queue           func(ctx context.Context) string // "ok", or what keeps the queue from working
	List            *SenderList
	AuthID          string    // of the Plivo account
	Inbound         string    // our message URL; empty if Plivo cannot reach us
	OwnSettings     []Setting // of this api
	RefuseFictional bool      // senders must not have fictional numbers: messages go to Plivo
}

// Limits of what the pages show.
const (
	maxEndedPauses   = 50
	maxVerifications = 90
)

// checkTimeout limits each check of a server.
const checkTimeout = 2 * time.Second

// Health returns the state of the installation, with samples of the period before now. It
// returns an error only if the database cannot be read.
func (s *Service) Health(ctx context.Context, period time.Duration) (Health, error) {
	h := Health{Postgres: state(ctx, s.Store.CheckWritable), Redis: state(ctx, s.Tasks.CheckWritable)}
	var tasks *int
	h.Queue = "unknown"
	if h.Redis == "ok" {
		if n, err := s.Tasks.Depth(ctx); err == nil {
			tasks = &n
		}
		h.Queue = s.Queue(ctx)
	}
	var err error
	read := func(step func() error) {
		if err == nil {
			err = step()
		}
	}
	read(func() (e error) { h.Now, e = s.Store.Now(ctx); return e })
	read(func() (e error) { h.Processes, e = s.Store.Processes(ctx); return e })
	read(func() error {
		counts, e := s.Store.OpenCounts(ctx)
		h.Current = NewSample(counts, tasks)
		h.Current.At = h.Now
		return e
	})
	read(func() (e error) { h.Samples, e = s.Store.QueueSamples(ctx, period); return e })
	read(func() (e error) { h.Account, e = s.Store.AccountState(ctx, s.AuthID); return e })
	read(func() (e error) { h.Pauses, e = s.Store.Pauses(ctx); return e })
	read(func() (e error) { h.EndedPauses, e = s.Store.EndedPauses(ctx, maxEndedPauses); return e })
	read(func() (e error) { h.SchemaVersion, e = s.Store.SchemaVersion(ctx); return e })
	return h, err
}

func state(ctx context.Context, check func(context.Context) error) string {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if check(ctx) != nil {
		return "down"
	}
	return "ok"
}

// Senders returns all senders: those of the environment first, then those that were added.
func (s *Service) Senders(ctx context.Context) ([]Sender, error) {
	return s.Store.Senders(ctx, s.List.Environment())
}

// InboundURL is our message URL, which the applications of the numbers should have; empty if
// Plivo cannot reach us.
func (s *Service) InboundURL() string { return s.Inbound }

// AddSender adds a sender with a rate in messages per minute; nil: the environment's. It
// returns violations as invalid.Fields.
func (s *Service) AddSender(ctx context.Context, typed string, rate *float64, violations invalid.Fields) (mms.PhoneNumber, error) {
	number := parseNumber(typed, s.RefuseFictional, &violations)
	if rate != nil && violations.Of("rate") == "" {
		checkRate(*rate, &violations)
	}
	if err := violations.Err(); err != nil {
		return "", err
	}
	added := false
	if !slices.Contains(s.List.Environment(), number) {
		var err error
		if added, err = s.Store.AddSender(ctx, number, rate); err != nil {
			return "", err
		}
	}
	if !added {
		violations.Add("number", "taken", "is a sender already")
		return "", violations.Err()
	}
	return number, s.List.Refresh(ctx)
}

// SetRate sets the rate of a sender in messages per minute, which wins over the environment's;
// nil: the environment's again. It returns violations as invalid.Fields.
func (s *Service) SetRate(ctx context.Context, typed string, rate *float64, violations invalid.Fields) (mms.PhoneNumber, error) {
	if rate != nil && violations.Of("rate") == "" {
		checkRate(*rate, &violations)
	}
	if err := violations.Err(); err != nil {
		return "", err
	}
	number, err := s.find(ctx, typed)
	if err != nil {
		return "", err
	}
	return number, s.Store.SetSenderRate(ctx, number, rate)
}

// Rest takes a sender out of use, or puts it back. A resting sender gets no new messages, and
// those that wait for it go on waiting.
func (s *Service) Rest(ctx context.Context, typed string, rest bool) (mms.PhoneNumber, error) {
	number, err := s.find(ctx, typed)
	if err != nil {
		return "", err
	}
	if err := s.Store.RestSender(ctx, number, rest); err != nil {
		return "", err
	}
	return number, s.List.Refresh(ctx)
}

// Remove removes a sender that was added on the page. It returns ErrSenderOfEnvironment for
// one of the environment.
func (s *Service) Remove(ctx context.Context, typed string) (mms.PhoneNumber, error) {
	number, err := s.find(ctx, typed)
	if err != nil {
		return "", err
	}
	if slices.Contains(s.List.Environment(), number) {
		return "", ErrSenderOfEnvironment
	}
	if err := s.Store.RemoveSender(ctx, number); err != nil {
		return "", err
	}
	return number, s.List.Refresh(ctx)
}

// find returns the sender with the number, or ErrNoSender.
func (s *Service) find(ctx context.Context, typed string) (mms.PhoneNumber, error) {
	number, err := mms.ParseTypedPhoneNumber(typed)
	if err != nil {
		return "", ErrNoSender
	}
	if err := s.List.Refresh(ctx); err != nil {
		return "", err
	}
	if !slices.Contains(s.List.All(), number) {
		return "", ErrNoSender
	}
	return number, nil
}

// Settings returns the settings of this api.
func (s *Service) Settings() []Setting { return s.OwnSettings }

// Differences returns, by setting of this api, the processes that are alive and have another
// value, with that value. Settings that only the other kind of process has are left out.
func (s *Service) Differences(ctx context.Context) (map[string][]Difference, error) {
	processes, err := s.Store.Processes(ctx)
	if err != nil {
		return nil, err
	}
	return differences(s.OwnSettings, processes), nil
}

// Difference is a setting that another process has with another value.
type Difference struct {
	Process Process
	Value   string
}

// perProcess are settings that may differ between processes without a mistake.
var perProcess = []string{"API_ADDR", "API_METRICS_ADDR", "WORKER_METRICS_ADDR", "DATABASE_MAX_CONNECTIONS"}

func differences(own []Setting, processes []Process) map[string][]Difference {
	found := map[string][]Difference{}
	for _, setting := range own {
		if slices.Contains(perProcess, setting.Name) {
			continue
		}
		for _, p := range processes {
			i := slices.IndexFunc(p.Settings, func(s Setting) bool { return s.Name == setting.Name })
			if p.Alive && i >= 0 && p.Settings[i].Value != setting.Value {
				found[setting.Name] = append(found[setting.Name], Difference{Process: p, Value: p.Settings[i].Value})
			}
		}
	}
	return found
}

// Workers returns the workers, the newest first.
func (s *Service) Workers(ctx context.Context) ([]Process, error) {
	processes, err := s.Store.Processes(ctx)
	return slices.DeleteFunc(processes, func(p Process) bool { return p.Kind != Worker }), err
}

// Verifications returns the last runs of the audit, the newest first.
func (s *Service) Verifications(ctx context.Context) ([]Verification, error) {
	return s.Store.Verifications(ctx, maxVerifications)
}

package plivosim

import (
	"log/slog"
	"time"
)

// Plivo's documented limits, used where Config leaves a limit zero.
const (
	defaultRequestRate   = 300 // requests of one account in requestWindow
	requestWindow        = 5 * time.Second
	defaultListRate      = 20 // LIST requests of one account in listWindow
	listWindow           = time.Minute
	defaultMaxConcurrent = 100 // simultaneous requests of one account
)

// Config describes the one account that the simulator serves.
type Config struct {
	// AuthID and AuthToken are the account's credentials. While either is
	// empty every request is answered 401.
	AuthID, AuthToken string

	// Numbers are the MMS-enabled numbers of the account, in any spelling,
	// compared as digits. Empty: any US or Canadian number may send.
	Numbers []string

	// TimeScale multiplies every waiting time of the simulator: state changes,
	// callback time-outs and retries, queue, expiry, visibility lag. 0 means 1;
	// 0.001 turns seconds into milliseconds. Rate-limit windows and the value
	// of Retry-After are not scaled.
	TimeScale float64

	// RequestRate is how many API requests are let through in 5 seconds before
	// 429. 0: the documented 300; negative: unlimited.
	RequestRate int

	// ListRate is how many LIST requests are let through in a minute before
	// 429. 0: the documented 20; negative: unlimited.
	ListRate int

	// MaxConcurrent is how many requests may be under way at once before 429
	// (the limit is documented, the status is our choice). 0: the documented
	// 100; negative: unlimited.
	MaxConcurrent int

	// AccountRate and NumberRate are the messages per second (at TimeScale 1)
	// that leave the account's queue, and then each sender number's queue.
	// Plivo's default for MMS is 0.25 for the account. 0: no queueing.
	AccountRate, NumberRate float64

	// VisibilityLag is how long an accepted message stays invisible to GET and
	// LIST. Plivo documents no figure. 0: visible at once.
	VisibilityLag time.Duration

	// IgnoreNumberFilters makes LIST ignore from_number and to_number, which
	// are known to Plivo's Python SDK but not to its documentation.
	IgnoreNumberFilters bool

	// Seed makes the faults that have a probability repeatable.
	Seed uint64

	// Now is the clock that stamps messages and limits rates; timers always run
	// in real time. Nil: time.Now.
	Now func() time.Time

	// Logger receives one line per request and per callback. It never gets a
	// number, a text, a media or callback URL, or a token. Nil: discard.
	Logger *slog.Logger
}

func withDefaults(cfg Config) Config {
	if cfg.TimeScale == 0 {
		cfg.TimeScale = 1
	}
	if cfg.RequestRate == 0 {
		cfg.RequestRate = defaultRequestRate
	}
	if cfg.ListRate == 0 {
		cfg.ListRate = defaultListRate
	}
	if cfg.MaxConcurrent == 0 {
		cfg.MaxConcurrent = defaultMaxConcurrent
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

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
	// AuthID and AuthToken are the account's credentials. If either is empty,
	// every request is answered with 401.
	AuthID, AuthToken string

	// Numbers are the MMS-enabled numbers of the account, in any format;
	// only digits are compared. Empty: any US or Canadian number may send.
	Numbers []string

	// MessageURL is the message URL of the application that all numbers belong to. Empty:
	// they have none, so that Plivo would drop what people write to them.
	MessageURL string

	// Credits is the account's balance in US dollars, as a decimal. Empty: 100.00000.
	Credits string

	// TimeScale multiplies all delays of the simulator: state changes, callback
	// timeouts and retries, queues, expiry, visibility lag. 0 means 1; 0.001
	// turns seconds into milliseconds. Rate-limit windows and Retry-After are
	// not scaled, nor is how long media are kept.
	TimeScale float64

	// RequestRate is how many API requests are admitted in 5 seconds before
	// 429. 0: the documented 300; negative: unlimited.
	RequestRate int

	// ListRate is how many LIST requests are admitted in a minute before
	// 429. 0: the documented 20; negative: unlimited.
	ListRate int

	// MaxConcurrent is how many requests may be in flight before 429 (the limit
	// is documented, the status is our choice). 0: the documented 100;
	// negative: unlimited.
	MaxConcurrent int

	// AccountRate and NumberRate are the messages per second (at TimeScale 1)
	// that leave the account's queue, and then the queue of each sender number.
	// Plivo's default for MMS is 0.25 per account. 0: no queue.
	AccountRate, NumberRate float64

	// VisibilityLag is how long an accepted message stays invisible to GET and
	// LIST. Plivo documents no value. 0: visible immediately.
	VisibilityLag time.Duration

	// FetchMedia says when media URLs are fetched. Any host is allowed, also this
	// machine. Empty: FetchOff.
	FetchMedia MediaFetching

	// FollowRedirects lets media URLs redirect, up to three times. Plivo documents
	// neither that it follows redirects nor that it does not.
	FollowRedirects bool

	// IgnoreNumberFilters makes LIST ignore from_number and to_number. Plivo's
	// Python SDK supports them; its documentation does not mention them.
	IgnoreNumberFilters bool

	// Seed makes faults with a probability reproducible.
	Seed uint64

	// Now is the clock for timestamps, rate limits and the lifetime of media; timers always run in
	// real time. Nil: time.Now.
	Now func() time.Time

	// Logger receives one line per request and callback, without phone numbers,
	// texts, URLs or tokens. Nil: discard.
	Logger *slog.Logger
}

func withDefaults(cfg Config) Config {
	if cfg.Credits == "" {
		cfg.Credits = "100.00000"
	}
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
	if cfg.FetchMedia == "" {
		cfg.FetchMedia = FetchOff
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

package mms

import (
	"fmt"
	"strconv"
	"time"
)

// Silence is an attempt in doubt that Plivo answered with a server error and has not
// reported on, with what was measured about the other attempts of its window: those that
// started since, to the second.
type Silence struct {
	AttemptRef
	HTTPStatus int
	FinishedAt time.Time     // when Plivo answered
	Lasted     time.Duration // since FinishedAt

	// Accepted counts the attempts of the window that Plivo accepted and that ended at
	// least a third of Lasted ago, and Reported those of them that it has reported on. A
	// younger attempt may still be reported in time, so it is not counted.
	Accepted, Reported int

	Slowest time.Duration // the longest time from an attempt's end to its first report, of the whole window
}

// SilencePolicy says when silence is evidence that Plivo did not accept a message
// (decision 7). The conditions about the attempt itself and about our callbacks are part
// of the query that finds it.
type SilencePolicy struct {
	After       time.Duration // the shortest silence that counts; 0: never
	MaxAttempts int           // a message with as many counted attempts is not sent again
	ListAfter   time.Duration // from an attempt's end until Plivo's list is searched for it although its message was queued again
}

// The limits of what counts as evidence.
const (
	MinSilence = 90 * time.Second // Plivo tries a failed callback again after 60 s (Plivo support, callback retries)
	MaxSilence = 10 * time.Minute // of SilencePolicy.After; bounds what has to be measured

	// SilenceFactor is how many times as long as the slowest report a silence must last.
	SilenceFactor = 3

	minSilenceAccepted = 50 // fewer say little
	maxUnreportedMille = 5  // of a thousand accepted attempts: 99.5 % must be reported
	perMille           = 1000
)

// Evidence reports whether the silence shows that Plivo does not have the message.
func (p SilencePolicy) Evidence(s Silence) bool {
	return p.After > 0 && s.Lasted >= p.After && s.Lasted >= SilenceFactor*s.Slowest &&
		s.Accepted >= minSilenceAccepted && enoughReported(s.Accepted, s.Reported)
}

func enoughReported(accepted, reported int) bool {
	return (accepted-reported)*perMille <= accepted*maxUnreportedMille
}

// Description names the evidence in a sentence.
func (s Silence) Description() string {
	return fmt.Sprintf("Plivo answered %d at %s and sent no report for %s, while it reported %d of %d other messages, the slowest after %s.",
		s.HTTPStatus, s.FinishedAt.UTC().Format("15:04:05 UTC"), inSeconds(roundUp(s.Lasted, time.Second)), s.Reported, s.Accepted, inTenths(s.Slowest))
}

// ReportTimes says how soon Plivo's reports came in the last 24 hours, and how our
// callbacks are doing.
type ReportTimes struct {
	Accepted, Reported int           // attempts that ended at least MinSilence ago
	P99, Slowest       time.Duration // from an attempt's end to its first report
	Processes          int           // api processes that are alive
	Unbroken           time.Duration // since an api process last started, stopped or missed a callback
	OffFor             time.Duration // for which DOUBT_SILENCE stays off, because it was wrong; 0: it is not
}

// Advice says in plain language whether DOUBT_SILENCE could be used, and with which value.
func (t ReportTimes) Advice() string {
	measured := fmt.Sprintf("Plivo reported %d of %s in the last 24 hours", t.Reported, Counted(t.Accepted, "accepted message"))
	if t.Reported > 0 {
		measured += fmt.Sprintf(": 99 %% of them within %s, the slowest after %s", inTenths(t.P99), inTenths(t.Slowest))
	}
	return measured + ". " + t.recommendation()
}

func (t ReportTimes) recommendation() string {
	const no = "DOUBT_SILENCE cannot be used: "
	value := roundUp(max(MinSilence, SilenceFactor*t.Slowest), 10*time.Second)
	switch {
	case t.Accepted < minSilenceAccepted:
		return fmt.Sprintf("%sfewer than %d messages say too little.", no, minSilenceAccepted)
	case !enoughReported(t.Accepted, t.Reported):
		return no + "less than 99.5 % were reported."
	case value > MaxSilence:
		return fmt.Sprintf("%sit would have to be three times as long as the slowest report, and may be at most %s.", no, MaxSilence)
	case t.Processes == 0:
		return no + "no api process is running that could receive reports."
	case t.OffFor > 0:
		return fmt.Sprintf("DOUBT_SILENCE is off for another %s, because Plivo turned out to have a message that it had not reported.", roundUp(t.OffFor, time.Minute))
	}
	return fmt.Sprintf("DOUBT_SILENCE=%s could be used. An api process last started, stopped or missed a callback %s ago; attempts from before are left to Plivo's list.", value, roundUp(t.Unbroken, time.Second))
}

func inSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s"
}

// inTenths writes a duration in seconds, rounded up to a tenth.
func inTenths(d time.Duration) string { return inSeconds(roundUp(d, 100*time.Millisecond)) }

func roundUp(d, unit time.Duration) time.Duration { return (d + unit - 1) / unit * unit }

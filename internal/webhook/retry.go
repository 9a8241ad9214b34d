package webhook

import "time"

// retrySchedule is what Standard Webhooks proposes: about three days in all.
var retrySchedule = []time.Duration{
	5 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// MaxRetryAfter is the longest wait that a receiver may ask for: the longest of the schedule.
const MaxRetryAfter = 24 * time.Hour

// MaxPause is the longest time for which a receiver can pause the webhook's other events.
const MaxPause = time.Hour

// NextRetry returns how long to wait after the given number of attempts, or
// false after the last. jitter, from 0 to 1, lengthens the wait by up to a
// tenth. The wait is never shorter than the receiver asked for, up to MaxRetryAfter.
func NextRetry(attempts int, jitter float64, asked time.Duration) (time.Duration, bool) {
	if attempts < 1 || attempts > len(retrySchedule) {
		return 0, false
	}
	wait := retrySchedule[attempts-1]
	return max(wait+time.Duration(jitter*float64(wait)/10), min(asked, MaxRetryAfter)), true
}

package webhook

import "time"

// retrySchedule is what Standard Webhooks proposes: about three days in all.
var retrySchedule = []time.Duration{
	5 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// NextRetry returns how long to wait after the given number of attempts, or
// false after the last. jitter, from 0 to 1, lengthens the wait by up to a
// tenth.
func NextRetry(attempts int, jitter float64) (time.Duration, bool) {
	if attempts < 1 || attempts > len(retrySchedule) {
		return 0, false
	}
	wait := retrySchedule[attempts-1]
	return wait + time.Duration(jitter*float64(wait)/10), true
}

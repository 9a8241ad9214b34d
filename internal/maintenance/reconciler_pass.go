package maintenance

import (
	"slices"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// pass is what the holder of the reconciler's lease has read of Plivo's list by time.
// Another holder reads again.
//
// A doubt may be decided when its whole window was read after it had lasted for wait,
// within which Plivo lists what it has. A doubt of which that is not so yet can have a
// window before what was read, when its attempt was in flight for long; that part is
// then read again.
type pass struct {
	wait         time.Duration
	reads        []listRead   // in the order in which they were made
	listed       []mms.Listed // that belong to no known attempt
	failingSince time.Time    // the first of the last reads, if they all failed
}

// listRead is a complete read of the list between two times.
type listRead struct {
	from, to time.Time
	asOf     time.Time // when it started
}

func (p *pass) add(read listRead, listed []mms.Listed) {
	p.reads = append(p.reads, read)
	p.listed = append(p.listed, listed...)
	p.failingSince = time.Time{}
}

// readUntil returns up to when the doubt's window has been read.
func (p *pass) readUntil(d mms.Doubt) time.Time {
	until, _ := d.Window()
	for _, read := range p.reads {
		if !read.from.After(until) && read.to.After(until) && read.asOf.Sub(d.FinishedAt) >= p.wait {
			until = read.to
		}
	}
	return until
}

// covers reports whether the doubt's whole window has been read.
func (p *pass) covers(d mms.Doubt) bool {
	_, end := d.Window()
	return !p.readUntil(d).Before(end)
}

// forget drops what was read before the window of the oldest open doubt.
func (p *pass) forget(open []mms.Doubt) {
	from, _ := open[0].Window()
	p.reads = slices.DeleteFunc(p.reads, func(r listRead) bool { return r.to.Before(from) })
	p.listed = slices.DeleteFunc(p.listed, func(l mms.Listed) bool { return l.At.Before(from) })
}

// joinedWindows returns the end of the windows that overlap from a time on without a
// gap, and of how many doubts they are. doubts are sorted.
func joinedWindows(doubts []mms.Doubt, from time.Time) (to time.Time, n int) {
	to = from
	for _, d := range doubts {
		start, end := d.Window()
		if start.After(to) {
			break
		}
		if end.After(from) {
			n++
		}
		if end.After(to) {
			to = end
		}
	}
	return to, n
}

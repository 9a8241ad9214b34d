package maintenance

import (
	"slices"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// pass is what the holder of the reconciler's lease has read of Plivo's list by time.
// Another holder reads again.
//
// A doubt may be decided when its whole window was read after the doubt had lasted for
// wait, the time within which Plivo lists what it has. The window of an attempt that was
// in flight for long may begin in a part that was read earlier; that part is then read
// again.
type pass struct {
	wait         time.Duration
	reads        []listRead   // in the order in which they were made
	listed       []mms.Listed // that belong to no known attempt
	failingSince time.Time    // the first failure since the last successful read; zero: none
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

// joinedWindows joins the doubts' windows from a time on, up to the first gap between
// them. It returns where the joined window ends, and of how many doubts it consists.
// doubts are sorted.
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

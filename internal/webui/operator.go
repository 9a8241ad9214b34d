package webui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
)

// Operator does what the operator's pages show and change. The methods that change a sender
// return violations as invalid.Fields, and otherwise operator.ErrNoSender or
// operator.ErrSenderOfEnvironment.
type Operator interface {
	Health(ctx context.Context, period time.Duration) (operator.Health, error)
	Senders(ctx context.Context) ([]operator.Sender, error)
	InboundURL() string
	AddSender(ctx context.Context, number string, rate *float64, violations invalid.Fields) (mms.PhoneNumber, error)
	SetRate(ctx context.Context, number string, rate *float64, violations invalid.Fields) (mms.PhoneNumber, error)
	Rest(ctx context.Context, number string, rest bool) (mms.PhoneNumber, error)
	Remove(ctx context.Context, number string) (mms.PhoneNumber, error)
	Settings() []operator.Setting
	Differences(ctx context.Context) (map[string][]operator.Difference, error)
	Workers(ctx context.Context) ([]operator.Process, error)
	Verifications(ctx context.Context) ([]operator.Verification, error)
}

// SenderList knows the senders of the moment: all of them, and those that do not rest.
type SenderList interface {
	All() []mms.PhoneNumber
	Active() []mms.PhoneNumber
}

// allSenders returns the senders, also those that rest.
func (p *Pages) allSenders() []mms.PhoneNumber {
	if p.SenderList == nil {
		return p.Senders
	}
	return p.SenderList.All()
}

// activeSenders returns the senders that do not rest.
func (p *Pages) activeSenders() []mms.PhoneNumber {
	if p.SenderList == nil {
		return p.Senders
	}
	return p.SenderList.Active()
}

const (
	healthPath       = "/admin/health"
	sendersPath      = "/admin/senders"
	operatorSettings = "/admin/settings"
	verificationPath = "/admin/verification"
)

// routeOperator adds the operator's pages, which only admins may see.
func (p *Pages) routeOperator(r chi.Router, get func(path string, handler http.HandlerFunc)) {
	get(healthPath, p.requireAdmin(p.health))
	get(sendersPath, p.requireAdmin(p.senders))
	r.Post(sendersPath, p.requireAdmin(p.addSender))
	r.Post(sendersPath+"/rate", p.requireAdmin(p.setSenderRate))
	r.Post(sendersPath+"/rest", p.requireAdmin(p.restSender(true)))
	r.Post(sendersPath+"/put-back", p.requireAdmin(p.restSender(false)))
	r.Post(sendersPath+"/remove", p.requireAdmin(p.removeSender))
	get(operatorSettings, p.requireAdmin(p.operatorSettings))
	get(verificationPath, p.requireAdmin(p.verification))
}

// healthPage shows the state of the installation.
type healthPage struct {
	operator.Health
	Period  healthPeriod
	Periods []healthPeriod
	Chart   historyChart
}

// healthPeriod is a period of the history.
type healthPeriod struct {
	Name, Text string
	Length     time.Duration
}

// healthPeriods are those to choose from; the first is the default.
var healthPeriods = []healthPeriod{{"24h", "24 hours", 24 * time.Hour}, {"1h", "1 hour", time.Hour}, {"7d", "7 days", 7 * 24 * time.Hour}}

func (p *Pages) health(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	body := healthPage{Period: healthPeriods[0], Periods: healthPeriods}
	for _, period := range healthPeriods {
		if r.URL.Query().Get("period") == period.Name {
			body.Period = period
		}
	}
	var err error
	if body.Health, err = p.Operator.Health(r.Context(), body.Period.Length); err != nil {
		p.fail(w, r, err)
		return
	}
	body.Chart = newHistoryChart(body.Samples, body.Now, body.Period)
	render(p, w, r, http.StatusOK, "health", layout{Title: "Health"}, body)
}

// historyChart shows samples of the queue as lines, in units of its SVG.
type historyChart struct {
	Width, Height int
	Lines         []historyLine
	Summary       string // what the lines show, for people who do not see them
}

type historyLine struct{ Class, Points string }

func newHistoryChart(samples []operator.Sample, now time.Time, period healthPeriod) historyChart {
	c := historyChart{Width: chartWidth, Height: chartHeight}
	if len(samples) == 0 {
		return c
	}
	highest := samples[0]
	for _, s := range samples {
		if s.Queued > highest.Queued {
			highest = s
		}
	}
	top := max(highest.Queued, 1)
	for _, s := range samples {
		top = max(top, s.InDoubt)
	}
	for _, line := range []struct {
		class string
		value func(operator.Sample) int
	}{
		{"queued", func(s operator.Sample) int { return s.Queued }},
		{"waiting", func(s operator.Sample) int { return s.Waiting }},
		{"doubt", func(s operator.Sample) int { return s.InDoubt }},
	} {
		var points []string
		for _, s := range samples {
			x := chartWidth - chartWidth*now.Sub(s.At).Seconds()/period.Length.Seconds()
			y := float64(chartHeight) - float64(chartHeight-2)*float64(line.value(s))/float64(top)
			points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
		}
		c.Lines = append(c.Lines, historyLine{Class: line.class, Points: strings.Join(points, " ")})
	}
	last := samples[len(samples)-1]
	c.Summary = fmt.Sprintf("Open messages of the last %s. The most queued at a time: %d, at %s. The last sample: %d queued, %d of them waiting, %d in doubt. The table below shows the same data.",
		period.Text, highest.Queued, when(highest.At).Text, last.Queued, last.Waiting, last.InDoubt)
	return c
}

// sendersPage lists the senders, with a form that adds one. The fields of the forms hold what
// was typed.
type sendersPage struct {
	Senders    []senderView
	Inbound    string
	Number     string // of the sender that is being added or changed
	Rate       string
	Adding     bool // the violations are of the form that adds a sender
	Violations invalid.Fields
}

// senderView is a sender with texts.
type senderView struct {
	operator.Sender
	RepliesLost string
	Violations  invalid.Fields // of its rate
	Typed       string         // rate
}

// Effective describes the rate in effect.
func (v senderView) Effective() string { return describeInterval(v.Interval) }

// FromEnvironment describes the rate of the environment.
func (v senderView) FromEnvironment() string { return describeInterval(v.Environment) }

// FromPage describes the rate that was set on the page.
func (v senderView) FromPage() string {
	if v.Rate == nil {
		return ""
	}
	return mms.DescribeRate(mms.IntervalForRate(*v.Rate))
}

func describeInterval(interval *time.Duration) string {
	if interval == nil {
		return "not known until a worker starts"
	}
	return mms.DescribeRate(*interval)
}

// Backlog describes the messages that wait for the sender.
func (v senderView) Backlog() string {
	count := mms.Counted(v.Waiting, "message")
	if v.Waiting >= mms.MaxCounted {
		count = fmt.Sprintf("%d messages or more", mms.MaxCounted)
	}
	switch {
	case v.Waiting == 0:
		return "No message waits."
	case v.RestingSince != nil:
		return count + " waiting until you put it back."
	}
	return fmt.Sprintf("%s waiting, about %s.", count, duration(v.Wait.Round(time.Second)))
}

func (p *Pages) senders(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	p.renderSenders(w, r, http.StatusOK, sendersPage{})
}

// renderSenders adds the senders to the page.
func (p *Pages) renderSenders(w http.ResponseWriter, r *http.Request, status int, body sendersPage) {
	senders, err := p.Operator.Senders(r.Context())
	if err != nil {
		p.fail(w, r, err)
		return
	}
	body.Inbound = p.Operator.InboundURL()
	for _, s := range senders {
		view := senderView{Sender: s, RepliesLost: s.AtPlivo.RepliesLost(body.Inbound)}
		if s.Rate != nil {
			view.Typed = fmt.Sprint(*s.Rate)
		}
		if !body.Adding && body.Number == string(s.Number) {
			view.Violations, view.Typed = body.Violations, body.Rate
		}
		body.Senders = append(body.Senders, view)
	}
	render(p, w, r, status, "senders", layout{Title: "Senders"}, body)
}

// changeSender reads the form, calls change with it, and shows the senders with the notice.
// It shows the form again if its fields are invalid.
func (p *Pages) changeSender(w http.ResponseWriter, r *http.Request, adding bool, change func(body sendersPage) (mms.PhoneNumber, error), notice string) {
	if !p.readForm(w, r) {
		return
	}
	body := sendersPage{Number: r.PostForm.Get("number"), Rate: r.PostForm.Get("rate"), Adding: adding}
	number, err := change(body)
	switch {
	case errors.As(err, &body.Violations):
		p.renderSenders(w, r, http.StatusUnprocessableEntity, body)
	case errors.Is(err, operator.ErrNoSender):
		p.NotFound(w, r)
	case errors.Is(err, operator.ErrSenderOfEnvironment):
		p.renderError(w, r, http.StatusConflict, "Not removed", "This number is in PLIVO_SENDER_NUMBER. Remove it there and restart the processes, or let it rest.")
	case err != nil:
		p.fail(w, r, err)
	default:
		p.Auth.Flash(r.Context(), fmt.Sprintf(notice, number.International()))
		p.redirect(w, r, sendersPath)
	}
}

func (p *Pages) addSender(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	p.changeSender(w, r, true, func(body sendersPage) (mms.PhoneNumber, error) {
		var violations invalid.Fields
		rate := operator.ParseRate(body.Rate, &violations)
		return p.Operator.AddSender(r.Context(), body.Number, rate, violations)
	}, "Added the sender %s. All processes use it within seconds.")
}

func (p *Pages) setSenderRate(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	p.changeSender(w, r, false, func(body sendersPage) (mms.PhoneNumber, error) {
		var violations invalid.Fields
		rate := operator.ParseRate(body.Rate, &violations)
		return p.Operator.SetRate(r.Context(), body.Number, rate, violations)
	}, "Changed the rate of %s.")
}

func (p *Pages) restSender(rest bool) handler {
	notice := "%s is in use again."
	if rest {
		notice = "%s rests. It gets no new messages, and those that wait for it go on waiting."
	}
	return func(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
		p.changeSender(w, r, false, func(body sendersPage) (mms.PhoneNumber, error) {
			return p.Operator.Rest(r.Context(), body.Number, rest)
		}, notice)
	}
}

func (p *Pages) removeSender(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	p.changeSender(w, r, false, func(body sendersPage) (mms.PhoneNumber, error) {
		return p.Operator.Remove(r.Context(), body.Number)
	}, "Removed the sender %s.")
}

// settingsPage shows the configuration of this api, and that of the workers.
type settingsPage struct {
	Settings    []operator.Setting
	Differences map[string][]operator.Difference // by setting
	Workers     []operator.Process
}

func (p *Pages) operatorSettings(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	body := settingsPage{Settings: p.Operator.Settings()}
	var err error
	if body.Differences, err = p.Operator.Differences(r.Context()); err == nil {
		body.Workers, err = p.Operator.Workers(r.Context())
	}
	if err != nil {
		p.fail(w, r, err)
		return
	}
	render(p, w, r, http.StatusOK, "configuration", layout{Title: "Settings"}, body)
}

// verificationPage shows the last run of the audit, and its figures over time.
type verificationPage struct {
	Last    *operator.Verification
	Runs    []operator.Verification // the newest first
	Columns []operator.Verification // of Figures, the newest first
	Figures []figure
}

// figure is a check of the audit over several runs. An empty count means that the run did not
// make it.
type figure struct {
	operator.Finding
	Counts []string
}

// maxFigures is how many runs are compared.
const maxFigures = 7

func (p *Pages) verification(w http.ResponseWriter, r *http.Request, _ identity.Principal) {
	runs, err := p.Operator.Verifications(r.Context())
	if err != nil {
		p.fail(w, r, err)
		return
	}
	render(p, w, r, http.StatusOK, "verification", layout{Title: "Verification"}, newVerificationPage(runs))
}

func newVerificationPage(runs []operator.Verification) verificationPage {
	body := verificationPage{Runs: runs}
	for i, run := range runs {
		if len(run.Findings) > 0 && len(body.Columns) < maxFigures {
			body.Columns = append(body.Columns, run)
			if body.Last == nil {
				body.Last = &runs[i]
			}
		}
	}
	if body.Last == nil {
		return body
	}
	for _, f := range body.Last.Findings {
		row := figure{Finding: f}
		for _, run := range body.Columns {
			count := ""
			for _, other := range run.Findings {
				if other.Invariant == f.Invariant && other.What == f.What {
					count = fmt.Sprint(other.Count)
				}
			}
			row.Counts = append(row.Counts, count)
		}
		body.Figures = append(body.Figures, row)
	}
	return body
}

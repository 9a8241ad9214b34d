package webui

import (
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
)

// overviewPage shows the statistics of the last days.
type overviewPage struct {
	mms.Overview
	Period   int   // days
	Choices  []int // periods to choose from
	AllUsers bool
	Chart    chart
	Rows     []overviewRow
	Percent  float64 // of the messages that ended
	Rated    bool    // Percent is known
	Failures int
	Open     int
	Sample   int // messages from which medians are computed
}

// overviewRow counts the messages of one day. Open are those that neither reached
// the carrier nor failed.
type overviewRow struct {
	Date                         string
	Total, Reached, Failed, Open int
}

// overviewPeriods are in days; the first is the default.
var overviewPeriods = []int{7, 30, 90}

func (p *Pages) overview(w http.ResponseWriter, r *http.Request, principal identity.Principal) {
	query := r.URL.Query()
	body := overviewPage{
		Period: overviewPeriods[0], Choices: overviewPeriods, Sample: mms.MedianSample,
		AllUsers: principal.IsAdmin() && query.Get("users") == "all",
	}
	for _, days := range overviewPeriods {
		if query.Get("days") == strconv.Itoa(days) {
			body.Period = days
		}
	}
	workspace := principal.WorkspaceID
	if body.AllUsers {
		workspace = uuid.Nil
	}
	overview, err := p.Messages.Overview(r.Context(), workspace, body.Period)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	body.Overview = overview
	body.Percent, body.Rated = overview.Rate()
	body.Failures = overview.Ended() - overview.Reached()
	body.Open = overview.Total() - overview.Ended()
	for _, day := range overview.Days {
		body.Rows = append(body.Rows, newOverviewRow(day))
	}
	body.Chart = newChart(body.Rows)
	render(p, w, r, http.StatusOK, "overview", layout{Title: "Overview"}, body)
}

func newOverviewRow(day mms.Day) overviewRow {
	row := overviewRow{Date: day.Date.Format("2 Jan"), Total: day.Total()}
	row.Reached = day.Counts[mms.Sent] + day.Counts[mms.Delivered]
	row.Failed = day.Counts[mms.Failed] + day.Counts[mms.Undelivered]
	row.Open = row.Total - row.Reached - row.Failed
	return row
}

// chart is a stacked bar chart with one bar a day, in units of its SVG.
type chart struct {
	Width, Height int
	Max           int // messages of the highest bar
	Bars          []bar
}

type bar struct {
	X, Width int
	Label    string // empty if it would overlap the next one
	Segments []segment
}

type segment struct {
	Class     string
	Y, Height int
}

const (
	chartWidth  = 720
	chartHeight = 160 // of the bars, without the labels
	chartLabels = 7   // at most
)

func newChart(rows []overviewRow) chart {
	c := chart{Width: chartWidth, Height: chartHeight, Max: 1}
	for _, row := range rows {
		c.Max = max(c.Max, row.Total)
	}
	slot := chartWidth / max(len(rows), 1)
	for i, row := range rows {
		b := bar{X: i*slot + slot/8, Width: max(slot*3/4, 1)}
		if every := (len(rows) + chartLabels - 1) / chartLabels; (len(rows)-1-i)%every == 0 {
			b.Label = row.Date
		}
		y := chartHeight
		for _, s := range []struct {
			class string
			n     int
		}{{"good", row.Reached}, {"bad", row.Failed}, {"open", row.Open}} {
			height := s.n * chartHeight / c.Max
			if s.n > 0 {
				height = max(height, 2) // keeps small counts visible
				y -= height
				b.Segments = append(b.Segments, segment{Class: s.class, Y: max(y, 0), Height: height})
			}
		}
		c.Bars = append(c.Bars, b)
	}
	return c
}

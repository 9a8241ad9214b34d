package webui

import (
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
)

// overviewPage shows what became of the messages of some days.
type overviewPage struct {
	mms.Overview
	Days     int
	Choices  []int
	Everyone bool
	Chart    chart
	Rows     []overviewRow
	Percent  float64
	Rated    bool // some have ended
	Failures int
	Open     int
	Sample   int // messages that medians are taken of
}

// overviewRow is a day in numbers, in the three ways that the chart shows.
type overviewRow struct {
	Date                         string
	Total, Reached, Failed, Open int
}

// overviewDays are the spans to choose from, the first by default.
var overviewDays = []int{7, 30, 90}

func (p *Pages) overview(w http.ResponseWriter, r *http.Request, who identity.Principal) {
	query := r.URL.Query()
	body := overviewPage{Days: overviewDays[0], Choices: overviewDays, Sample: mms.MedianSample, Everyone: who.IsAdmin() && query.Get("whose") == "everyone"}
	for _, days := range overviewDays {
		if query.Get("days") == strconv.Itoa(days) {
			body.Days = days
		}
	}
	owner := who.UserID
	if body.Everyone {
		owner = uuid.Nil
	}
	overview, err := p.Messages.Overview(r.Context(), owner, body.Days)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	body.Overview = overview
	body.Percent, body.Rated = overview.Rate()
	body.Failures = overview.Ended() - overview.Reached()
	body.Open = overview.Total() - overview.Ended()
	for _, day := range overview.Days {
		row := overviewRow{Date: day.Date.Format("2 Jan"), Total: day.Total()}
		row.Reached = day.Counts[mms.Sent] + day.Counts[mms.Delivered]
		row.Failed = day.Counts[mms.Failed] + day.Counts[mms.Undelivered]
		row.Open = row.Total - row.Reached - row.Failed
		body.Rows = append(body.Rows, row)
	}
	body.Chart = draw(body.Rows)
	show(p, w, r, http.StatusOK, "overview", frame{Title: "Overview"}, body)
}

// chart is a row of stacked bars, in the units of its SVG.
type chart struct {
	Width, Height int
	Most          int // messages of the highest bar
	Bars          []bar
}

type bar struct {
	X, Width int
	Label    string // empty where labels would touch
	Parts    []part
}

type part struct {
	Class     string
	Y, Height int
}

const (
	chartWidth  = 720
	chartHeight = 160 // of the bars; labels stand below
)

func draw(rows []overviewRow) chart {
	c := chart{Width: chartWidth, Height: chartHeight, Most: 1}
	for _, row := range rows {
		c.Most = max(c.Most, row.Total)
	}
	slot := chartWidth / max(len(rows), 1)
	for i, row := range rows {
		b := bar{X: i*slot + slot/8, Width: max(slot*3/4, 1)}
		if every := (len(rows) + 6) / 7; (len(rows)-1-i)%every == 0 {
			b.Label = row.Date
		}
		y := chartHeight
		for _, p := range []struct {
			class string
			n     int
		}{{"good", row.Reached}, {"bad", row.Failed}, {"open", row.Open}} {
			height := p.n * chartHeight / c.Most
			if p.n > 0 {
				height = max(height, 2) // few among many are still to be seen
				y -= height
				b.Parts = append(b.Parts, part{Class: p.class, Y: max(y, 0), Height: height})
			}
		}
		c.Bars = append(c.Bars, b)
	}
	return c
}

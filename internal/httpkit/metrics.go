package httpkit

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts and times requests by route pattern.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics registers the metrics with reg, once per registry: it panics the
// second time, as prometheus does.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postcard_http_requests_total",
			Help: "HTTP requests answered, by route pattern.",
		}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "postcard_http_request_duration_seconds",
			Help:    "How long HTTP requests took until the answer was written, by route pattern.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"method", "route"}),
	}
	reg.MustRegister(m.requests, m.duration)
	return m
}

// Middleware observes every request that next answers.
func (m *Metrics) Middleware(next http.Handler) http.Handler {
	return watch(next, func(r *http.Request, o outcome) {
		status := strconv.Itoa(o.status)
		if o.aborted {
			status = "aborted"
		}
		m.requests.WithLabelValues(knownMethod(r.Method), o.route, status).Inc()
		m.duration.WithLabelValues(knownMethod(r.Method), o.route).Observe(o.took.Seconds())
	})
}

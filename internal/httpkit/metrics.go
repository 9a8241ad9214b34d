package httpkit

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the counts and durations of requests, by route pattern.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics registers the metrics with reg. It panics if reg has them already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postcard_http_requests_total",
			Help: "HTTP requests, by method, route pattern and status.",
		}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "postcard_http_request_duration_seconds",
			Help:    "Duration of HTTP requests until the response was written, by method and route pattern. Event streams are not included.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"method", "route"}),
	}
	reg.MustRegister(m.requests, m.duration)
	return m
}

// Middleware observes every request that next handles.
func (m *Metrics) Middleware(next http.Handler) http.Handler {
	return observe(next, func(r *http.Request, res result) {
		status := strconv.Itoa(res.status)
		if res.aborted {
			status = "aborted"
		}
		m.requests.WithLabelValues(knownMethod(r.Method), res.route, status).Inc()
		if !res.stream { // a stream lasts for minutes by design
			m.duration.WithLabelValues(knownMethod(r.Method), res.route).Observe(res.took.Seconds())
		}
	})
}

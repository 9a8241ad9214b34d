package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"postcard/internal/mms"
)

func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// attemptMetrics counts calls to Plivo by outcome and reason, and times them.
func attemptMetrics(registry *prometheus.Registry) func(mms.Verdict, time.Duration) {
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postcard_attempts_total",
		Help: "Calls to Plivo, by outcome and reason. A growing account_trouble means that nothing can be sent.",
	}, []string{"outcome", "reason"})
	duration := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "postcard_attempt_duration_seconds",
		Help:    "How long calls to Plivo took.",
		Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	})
	registry.MustRegister(attempts, duration)
	return func(v mms.Verdict, took time.Duration) {
		attempts.WithLabelValues(string(v.Outcome), string(v.Reason)).Inc()
		duration.Observe(took.Seconds())
	}
}

// duplicateMetric counts messages that are known to have been sent twice.
func duplicateMetric(registry *prometheus.Registry) func() {
	duplicates := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postcard_duplicates_total",
		Help: "Messages that turned out to have been accepted by Plivo in an attempt that was given up on.",
	})
	registry.MustRegister(duplicates)
	return duplicates.Inc
}

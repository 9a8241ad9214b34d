package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
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
		Help: "Calls to Plivo, by outcome and reason. A growing account_error means that nothing can be sent.",
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

// callbackMetric counts Plivo's calls to us.
func callbackMetric(registry *prometheus.Registry) func(result string) {
	callbacks := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postcard_callbacks_total",
		Help: "Plivo's calls to us, by what became of them. A growing forged means that PUBLIC_URL or the auth token is not what Plivo uses, or that somebody tries.",
	}, []string{"result"})
	registry.MustRegister(callbacks)
	return func(result string) { callbacks.WithLabelValues(result).Inc() }
}

// statsCollector are read from the database when somebody asks for metrics.
type statsCollector struct {
	store  *postgres.Store
	logger *slog.Logger
}

var (
	messagesDesc = prometheus.NewDesc("postcard_messages", "Messages that are not with a carrier yet, by status.", []string{"status"}, nil)
	waitingDesc  = prometheus.NewDesc("postcard_messages_waiting", "Queued messages that wait for their sender's turn or the end of a pause.", nil, nil)
	heldDesc     = prometheus.NewDesc("postcard_messages_held", "Doubtful messages that wait for a person.", nil, nil)
	pausedDesc   = prometheus.NewDesc("postcard_sending_paused", "1 while the account's trouble pauses sending, by cause.", []string{"cause"}, nil)
)

// Describe lists the figures.
func (statsCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{messagesDesc, waitingDesc, heldDesc, pausedDesc} {
		out <- d
	}
}

// Collect reads the figures. While the database is away there are none.
func (f statsCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	counts, err := f.store.Stats(ctx)
	if err != nil {
		f.logger.WarnContext(ctx, "figures cannot be read", slog.Any("error", err))
		return
	}
	gauge := func(d *prometheus.Desc, value int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	for status, n := range counts.Messages {
		gauge(messagesDesc, n, string(status))
	}
	gauge(waitingDesc, counts.Waiting)
	gauge(heldDesc, counts.Held)
	paused, err := f.store.Pauses(ctx)
	if err != nil {
		f.logger.WarnContext(ctx, "pauses cannot be read", slog.Any("error", err))
	}
	for _, p := range paused {
		gauge(pausedDesc, 1, string(p.Cause))
	}
}

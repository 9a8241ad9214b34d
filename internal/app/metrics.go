package app

import (
	"context"
	"errors"
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

// attemptMetrics registers the metrics of calls to Plivo, and returns the function
// that observes one.
func attemptMetrics(registry *prometheus.Registry) func(mms.Verdict, time.Duration) {
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postcard_attempts_total",
		Help: "Calls to Plivo, by outcome and reason. While account_error grows, nothing can be sent.",
	}, []string{"outcome", "reason"})
	duration := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "postcard_attempt_duration_seconds",
		Help:    "Duration of calls to Plivo.",
		Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	})
	registry.MustRegister(attempts, duration)
	return func(v mms.Verdict, took time.Duration) {
		attempts.WithLabelValues(string(v.Outcome), string(v.Reason)).Inc()
		duration.Observe(took.Seconds())
	}
}

// duplicateMetric registers the counter of messages that were sent twice, and
// returns the function that increments it.
func duplicateMetric(registry *prometheus.Registry) func() {
	duplicates := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postcard_duplicates_total",
		Help: "Messages sent twice: Plivo had accepted an attempt that was given up and repeated.",
	})
	registry.MustRegister(duplicates)
	return duplicates.Inc
}

// mediaMetrics registers the metrics of the media preparer, and returns the functions that
// count a check of a media URL and an upload to Plivo.
func mediaMetrics(registry *prometheus.Registry) (onCheck func(mms.MediaCheck), onUpload func(error)) {
	checks := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postcard_media_checks_total",
		Help: "Checks of what is behind media URLs, by result and reason.",
	}, []string{"result", "reason"})
	uploads := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postcard_media_uploads_total",
		Help: "Uploads of pictures to Plivo, by result. While failed grows, messages with pictures may wait.",
	}, []string{"result"})
	registry.MustRegister(checks, uploads)
	onCheck = func(c mms.MediaCheck) { checks.WithLabelValues(string(c.Result), string(c.Reason)).Inc() }
	onUpload = func(err error) {
		result := "uploaded"
		if err != nil {
			result = "failed"
		}
		uploads.WithLabelValues(result).Inc()
	}
	return onCheck, onUpload
}

// callbackMetric registers the counter of callbacks, and returns the function that
// counts one by its result.
func callbackMetric(registry *prometheus.Registry) func(result string) {
	callbacks := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postcard_callbacks_total",
		Help: "Callbacks from Plivo, by result. If bad_signature grows, CALLBACK_URL (PUBLIC_URL if not set) or PLIVO_AUTH_TOKEN differs from what Plivo uses, or somebody forges callbacks.",
	}, []string{"result"})
	registry.MustRegister(callbacks)
	return func(result string) { callbacks.WithLabelValues(result).Inc() }
}

// statsCollector is a prometheus.Collector that reads the database at each scrape.
type statsCollector struct {
	store  *postgres.Store
	logger *slog.Logger
}

var (
	messagesDesc  = prometheus.NewDesc("postcard_messages", "Messages that are not final and not known to be sent, by status.", []string{"status"}, nil)
	waitingDesc   = prometheus.NewDesc("postcard_messages_waiting", "Queued messages that wait for their sender's rate limit or the end of a pause.", nil, nil)
	preparingDesc = prometheus.NewDesc("postcard_messages_preparing", "Queued messages whose pictures are being checked or handed to Plivo.", nil, nil)
	heldDesc      = prometheus.NewDesc("postcard_messages_held", "Messages in doubt that wait for a person's decision.", nil, nil)
	pausedDesc    = prometheus.NewDesc("postcard_sending_paused", "1 while sending is paused because of an account error, by cause.", []string{"cause"}, nil)

	silenceRefutedDesc = prometheus.NewDesc("postcard_doubt_silence_refuted_total", "Messages that DOUBT_SILENCE queued again although Plivo had accepted them.", nil, nil)
	silenceOffDesc     = prometheus.NewDesc("postcard_doubt_silence_off", "1 while DOUBT_SILENCE is off for 24 hours, because it was wrong.", nil, nil)
)

// Describe implements prometheus.Collector.
func (statsCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{messagesDesc, waitingDesc, preparingDesc, heldDesc, pausedDesc, silenceRefutedDesc, silenceOffDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector. It collects nothing while the database
// is down.
func (c statsCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	counts, err := c.store.OpenCounts(ctx)
	if err != nil {
		c.logger.WarnContext(ctx, "could not read the message counts for metrics", slog.Any("error", err))
		return
	}
	gauge := func(d *prometheus.Desc, value int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	for status, n := range counts.Messages {
		gauge(messagesDesc, n, string(status))
	}
	gauge(waitingDesc, counts.Waiting)
	gauge(preparingDesc, counts.Preparing)
	gauge(heldDesc, counts.Held)
	c.collectSilence(ctx, out)
	pauses, err := c.store.Pauses(ctx)
	if err != nil {
		c.logger.WarnContext(ctx, "could not read the pauses for metrics", slog.Any("error", err))
	}
	for _, p := range pauses {
		gauge(pausedDesc, 1, string(p.Cause))
	}
}

func (c statsCollector) collectSilence(ctx context.Context, out chan<- prometheus.Metric) {
	refuted, err := c.store.SilencesRefuted(ctx)
	off, offErr := c.store.SilenceOff(ctx)
	if err := errors.Join(err, offErr); err != nil {
		c.logger.WarnContext(ctx, "could not read the state of DOUBT_SILENCE for metrics", slog.Any("error", err))
		return
	}
	isOff := 0.0
	if off > 0 {
		isOff = 1
	}
	out <- prometheus.MustNewConstMetric(silenceRefutedDesc, prometheus.CounterValue, float64(refuted))
	out <- prometheus.MustNewConstMetric(silenceOffDesc, prometheus.GaugeValue, isOff)
}

package app

import (
	"io"
	"log/slog"

	"github.com/postcard-mms/postcard/internal/queue"
)

// NewLogger returns a logger that writes to w, in the format "json" or "text".
func NewLogger(w io.Writer, level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// collectLogs sends to logger what libraries log by themselves: go-redis, and with
// package log asynqmon. Both have one logger for the whole process.
func collectLogs(logger *slog.Logger) {
	slog.SetDefault(logger)
	queue.LogTo(logger)
}

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"log"
	"log/slog"
	"testing"

	"github.com/redis/go-redis/v9"
)

// The test is not parallel: it sets the loggers of the process.
func TestLibrariesLogInTheFormatOfTheLog(t *testing.T) { //nolint:paralleltest // see above
	before := slog.Default()
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(t.Output())
	})
	var out bytes.Buffer
	collectLogs(NewLogger(&out, slog.LevelDebug, "json"))
	log.Printf("error: could not delete task")
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	if err := client.Ping(context.Background()).Err(); err == nil {
		t.Fatal("a Redis listens on port 1")
	}
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	if len(lines) < 2 {
		t.Errorf("got %d records, want those of both libraries: %s", len(lines), out.String())
	}
	for _, line := range lines {
		if !json.Valid(line) {
			t.Errorf("got a line that is not JSON: %s", line)
		}
	}
}

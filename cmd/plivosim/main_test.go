package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func TestReadSettings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		env  map[string]string
		want settings
	}{
		{"defaults", nil, nil, settings{addr: "127.0.0.1:8085", sim: plivosim.Config{TimeScale: 1, FetchMedia: plivosim.FetchOff}}},
		{
			"environment", nil,
			map[string]string{
				"PLIVOSIM_ADDR": ":8085", "PLIVOSIM_TIME_SCALE": "0.1", "PLIVO_AUTH_ID": "MA", "PLIVO_AUTH_TOKEN": "t",
				"PLIVO_SENDER_NUMBER": "+1 415 555 0100,+14155550101,", "PLIVOSIM_FETCH_MEDIA": "at-accept",
			},
			settings{addr: ":8085", sim: plivosim.Config{
				AuthID: "MA", AuthToken: "t", TimeScale: 0.1, Numbers: []string{"+1 415 555 0100", "+14155550101"},
				FetchMedia: plivosim.FetchAtAccept,
			}},
		},
		{
			"flags win",
			[]string{"-addr", "[::1]:1", "-scale", "2", "-fetch", "at-dequeue", "-healthcheck"},
			map[string]string{"PLIVOSIM_ADDR": ":8085", "PLIVOSIM_TIME_SCALE": "0.1", "PLIVOSIM_FETCH_MEDIA": "off"},
			settings{addr: "[::1]:1", healthcheck: true, sim: plivosim.Config{TimeScale: 2, FetchMedia: plivosim.FetchAtDequeue}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readSettings(tt.args, env(tt.env), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.sim.Numbers) == 0 {
				got.sim.Numbers = nil
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(settings{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRunReportsAllConfigurationErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		env  map[string]string
		want string
	}{
		{
			"several errors", map[string]string{"PLIVOSIM_TIME_SCALE": "0", "PLIVOSIM_FETCH_MEDIA": "on"},
			"PLIVO_AUTH_ID is missing\nPLIVO_AUTH_TOKEN is missing\nPLIVOSIM_TIME_SCALE or -scale must be greater than 0\n" +
				`PLIVOSIM_FETCH_MEDIA or -fetch must be off, at-accept or at-dequeue, got "on"`,
		},
		{"scale", map[string]string{"PLIVOSIM_TIME_SCALE": "fast"}, `PLIVOSIM_TIME_SCALE must be a number, got "fast"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := run(t.Context(), nil, env(tt.env), io.Discard)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestServeAnswersHealthChecksUntilStopped(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- serve(ctx, listener, plivosim.Config{Logger: slog.New(slog.DiscardHandler)})
	}()
	healthy := []string{"-healthcheck", "-addr", ":" + addr[len("127.0.0.1:"):]}
	if err := run(t.Context(), healthy, env(nil), io.Discard); err != nil {
		t.Errorf("health check while running: got error %v, want none", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("serve: got error %v, want none", err)
	}
	if err := run(t.Context(), healthy, env(nil), io.Discard); err == nil {
		t.Error("health check after stopping: got no error")
	}
}

func TestRunServesUntilCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	credentials := env(map[string]string{"PLIVO_AUTH_ID": "MA", "PLIVO_AUTH_TOKEN": "t"})
	var out bytes.Buffer
	cancel()
	err := run(ctx, []string{"-addr", "127.0.0.1:0"}, credentials, &out)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("run: got error %v, want none", err)
	}
}

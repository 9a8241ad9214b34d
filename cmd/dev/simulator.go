package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// The simulated account. Its number is from the block reserved for fiction.
const (
	simulatedAuthID = "MAPOSTCARDSIMULATOR0"
	simulatedSender = "+14155550100"
)

// simulator is a plivosim server on a free port.
type simulator struct {
	handler *plivosim.Simulator
	server  *http.Server
	url     string
}

// startSimulator starts the simulator and sets the PLIVO_ variables to it.
func startSimulator(ctx context.Context, vars map[string]string, logger *slog.Logger) (*simulator, error) {
	setDefault(vars, "PLIVO_SENDER_NUMBER", simulatedSender)
	vars["PLIVO_AUTH_ID"], vars["PLIVO_AUTH_TOKEN"] = simulatedAuthID, rand.Text()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the simulator: %w", err)
	}
	s := &simulator{
		handler: plivosim.New(plivosim.Config{AuthID: vars["PLIVO_AUTH_ID"], AuthToken: vars["PLIVO_AUTH_TOKEN"]}),
		url:     "http://" + listener.Addr().String(),
	}
	s.server = &http.Server{Handler: s.handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	go func() {
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("the simulator has stopped", slog.Any("error", err))
		}
	}()
	vars["PLIVO_BASE_URL"] = s.url
	// Webhooks can be received on this machine, and the simulator's pictures are on it.
	setDefault(vars, "ALLOW_PRIVATE_WEBHOOKS", "true")
	setDefault(vars, "ALLOW_PRIVATE_MEDIA", "true")
	return s, nil
}

func (s *simulator) stop() error {
	s.handler.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		return fmt.Errorf("stopping the simulator: %w", err)
	}
	return nil
}

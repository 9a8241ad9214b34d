package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

const defaultAddr = "127.0.0.1:8085"

type settings struct {
	addr        string
	healthcheck bool
	sim         plivosim.Config
}

func readSettings(args []string, getenv func(string) string, out io.Writer) (settings, error) {
	set := settings{sim: plivosim.Config{
		AuthID:    getenv("PLIVO_AUTH_ID"),
		AuthToken: getenv("PLIVO_AUTH_TOKEN"),
		Numbers:   splitList(getenv("PLIVO_SENDER_NUMBER")),
	}}
	addr := getenv("PLIVOSIM_ADDR")
	if addr == "" {
		addr = defaultAddr
	}
	scale, err := parseScale(getenv("PLIVOSIM_TIME_SCALE"))
	if err != nil {
		return settings{}, err
	}
	flags := flag.NewFlagSet("plivosim", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&set.addr, "addr", addr, "address to listen on")
	flags.Float64Var(&set.sim.TimeScale, "scale", scale, "factor on every waiting time")
	flags.BoolVar(&set.healthcheck, "healthcheck", false, "ask a running simulator for its health and exit 0 or 1")
	return set, flags.Parse(args)
}

func parseScale(s string) (float64, error) {
	if s == "" {
		return 1, nil
	}
	scale, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, fmt.Errorf("PLIVOSIM_TIME_SCALE must be a number, got %q", s)
	}
	return scale, nil
}

// splitList parts a list at its commas; a number may hold spaces.
func splitList(s string) []string {
	return slices.DeleteFunc(strings.Split(s, ","), func(part string) bool {
		return strings.TrimSpace(part) == ""
	})
}

// check returns every fault at once.
func (s settings) check() error {
	var faults []error
	if s.sim.AuthID == "" {
		faults = append(faults, errors.New("PLIVO_AUTH_ID is not set"))
	}
	if s.sim.AuthToken == "" {
		faults = append(faults, errors.New("PLIVO_AUTH_TOKEN is not set"))
	}
	if !(s.sim.TimeScale > 0) {
		faults = append(faults, errors.New("the time scale must be greater than 0"))
	}
	return errors.Join(faults...)
}

// checkHealth asks the simulator at addr, which may lack a host, as in ":8085".
func checkHealth(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	url := "http://" + net.JoinHostPort(host, port) + "/sim/health"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health: status %d", resp.StatusCode)
	}
	return nil
}

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
	version     bool
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
	fetch := plivosim.MediaFetching(getenv("PLIVOSIM_FETCH_MEDIA"))
	if fetch == "" {
		fetch = plivosim.FetchOff
	}
	flags := flag.NewFlagSet("plivosim", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&set.addr, "addr", addr, "address to listen on")
	flags.Float64Var(&set.sim.TimeScale, "scale", scale, "factor for all delays")
	flags.StringVar((*string)(&set.sim.FetchMedia), "fetch", string(fetch), "when media URLs are fetched: off, at-accept or at-dequeue")
	flags.BoolVar(&set.healthcheck, "healthcheck", false, "check a running simulator and exit 0 or 1")
	flags.BoolVar(&set.version, "version", false, "print the version and exit")
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

// splitList splits a list at its commas; numbers may contain spaces.
func splitList(s string) []string {
	return slices.DeleteFunc(strings.Split(s, ","), func(part string) bool {
		return strings.TrimSpace(part) == ""
	})
}

// check returns every error, not only the first.
func (s settings) check() error {
	var errs []error
	if s.sim.AuthID == "" {
		errs = append(errs, errors.New("PLIVO_AUTH_ID is missing"))
	}
	if s.sim.AuthToken == "" {
		errs = append(errs, errors.New("PLIVO_AUTH_TOKEN is missing"))
	}
	if !(s.sim.TimeScale > 0) {
		errs = append(errs, errors.New("PLIVOSIM_TIME_SCALE or -scale must be greater than 0"))
	}
	if !s.sim.FetchMedia.Valid() {
		errs = append(errs, fmt.Errorf("PLIVOSIM_FETCH_MEDIA or -fetch must be %s, %s or %s, got %q",
			plivosim.FetchOff, plivosim.FetchAtAccept, plivosim.FetchAtDequeue, s.sim.FetchMedia))
	}
	return errors.Join(errs...)
}

// checkHealth checks the simulator at addr, which may have no host, as in ":8085".
func checkHealth(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("parsing the address: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	url := "http://" + net.JoinHostPort(host, port) + "/sim/health"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("checking health: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("checking health: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("checking health: got status %d, want 200", resp.StatusCode)
	}
	return nil
}

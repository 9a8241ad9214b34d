package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// sessions says what became of sessions of Postgres whose client has gone.
type sessions struct {
	orphans int           // when the cut had ended
	gone    time.Duration // from then until there were none
	left    int           // of them after sessionLimit
	all     int           // sessions in the end, of all clients; 0: not counted
}

// sessionLimit is a minute, within which the server notices, and as much again for
// counting on a slow machine.
const sessionLimit = 90 * time.Second

func (s sessions) String() string {
	switch {
	case s.left > 0:
		return fmt.Sprintf("%d of %d sessions of gone clients are still there after %v; %d in all", s.left, s.orphans, sessionLimit, s.all)
	case s.orphans > 0:
		return fmt.Sprintf("%d, after %d of gone clients ended within %s", s.all, s.orphans, seconds(s.gone))
	case s.all > 0:
		return fmt.Sprint(s.all)
	default:
		return "-"
	}
}

// awaitSessions waits until every session of Postgres belongs to a connection that its
// client still has.
func (s *stack) awaitSessions(ctx context.Context, restored time.Time) (sessions, error) {
	var result sessions
	for first := true; ; first = false {
		orphans, all, err := s.countSessions(ctx)
		if err != nil {
			return result, err
		}
		result.left, result.all, result.gone = orphans, all, time.Since(restored)
		if first {
			result.orphans = orphans
		}
		if orphans == 0 || result.gone > sessionLimit {
			return result, nil
		}
		if err := sleep(ctx, 2*time.Second); err != nil {
			return result, err
		}
	}
}

// countSessions counts the sessions that no client has a socket for, and all. Sessions
// that come or go meanwhile are not counted as the former.
func (s *stack) countSessions(ctx context.Context) (orphans, all int, err error) {
	before, err := s.listSessions(ctx)
	if err != nil {
		return 0, 0, err
	}
	sockets, err := s.listSockets(ctx)
	if err != nil {
		return 0, 0, err
	}
	after, err := s.listSessions(ctx)
	if err != nil {
		return 0, 0, err
	}
	for session, address := range after {
		if before[session] != "" && !sockets[address] {
			orphans++
		}
	}
	return orphans, len(after), nil
}

// listSessions returns the client's address of each session.
func (s *stack) listSessions(ctx context.Context) (map[string]string, error) {
	rows, err := s.query(ctx, `SELECT pid || ' ' || backend_start, host(client_addr) || ':' || client_port
		FROM pg_stat_activity WHERE client_addr IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	sessions := map[string]string{}
	for _, row := range rows {
		session, address, _ := strings.Cut(row, "|")
		sessions[session] = address
	}
	return sessions, nil
}

// listSockets returns the local addresses of all connections that api and workers have.
func (s *stack) listSockets(ctx context.Context) (map[string]bool, error) {
	sockets := map[string]bool{}
	for _, service := range []string{"api", "worker"} {
		containers, err := s.containers(ctx, service)
		if err != nil {
			return nil, err
		}
		for _, container := range containers {
			table, err := s.cutoff(ctx, container, "sockets")
			if err != nil {
				return nil, err
			}
			if err := parseSockets(table, sockets); err != nil {
				return nil, err
			}
		}
	}
	return sockets, nil
}

// parseSockets adds the local addresses of established connections in a table like that
// of /proc/net/tcp:
//
//	sl  local_address rem_address   st ...
//	 0: 0300A8C0:1F90 0200A8C0:D0F4 01 ...
func parseSockets(table string, sockets map[string]bool) error {
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[3] != "01" {
			continue
		}
		ip, port, _ := strings.Cut(fields[1], ":")
		address, err := hex.DecodeString(ip)
		number, portErr := strconv.ParseUint(port, 16, 16)
		if err = errors.Join(err, portErr); err != nil || len(address) != 4 {
			return errors.Join(fmt.Errorf("a socket's address cannot be parsed: %q", fields[1]), err)
		}
		// The kernel prints the address as a number, in the byte order of the machine.
		var ordered [4]byte
		binary.NativeEndian.PutUint32(ordered[:], binary.BigEndian.Uint32(address))
		sockets[netip.AddrPortFrom(netip.AddrFrom4(ordered), uint16(number)).String()] = true
	}
	return nil
}

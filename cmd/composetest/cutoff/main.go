//go:build linux

// Command cutoff drops the packets of the network namespace that it runs in. Command
// composetest runs it in a container that shares the namespace of the container to cut
// off. It needs the capability NET_ADMIN, and no other program or image.
//
//	cutoff drop      drop every packet, in both directions, except those to itself
//	cutoff restore   stop dropping
//	cutoff sockets   print the TCP sockets, as /proc/net/tcp does
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cutoff:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: cutoff drop|restore|sockets")
	}
	switch args[0] {
	case "drop":
		return explain(send(dropAll()))
	case "restore":
		return explain(send([]message{deleteTable()}))
	case "sockets":
		return printSockets(out)
	default:
		return fmt.Errorf("unknown command %q", args[0])
	}
}

// explain adds what is missing where packets cannot be filtered at all.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w; the container needs the capability NET_ADMIN", err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w; does the engine's kernel have nf_tables, with the family inet?", err)
	}
	return err
}

// printSockets prints the sockets of IPv4, which is what the engine's networks use.
func printSockets(out io.Writer) error {
	content, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return fmt.Errorf("reading the sockets: %w", err)
	}
	if _, err := out.Write(content); err != nil {
		return fmt.Errorf("printing the sockets: %w", err)
	}
	return nil
}

package main

import (
	"context"
	"time"
)

// benchStart measures how long a process takes to become ready, and its size.
func benchStart(ctx context.Context, s *stack, r *report) error {
	if _, err := s.api(ctx); err != nil { // it creates the schema
		return err
	}
	for _, program := range []string{"api", "worker"} {
		p, err := s.start(ctx, program)
		if err != nil {
			return err
		}
		time.Sleep(time.Second)
		r.add(program+": start to ready", float64(p.took.Milliseconds()), "ms", "≤ 1000")
		r.add(program+": idle memory", memory(p.command.Process.Pid), "MiB", "")
		r.add(program+": binary size", size(s.programs, program), "MB", "≤ 40")
	}
	return nil
}

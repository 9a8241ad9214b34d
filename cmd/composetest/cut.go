package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postcard-mms/postcard/client"
)

// way is how a service is cut off.
type way string

const (
	disconnect way = "disconnect" // the engine takes the container off its network
	drop       way = "drop"       // the container's packets are dropped
)

// target is what is cut off at once.
type target struct {
	name       string
	service    string
	containers []string
}

// targets returns every service, and one worker of several. The simulator comes first,
// so that doubts are still being resolved while the others are cut off.
func (s *stack) targets(ctx context.Context) ([]target, error) {
	var targets []target
	for _, service := range []string{"plivosim", "postgres", "redis", "api", "worker"} {
		containers, err := s.containers(ctx, service)
		if err != nil {
			return nil, err
		}
		if len(containers) == 0 {
			return nil, fmt.Errorf("the service %s has no containers", service)
		}
		targets = append(targets, target{service, service, containers})
		if len(containers) > 1 {
			targets = append(targets, target{"one " + service, service, containers[:1]})
		}
	}
	return targets, nil
}

// result is what was observed at one cut. Durations start when it ended.
type result struct {
	target    target
	way       way
	answers   map[string]int // during the cut and the recovery
	from, to  string         // the cut, by Postgres' clock
	ready     time.Duration  // until api and workers are ready
	accepted  time.Duration  // until a new message was answered 202
	delivered time.Duration  // until that message was final
	sessions  sessions
	unhealthy []string // containers whose health check kept failing during the cut
}

func (r result) String() string {
	return fmt.Sprintf("  %s, %s: ready after %s, 202 after %s, delivered after %s; sessions: %s; answers: %s", r.target.name, r.way,
		seconds(r.ready), seconds(r.accepted), seconds(r.delivered), r.sessions, describeCounts(r.answers))
}

// problems returns what should not have happened.
func (r result) problems() []string {
	var problems []string
	for kind, n := range r.answers {
		if !slices.Contains(expectedAnswers, kind) || kind == noAnswer && r.target.service != "api" {
			problems = append(problems, fmt.Sprintf("%s, %s: %d answers were %s", r.target.name, r.way, n, kind))
		}
	}
	for _, container := range r.unhealthy {
		problems = append(problems, fmt.Sprintf("%s, %s: the health check of %s failed", r.target.name, r.way, container))
	}
	if r.sessions.left > 0 {
		problems = append(problems, fmt.Sprintf("%s, %s: %s", r.target.name, r.way, r.sessions))
	}
	return problems
}

// cutOff cuts the target off, restores it, and waits until everything works again.
func (s *stack) cutOff(ctx context.Context, t target, w way, length time.Duration, l *load) (result, error) {
	fmt.Printf("cutting %s off by %s for %v\n", t.name, w, length)
	before := l.counts()
	r := result{target: t, way: w}
	var err error
	if r.from, err = s.now(ctx); err != nil {
		return r, err
	}
	if err := s.forEach(ctx, t, w, s.cut); err != nil {
		return r, err
	}
	if err := sleep(ctx, length); err != nil {
		return r, err
	}
	if r.unhealthy, err = s.unhealthy(ctx); err != nil {
		return r, err
	}
	if err := s.forEach(ctx, t, w, s.restore); err != nil {
		return r, err
	}
	restored := time.Now()
	if r.to, err = s.now(ctx); err != nil {
		return r, err
	}
	if err := s.awaitRecovery(ctx, &r, restored, l); err != nil {
		return r, err
	}
	if t.service == "postgres" || t.service == "api" || t.service == "worker" {
		if r.sessions, err = s.awaitSessions(ctx, restored); err != nil {
			return r, err
		}
	}
	r.answers = l.since(before)
	return r, nil
}

func (s *stack) forEach(ctx context.Context, t target, w way, do func(context.Context, way, string, string) error) error {
	for _, container := range t.containers {
		if err := do(ctx, w, t.service, container); err != nil {
			return err
		}
	}
	return nil
}

const network = project + "_default"

func (s *stack) cut(ctx context.Context, w way, _, container string) (err error) {
	if w == disconnect {
		_, err = s.engine.docker(ctx, "network", "disconnect", network, container)
	} else {
		_, err = s.cutoff(ctx, container, "drop")
	}
	return err
}

// restore ends a cut. The alias is the name by which the other services find this one;
// the engine forgets it when it disconnects a container.
func (s *stack) restore(ctx context.Context, w way, service, container string) (err error) {
	if w == disconnect {
		_, err = s.engine.docker(ctx, "network", "connect", "--alias", service, network, container)
	} else {
		_, err = s.cutoff(ctx, container, "restore")
	}
	return err
}

// now returns Postgres' time.
func (s *stack) now(ctx context.Context) (string, error) {
	rows, err := s.query(ctx, "SELECT now()")
	if err != nil || len(rows) != 1 {
		return "", errors.Join(errors.New("reading Postgres' clock"), err)
	}
	return rows[0], nil
}

// recoveryLimit is how long a part of the recovery may take. Resolving a doubt takes
// longer, but new messages do not wait for it.
const recoveryLimit = 2 * time.Minute

// awaitRecovery waits until everything is ready, and at the same time sends a message
// until it is accepted and delivered.
func (s *stack) awaitRecovery(ctx context.Context, r *result, restored time.Time, l *load) error {
	ctx, cancel := context.WithTimeoutCause(ctx, recoveryLimit, fmt.Errorf("not within %v: a new message is delivered", recoveryLimit))
	defer cancel()
	probed := make(chan error, 1)
	go func() { probed <- l.probe(ctx, r, restored) }()
	_, err := poll(ctx, recoveryLimit, 500*time.Millisecond, "api and workers are ready", func() (bool, error) { return s.ready(ctx) })
	r.ready = time.Since(restored)
	return errors.Join(err, <-probed)
}

// probe sends one message like the others and follows it.
func (l *load) probe(ctx context.Context, r *result, restored time.Time) error {
	params := l.next()
	var m client.Message
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		var err error
		m, err = l.client.Send(attempt, params)
		cancel()
		l.record(params.Text, m, err)
		if err == nil {
			break
		}
		if err := sleep(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
	r.accepted = time.Since(restored)
	for !m.Final {
		if err := sleep(ctx, 250*time.Millisecond); err != nil {
			return fmt.Errorf("%w; it is %s", err, m.Status)
		}
		if latest, err := l.client.Message(ctx, m.ID); err == nil {
			m = latest
		}
	}
	r.delivered = time.Since(restored)
	return nil
}

func seconds(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// engine runs the commands docker and docker compose.
type engine struct {
	compose []string // the command and the arguments of every call
	env     []string
	arch    string // of the engine, as Go calls it
}

// findEngine returns an error that says what is missing, if anything is.
func findEngine(ctx context.Context) (*engine, error) {
	if _, err := os.Stat("docker-compose.yml"); err != nil {
		return nil, errors.New("there is no docker-compose.yml here; run composetest from the project's root")
	}
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, errors.New("the command docker is missing; see https://docs.docker.com/engine/install")
	}
	e := &engine{env: engineEnvironment(os.Environ())}
	arch, err := e.docker(ctx, "version", "--format", "{{.Server.Arch}}")
	if err != nil {
		return nil, fmt.Errorf("no Docker engine answers; start one, or set DOCKER_HOST: %w", err)
	}
	e.arch = strings.TrimSpace(arch)
	for _, command := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		version, err := e.run(ctx, append(slices.Clone(command), "version", "--short")...)
		if err == nil && !strings.HasPrefix(version, "1.") {
			e.compose = command
			return e, nil
		}
	}
	return nil, errors.New("the plugin docker compose, version 2, is missing; see https://docs.docker.com/compose/install")
}

// engineEnvironment keeps the variables that docker itself needs. Others could change
// what docker-compose.yml means: with PLIVO_BASE_URL, messages would be sent for real.
func engineEnvironment(environment []string) []string {
	return slices.DeleteFunc(slices.Clone(environment), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		for _, prefix := range []string{"DOCKER_", "BUILDKIT_", "BUILDX_", "XDG_", "SSH_"} {
			if strings.HasPrefix(name, prefix) {
				return false
			}
		}
		return !slices.Contains([]string{"PATH", "HOME", "USER", "TMPDIR"}, name) && !strings.HasSuffix(strings.ToUpper(name), "_PROXY")
	})
}

func (e *engine) docker(ctx context.Context, args ...string) (string, error) {
	return e.run(ctx, append([]string{"docker"}, args...)...)
}

func (e *engine) runCompose(ctx context.Context, args ...string) (string, error) {
	return e.run(ctx, slices.Concat(e.compose, args)...)
}

// run returns what the command printed to its standard output.
func (e *engine) run(ctx context.Context, command ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Env, c.Stdout, c.Stderr = e.env, &stdout, &stderr
	if err := c.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(stderr.String()+stdout.String()))
	}
	return stdout.String(), nil
}

// composeShown runs compose and shows its output.
func (e *engine) composeShown(ctx context.Context, args ...string) error {
	c := exec.CommandContext(ctx, e.compose[0], slices.Concat(e.compose[1:], args)...)
	c.Env, c.Stdout, c.Stderr = e.env, os.Stdout, os.Stderr
	return c.Run()
}

// buildCutoff builds the image that drops packets. It starts from nothing, so no
// registry is needed.
func (s *stack) buildCutoff(ctx context.Context) error {
	dir := filepath.Join(s.dir, "cutoff")
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "cutoff"), "./cmd/composetest/cutoff")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+s.engine.arch)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building cutoff: %w: %s", err, out)
	}
	dockerfile := "FROM scratch\nCOPY cutoff /cutoff\nENTRYPOINT [\"/cutoff\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		return fmt.Errorf("writing cutoff's Dockerfile: %w", err)
	}
	_, err := s.engine.docker(ctx, "build", "--quiet", "--tag", cutoffImage, dir)
	return err
}

// cutoff runs a command of cutoff in the network namespace of a container.
func (s *stack) cutoff(ctx context.Context, container, command string) (string, error) {
	return s.engine.docker(ctx, "run", "--rm", "--network", "container:"+container,
		"--cap-drop", "ALL", "--cap-add", "NET_ADMIN", cutoffImage, command)
}

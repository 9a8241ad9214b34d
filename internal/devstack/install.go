package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	embedded "github.com/fergusstrange/embedded-postgres"
)

// Install installs the programs that the tests need and that are missing, on
// Debian as root. Elsewhere it returns an error that says how to install them. A
// missing C compiler is no error: tests then run without the race detector.
func Install(ctx context.Context, out io.Writer) error {
	var packages, advices []string
	require := func(missing bool, brew string, apt ...string) {
		if missing {
			packages = append(packages, apt...)
			advices = append(advices, advice(strings.Join(apt, " "), brew))
		}
	}
	require(find("initdb", postgresDirs...) == "", "postgresql@17", "postgresql")
	require(redisProgram() == "", "redis", "redis-server")
	require(pgBouncerProgram() == "", "pgbouncer", "pgbouncer")
	_, err := FindChromium()
	require(err != nil, "--cask chromium", "chromium", "fonts-dejavu-core")
	if canInstall() && compilerMissing() {
		packages = append(packages, compilerPackages...)
	}
	if len(packages) == 0 {
		return nil
	}
	if !canInstall() {
		return fmt.Errorf("the tests need programs that are not installed:\n  %s", strings.Join(advices, "\n  "))
	}
	fmt.Fprintf(out, "installing %s\n", strings.Join(packages, ", "))
	return installPackages(ctx, out, packages...)
}

// compilerPackages are Debian's packages of a C compiler and the C library's
// headers, which the race detector needs.
var compilerPackages = []string{"gcc", "libc6-dev"}

func compilerMissing() bool {
	_, err := os.Stat("/usr/include/stdlib.h")
	return find("gcc") == "" || err != nil
}

// CheckRaceDetector returns nil if this machine can build tests with -race, else
// an error that says why not. It compiles a small test of the standard library,
// so that whatever is missing shows.
func CheckRaceDetector(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "test", "-race", "-run", "^$", "errors").CombinedOutput()
	if err == nil {
		return nil
	}
	if compilerMissing() {
		return errors.New("a C compiler and the C library's headers are not installed; " + advice(strings.Join(compilerPackages, " "), "gcc"))
	}
	reason, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return errors.New(reason)
}

// canInstall reports whether this process may install packages.
func canInstall() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil && os.Geteuid() == 0
}

// clusterConfig stops Debian's package from creating and starting a cluster when
// it is first installed.
const clusterConfig = "/etc/postgresql-common/createcluster.conf"

func installPackages(ctx context.Context, out io.Writer, packages ...string) error {
	if _, err := os.Stat(filepath.Dir(clusterConfig)); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(clusterConfig), 0o755); err != nil {
			return fmt.Errorf("configuring Debian's Postgres package: %w", err)
		}
		if err := os.WriteFile(clusterConfig, []byte("create_main_cluster = false\n"), 0o644); err != nil {
			return fmt.Errorf("configuring Debian's Postgres package: %w", err)
		}
	}
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-q", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"}, packages...),
	} {
		var log strings.Builder
		command := exec.CommandContext(ctx, "apt-get", args...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1") // runlevel 1: packages start no services
		command.Stdout, command.Stderr = io.MultiWriter(out, &log), io.MultiWriter(out, &log)
		if err := command.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, log.String())
		}
	}
	return nil
}

// downloadPostgres downloads the server programs and returns their directory, for
// machines on which this process may not install packages.
func downloadPostgres(stateDir string) (string, error) {
	dir := filepath.Join(stateDir, "postgres-programs")
	port, err := FreePort()
	if err != nil {
		return "", err
	}
	server := embedded.NewDatabase(embedded.DefaultConfig().
		BinariesPath(dir).RuntimePath(filepath.Join(stateDir, "postgres-download")).
		Port(uint32(port)).Logger(io.Discard))
	// The library unpacks only on start.
	if err := errors.Join(server.Start(), server.Stop()); err != nil {
		return "", fmt.Errorf("downloading Postgres: %w; %s", err, advice("postgresql", "postgresql@17"))
	}
	return filepath.Join(dir, "bin"), nil
}

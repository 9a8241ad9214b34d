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

// Install installs what the tests need and is missing, on Debian as root;
// elsewhere the error says what to type. With nothing missing it does nothing.
func Install(ctx context.Context, out io.Writer) error {
	var packages, advices []string
	missing := func(is bool, brew string, apt ...string) {
		if is {
			packages = append(packages, apt...)
			advices = append(advices, advice(strings.Join(apt, " "), brew))
		}
	}
	missing(find("initdb", postgresFolders...) == "", "postgresql@17", "postgresql")
	missing(redisProgram() == "", "redis", "redis-server")
	_, err := FindChromium()
	missing(err != nil, "--cask chromium", "chromium", "fonts-dejavu-core")
	if len(packages) == 0 {
		return nil
	}
	if !canInstall() {
		return fmt.Errorf("the tests need programs that are missing:\n  %s", strings.Join(advices, "\n  "))
	}
	fmt.Fprintf(out, "installing %s\n", strings.Join(packages, ", "))
	return installPackages(ctx, out, packages...)
}

// canInstall reports whether packages can be installed without questions.
func canInstall() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil && os.Geteuid() == 0
}

// clusterConfig keeps Debian's package from making and starting a cluster of
// its own when it is installed for the first time.
const clusterConfig = "/etc/postgresql-common/createcluster.conf"

func installPackages(ctx context.Context, out io.Writer, packages ...string) error {
	if _, err := os.Stat(filepath.Dir(clusterConfig)); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(clusterConfig), 0o755); err != nil {
			return fmt.Errorf("preparing the install of Postgres: %w", err)
		}
		if err := os.WriteFile(clusterConfig, []byte("create_main_cluster = false\n"), 0o644); err != nil {
			return fmt.Errorf("preparing the install of Postgres: %w", err)
		}
	}
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-q", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"}, packages...),
	} {
		var log strings.Builder
		command := exec.CommandContext(ctx, "apt-get", args...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1") // 1: packages start no services
		command.Stdout, command.Stderr = io.MultiWriter(out, &log), io.MultiWriter(out, &log)
		if err := command.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, log.String())
		}
	}
	return nil
}

// downloadPostgres fetches server programs where no package manager may be
// used, and returns their folder.
func downloadPostgres(stateDir string) (string, error) {
	folder := filepath.Join(stateDir, "postgres-programs")
	port, err := FreePort()
	if err != nil {
		return "", err
	}
	server := embedded.NewDatabase(embedded.DefaultConfig().
		BinariesPath(folder).RuntimePath(filepath.Join(stateDir, "postgres-download")).
		Port(uint32(port)).Logger(io.Discard))
	// It unpacks on the first start and offers no other way.
	if err := errors.Join(server.Start(), server.Stop()); err != nil {
		return "", fmt.Errorf("downloading Postgres: %w; %s", err, advice("postgresql", "postgresql@17"))
	}
	return filepath.Join(folder, "bin"), nil
}

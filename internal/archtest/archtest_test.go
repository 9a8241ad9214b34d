// Package archtest tests rules about the source that the compiler does not check:
// which package may import which (ARCHITECTURE.md), what production programs link,
// which files read the clock, and that every environment variable is documented. It
// contains only tests.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/postcard-mms/postcard/"

// allowed lists the project's packages that each package may import. A new package
// must be added, after deciding where it belongs.
var allowed = map[string][]string{
	"migrations":                {},
	"internal/invalid":          {},
	"internal/pasted":           {},
	"internal/secret":           {},
	"internal/config":           {"internal/pasted", "internal/secret"},
	"internal/failpoint":        {},
	"internal/groupcommit":      {},
	"internal/httpkit":          {},
	"internal/retryafter":       {},
	"internal/picture":          {},
	"internal/media":            {"internal/mms", "internal/invalid", "internal/picture"},
	"internal/mediacheck":       {"internal/mms", "internal/picture"},
	"internal/plivosim":         {},
	"internal/devstack":         {},
	"internal/mms":              {"internal/invalid", "internal/pasted"},
	"internal/identity":         {"internal/invalid", "internal/pasted"},
	"internal/csvrows":          {"internal/invalid", "internal/pasted"},
	"internal/live":             {},
	"internal/audit":            {"internal/mms"},
	"internal/operator":         {"internal/audit", "internal/mms", "internal/invalid", "internal/pasted"},
	"internal/webhook":          {"internal/mms", "internal/invalid", "internal/pasted"},
	"internal/webhook/dispatch": {"internal/mms", "internal/retryafter", "internal/webhook"},
	"internal/postgres":         {"internal/mms", "internal/identity", "internal/audit", "internal/operator", "internal/webhook", "internal/groupcommit", "migrations"},
	"internal/queue":            {"internal/mms", "internal/webhook"},
	"internal/plivo":            {"internal/mms", "internal/operator", "internal/failpoint", "internal/retryafter"},
	"internal/intake":           {"internal/mms", "internal/invalid", "internal/failpoint"},
	"internal/worker":           {"internal/mms", "internal/failpoint"},
	"internal/maintenance":      {"internal/mms", "internal/audit", "internal/operator", "internal/webhook", "internal/failpoint", "internal/media", "internal/picture"},
	"internal/callback":         {"internal/mms", "internal/plivo"},
	"internal/sso":              {},
	"internal/auth":             {"internal/identity", "internal/invalid", "internal/pasted", "internal/secret", "internal/httpkit", "internal/sso"},
	"internal/auth/authtest":    {"internal/identity"},
	"internal/mailer":           {},
	"internal/smtptest":         {},
	"internal/httpapi":          {"internal/intake", "internal/csvrows", "internal/live", "internal/mms", "internal/identity", "internal/invalid", "internal/auth", "internal/webhook", "internal/httpkit", "internal/pasted", "internal/media", "internal/picture", "internal/mediacheck", "internal/operator"},
	"internal/webui":            {"internal/intake", "internal/csvrows", "internal/mms", "internal/identity", "internal/invalid", "internal/auth", "internal/sso", "internal/webhook", "internal/httpkit", "internal/pasted", "internal/media", "internal/picture", "internal/mediacheck", "internal/operator"},
	"internal/testkit":          {"internal/devstack", "internal/postgres"},

	"internal/testkit/oidcprovider": {},

	"internal/app":           {"internal/audit", "internal/auth", "internal/callback", "internal/config", "internal/httpapi", "internal/httpkit", "internal/identity", "internal/intake", "internal/live", "internal/mailer", "internal/maintenance", "internal/media", "internal/mediacheck", "internal/mms", "internal/operator", "internal/plivo", "internal/postgres", "internal/queue", "internal/sso", "internal/webhook/dispatch", "internal/webui", "internal/worker", "internal/version"},
	"internal/version":       {},
	"internal/archtest":      {},
	"internal/e2e":           {},
	"client":                 {},
	"cmd/api":                {"internal/app", "internal/config"},
	"cmd/worker":             {"internal/app", "internal/config"},
	"cmd/bench":              {"internal/devstack", "internal/plivosim"},
	"cmd/composetest":        {"client"},
	"cmd/composetest/cutoff": {},
	"cmd/postcard":           {"client", "internal/audit", "internal/config", "internal/identity", "internal/maintenance", "internal/mms", "internal/operator", "internal/plivo", "internal/postgres", "internal/queue", "internal/version"},
	"cmd/plivosim":           {"internal/plivosim", "internal/version"},
	"cmd/dev":                {"internal/app", "internal/config", "internal/devstack", "internal/plivosim", "internal/secret"},
}

// only lists the packages that may import a third-party package, which they wrap.
var only = map[string][]string{
	"github.com/hibiken/asynq":      {"internal/queue", "cmd/bench"},
	"github.com/hibiken/asynqmon":   {"internal/queue"},
	"github.com/plivo/plivo-go/v7":  {"internal/plivo"},
	"github.com/jmoiron/sqlx":       {"internal/postgres"},
	"github.com/lib/pq":             {"internal/postgres", "internal/devstack", "internal/testkit", "cmd/bench"},
	"github.com/caarlos0/env/v11":   {"internal/config"},
	"github.com/danielgtaylor/huma": {"internal/httpapi"},
	"github.com/wneessen/go-mail":   {"internal/mailer"},
	"github.com/coreos/go-oidc":     {"internal/sso"},
	"github.com/zitadel/oidc":       {"internal/testkit/oidcprovider"},
}

// neverLinked lists the packages that production programs must not link.
var neverLinked = []string{
	module + "internal/plivosim", module + "internal/devstack", module + "internal/testkit", module + "internal/auth/authtest", module + "internal/smtptest",
	"github.com/alicebob/miniredis", "github.com/fergusstrange/embedded-postgres", "github.com/chromedp", "github.com/compose-spec", "github.com/zitadel", "testing",
}

// listed is the output of `go list -json` for a package.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...)
	command.Dir = "../.."
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// violations describes the imports of a package that the rules forbid.
func violations(p listed) []string {
	var violations []string
	name := strings.TrimPrefix(p.ImportPath, module)
	may, known := allowed[name]
	if !known {
		return []string{name + " is not in the table of allowed imports; add it"}
	}
	for _, imported := range p.Imports {
		own, isOwn := strings.CutPrefix(imported, module)
		if isOwn && !slices.Contains(may, own) {
			violations = append(violations, fmt.Sprintf("%s imports %s, which the table of allowed imports forbids", name, own))
		}
		for dependency, importers := range only {
			if (imported == dependency || strings.HasPrefix(imported, dependency+"/")) && !slices.Contains(importers, name) {
				violations = append(violations, fmt.Sprintf("%s imports %s, which only %s may import", name, imported, strings.Join(importers, ", ")))
			}
		}
	}
	return violations
}

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	packages := list(t, "./...")
	if len(packages) < len(allowed)-2 {
		t.Fatalf("got only %d packages", len(packages))
	}
	for _, p := range packages {
		for _, violation := range violations(p) {
			t.Error(violation)
		}
	}
}

func TestProductionLinksNoTestCode(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./cmd/api", "./cmd/worker") {
		for _, dependency := range p.Deps {
			for _, never := range neverLinked {
				if dependency == never || strings.HasPrefix(dependency, never+"/") {
					t.Errorf("%s links %s", p.ImportPath, dependency)
				}
			}
		}
	}
}

// readsClock lists the files that may read the machine's clock, with the reason. A
// decision about a message must use the database's clock, because the clocks of
// several machines differ.
var readsClock = map[string]string{
	"internal/auth/cache.go":                "how long a cached key or user is valid",
	"internal/callback/health.go":           "how long ago a break was recorded, by its monotonic clock",
	"internal/intake/ids.go":                "how far the database's clock is ahead",
	"internal/groupcommit/groupcommit.go":   "how long ago calls shared a batch, and so whether the next one is delayed",
	"internal/queue/health.go":              "how long commands to Redis are held back, and when a problem was last logged",
	"internal/worker/heartbeat.go":          "how long this process has not renewed, by its monotonic clock",
	"internal/worker/dispatcher.go":         "how long a call took",
	"internal/app/health.go":                "how long the result of a health check is valid",
	"internal/postgres/conn.go":             "how long connections are used",
	"internal/postgres/connector.go":        "how long connections are used",
	"internal/postgres/hosts.go":            "how much of a request's deadline is left",
	"internal/postgres/job_leases.go":       "how long ago a lease was renewed, by its monotonic clock",
	"internal/postgres/timeout.go":          "how long the database may take to answer",
	"internal/postgres/sessions.go":         "how long a session is valid from now on",
	"internal/queue/tasks.go":               "whether asynq, which compares with the clock of each worker, will soon move a delayed task",
	"internal/httpapi/stream.go":            "how long a client may take to read",
	"internal/httpapi/upload.go":            "how long a client may take to write",
	"internal/webui/pictures.go":            "how long a browser may take to upload",
	"internal/httpapi/media.go":             "the read deadline of an upload",
	"internal/webui/batches.go":             "how long a browser may take to upload",
	"internal/httpkit/observe.go":           "how long a request took",
	"internal/intake/intake.go":             "how much of a request's deadline is left",
	"internal/testkit/wait.go":              "deadlines of tests",
	"client/client.go":                      "how long a call has been retried, by its monotonic clock",
	"internal/webhook/dispatch/dispatch.go": "how long a call took",
}

func TestOnlyListedFilesReadClock(t *testing.T) {
	t.Parallel()
	reads := map[string]bool{}
	for _, name := range goFiles(t) {
		content, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		// Tests decide nothing about messages, and neither do cmd/bench and
		// cmd/composetest, which measure how long they take.
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "cmd/bench/") || strings.HasPrefix(name, "cmd/composetest/") {
			continue
		}
		if clockCall.Match(content) {
			reads[name] = true
		}
	}
	for name := range reads {
		if readsClock[name] == "" {
			t.Errorf("%s reads the machine's clock; use the database's clock, or list the file in readsClock with a reason", name)
		}
	}
	for name := range readsClock {
		if !reads[name] {
			t.Errorf("readsClock lists %s, which does not read the clock", name)
		}
	}
}

// clockCall matches what reads the clock.
var clockCall = regexp.MustCompile(`\btime\.(Now|Since|Until)\(`)

// TestGoFilesSeesEveryPackage compares the files that TestOnlyListedFilesReadClock
// reads with the packages that the go command lists.
func TestGoFilesSeesEveryPackage(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, name := range goFiles(t) {
		seen[path.Dir(name)] = true
	}
	for _, p := range list(t, "./...") {
		if name := strings.TrimPrefix(p.ImportPath, module); !seen[name] {
			t.Errorf("no file of package %s was read", name)
		}
	}
}

// goFiles returns the paths of all Go files of the module, relative to its root.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir("../..", func(file string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return fs.SkipDir
		}
		if strings.HasSuffix(file, ".go") {
			files = append(files, strings.TrimPrefix(filepath.ToSlash(file), "../../"))
		}
		return err
	})
	if err != nil || len(files) < 100 {
		t.Fatalf("got %d Go files (error %v), want at least 100", len(files), err)
	}
	return files
}

func TestViolations(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]listed{
		"SQL in the domain":           {ImportPath: "github.com/postcard-mms/postcard/internal/mms", Imports: []string{"github.com/lib/pq"}},
		"upward import":               {ImportPath: "github.com/postcard-mms/postcard/internal/mms", Imports: []string{"github.com/postcard-mms/postcard/internal/worker"}},
		"asynq outside the queue":     {ImportPath: "github.com/postcard-mms/postcard/internal/worker", Imports: []string{"github.com/hibiken/asynq"}},
		"package without an entry":    {ImportPath: "github.com/postcard-mms/postcard/internal/util"},
		"subpackage of a wrapped one": {ImportPath: "github.com/postcard-mms/postcard/internal/webui", Imports: []string{"github.com/danielgtaylor/huma/v2/adapters/humachi"}},
	} {
		if len(violations(p)) == 0 {
			t.Errorf("%s: got no violation, want one", name)
		}
	}
	fine := listed{ImportPath: "github.com/postcard-mms/postcard/internal/mms", Imports: []string{"time", "github.com/postcard-mms/postcard/internal/invalid"}}
	if found := violations(fine); len(found) != 0 {
		t.Errorf("allowed imports: got violations %v, want none", found)
	}
}

// TestEnvironmentVariablesAreDocumented compares the variables that config reads with
// .env.example and README.md.
func TestEnvironmentVariablesAreDocumented(t *testing.T) {
	t.Parallel()
	code := append(variables(t, "../config/config.go", `env:"([A-Z0-9_]+)`), variables(t, "../config/sso.go", `env:"([A-Z0-9_]+)`)...)
	example := variables(t, "../../.env.example", `(?m)^#? ?([A-Z][A-Z0-9_]+)=`)
	for _, name := range code {
		if !slices.Contains(example, name) {
			t.Errorf("%s is read, but .env.example does not document it", name)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range code {
		if !bytes.Contains(readme, []byte("`"+name+"`")) {
			t.Errorf("%s is read, but README.md does not list it", name)
		}
	}
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[A-Z].*?`) \\|.*\\|.*\\|$").FindAllStringSubmatch(string(readme), -1) {
		for name := range strings.SplitSeq(row[1], ", ") {
			if listed[name] {
				t.Errorf("README.md lists %s twice", name)
			}
			listed[name] = true
		}
	}
	if len(listed) < 10 {
		t.Errorf("got only %d variables in the table in README.md", len(listed))
	}
	for _, name := range example {
		if !slices.Contains(code, name) {
			t.Errorf("%s is documented in .env.example, but nothing reads it", name)
		}
	}
}

func variables(t *testing.T, path, pattern string) []string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(content), -1) {
		names = append(names, match[1])
	}
	if len(names) < 5 {
		t.Fatalf("got only %d variables in %s", len(names), path)
	}
	return names
}

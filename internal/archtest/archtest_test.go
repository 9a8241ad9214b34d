// Package archtest holds the direction of imports: ARCHITECTURE.md's table, as
// a test.
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
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/postcard-mms/postcard/"

// allowed are the packages of ours that each may import. A package that is not
// listed here has to be entered, with thought.
var allowed = map[string][]string{
	"migrations":                {},
	"internal/invalid":          {},
	"internal/config":           {},
	"internal/failpoint":        {},
	"internal/groupcommit":      {},
	"internal/httpkit":          {},
	"internal/plivosim":         {},
	"internal/devstack":         {},
	"internal/mms":              {"internal/invalid"},
	"internal/identity":         {"internal/invalid"},
	"internal/csvrows":          {"internal/invalid"},
	"internal/live":             {},
	"internal/audit":            {"internal/mms"},
	"internal/webhook":          {"internal/mms", "internal/invalid"},
	"internal/webhook/dispatch": {"internal/mms", "internal/webhook"},
	"internal/postgres":         {"internal/mms", "internal/identity", "internal/audit", "internal/webhook", "internal/groupcommit", "migrations"},
	"internal/queue":            {"internal/mms", "internal/webhook"},
	"internal/plivo":            {"internal/mms", "internal/failpoint"},
	"internal/intake":           {"internal/mms", "internal/invalid", "internal/failpoint"},
	"internal/worker":           {"internal/mms", "internal/failpoint"},
	"internal/maintenance":      {"internal/mms", "internal/webhook", "internal/failpoint"},
	"internal/callback":         {"internal/mms", "internal/plivo"},
	"internal/auth":             {"internal/identity", "internal/invalid"},
	"internal/httpapi":          {"internal/intake", "internal/csvrows", "internal/live", "internal/mms", "internal/identity", "internal/invalid", "internal/auth", "internal/webhook", "internal/httpkit"},
	"internal/webui":            {"internal/intake", "internal/csvrows", "internal/mms", "internal/identity", "internal/invalid", "internal/auth", "internal/webhook", "internal/httpkit"},
	"internal/testkit":          {"internal/devstack", "internal/postgres"},
	"internal/app":              {"internal/auth", "internal/callback", "internal/config", "internal/httpapi", "internal/httpkit", "internal/identity", "internal/intake", "internal/live", "internal/maintenance", "internal/mms", "internal/plivo", "internal/postgres", "internal/queue", "internal/webhook/dispatch", "internal/webui", "internal/worker"},
	"internal/archtest":         {},
	"internal/e2e":              {},
	"client":                    {},
	"cmd/api":                   {"internal/app", "internal/config"},
	"cmd/worker":                {"internal/app", "internal/config"},
	"cmd/bench":                 {"internal/devstack", "internal/plivosim"},
	"cmd/postcard":              {"client", "internal/audit", "internal/config", "internal/identity", "internal/maintenance", "internal/mms", "internal/plivo", "internal/postgres"},
	"cmd/plivosim":              {"internal/plivosim"},
	"cmd/dev":                   {"internal/app", "internal/config", "internal/devstack", "internal/plivosim"},
}

// only are the packages of ours that may import a package of others, because
// they exist to hide it.
var only = map[string][]string{
	"github.com/hibiken/asynq":      {"internal/queue", "cmd/bench"},
	"github.com/hibiken/asynqmon":   {"internal/queue"},
	"github.com/plivo/plivo-go/v7":  {"internal/plivo"},
	"github.com/jmoiron/sqlx":       {"internal/postgres"},
	"github.com/lib/pq":             {"internal/postgres", "internal/devstack", "internal/testkit", "cmd/bench"},
	"github.com/caarlos0/env/v11":   {"internal/config"},
	"github.com/danielgtaylor/huma": {"internal/httpapi"},
}

// neverLinked must not be part of the programs that run in production.
var neverLinked = []string{
	module + "internal/plivosim", module + "internal/devstack", module + "internal/testkit",
	"github.com/alicebob/miniredis", "github.com/fergusstrange/embedded-postgres", "github.com/chromedp", "testing",
}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	command := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...)
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

// breaches are the imports of a package that the rules forbid, in words.
func breaches(p listed) []string {
	var found []string
	name := strings.TrimPrefix(p.ImportPath, module)
	may, known := allowed[name]
	if !known {
		return []string{name + " is not in the table of what may import what"}
	}
	for _, imported := range p.Imports {
		ours, isOurs := strings.CutPrefix(imported, module)
		if isOurs && !slices.Contains(may, ours) {
			found = append(found, fmt.Sprintf("%s imports %s, which the table of allowed imports forbids", name, ours))
		}
		for theirs, keepers := range only {
			if (imported == theirs || strings.HasPrefix(imported, theirs+"/")) && !slices.Contains(keepers, name) {
				found = append(found, fmt.Sprintf("%s imports %s, which only %s may", name, imported, strings.Join(keepers, ", ")))
			}
		}
	}
	return found
}

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	packages := list(t, "./...")
	if len(packages) < len(allowed)-2 {
		t.Fatalf("only %d packages were listed", len(packages))
	}
	for _, p := range packages {
		for _, breach := range breaches(p) {
			t.Error(breach)
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

// readsClock are the files that may ask for the time of their own machine. No
// decision about a message rests on it: clocks of several machines differ, and
// all times of messages are the database's.
var readsClock = map[string]string{
	"internal/auth/cache.go":              "how long a cached key or user is valid",
	"internal/groupcommit/groupcommit.go": "how long a commit took, and so how long the next batch is delayed",
	"internal/queue/empty_queue_cache.go": "how long a queue counts as empty",
	"internal/worker/heartbeat.go":        "how long this process has not renewed, by its monotonic clock",
	"internal/worker/dispatcher.go":       "how long a call took",
	"internal/postgres/timeout.go":        "how long the database may take to answer",
	"internal/httpapi/stream.go":          "how long a client may take to read",
	"internal/httpapi/upload.go":          "how long a client may take to write",
	"internal/webui/batches.go":           "how long a browser may take to upload",
	"internal/httpkit/observe.go":         "how long a request took",
	"internal/plivo/client.go":            "a Retry-After that is a date",
	"internal/testkit/wait.go":            "deadlines of tests",
}

func TestClocksDecideNothing(t *testing.T) {
	t.Parallel()
	files := goFiles(t)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.ToSlash(strings.TrimPrefix(file, "../../"))
		if bytes.Contains(content, []byte("time."+"Now()")) && readsClock[name] == "" && !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, "cmd/bench/") {
			t.Errorf("%s reads the clock of its machine; a time that decides has to be the database's", name)
		}
	}
}

// goFiles returns the paths of all Go files of the module.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 100 {
		t.Fatalf("found %d Go files, %v", len(files), err)
	}
	return files
}

func TestTheRulesCanFail(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]listed{
		"the heart with SQL":    {ImportPath: "github.com/postcard-mms/postcard/internal/mms", Imports: []string{"github.com/lib/pq"}},
		"upwards":               {ImportPath: "github.com/postcard-mms/postcard/internal/mms", Imports: []string{"github.com/postcard-mms/postcard/internal/worker"}},
		"past the queue":        {ImportPath: "github.com/postcard-mms/postcard/internal/worker", Imports: []string{"github.com/hibiken/asynq"}},
		"a room nobody knows":   {ImportPath: "github.com/postcard-mms/postcard/internal/util"},
		"an SDK's inner folder": {ImportPath: "github.com/postcard-mms/postcard/internal/webui", Imports: []string{"github.com/danielgtaylor/huma/v2/adapters/humachi"}},
	} {
		if len(breaches(p)) == 0 {
			t.Errorf("%s is allowed", name)
		}
	}
	fine := listed{ImportPath: "github.com/postcard-mms/postcard/internal/mms", Imports: []string{"time", "github.com/postcard-mms/postcard/internal/invalid"}}
	if found := breaches(fine); len(found) != 0 {
		t.Errorf("what is allowed is refused: %v", found)
	}
}

// TestEveryVariableIsExplained compares the configuration's code with the file
// that people copy.
func TestEveryVariableIsExplained(t *testing.T) {
	t.Parallel()
	code := variables(t, "../config/config.go", `env:"([A-Z_]+)`)
	example := variables(t, "../../.env.example", `(?m)^#? ?([A-Z][A-Z_]+)=`)
	for _, name := range code {
		if !slices.Contains(example, name) {
			t.Errorf("%s is read, and .env.example does not explain it", name)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range code {
		if !bytes.Contains(readme, []byte("`"+name+"`")) {
			t.Errorf("%s is read, and README.md does not list it", name)
		}
	}
	for _, name := range example {
		if !slices.Contains(code, name) {
			t.Errorf("%s is explained, and nothing reads it", name)
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
	if len(names) < 10 {
		t.Fatalf("only %d variables were found in %s", len(names), path)
	}
	return names
}

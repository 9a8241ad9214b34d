package migrations_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/migrations"
)

// TestMigrationsAreNotEdited compares each migration with its hash in sums.txt. A database
// that has applied a migration never applies it again, so an edit would reach new
// databases only.
func TestMigrationsAreNotEdited(t *testing.T) {
	t.Parallel()
	sums := readSums(t)
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := migrations.FS.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sum, known := sums[name]
		delete(sums, name)
		switch got := fmt.Sprintf("%x", sha256.Sum256(content)); {
		case !known:
			t.Errorf("%s is new: add its hash with (cd migrations && sha256sum %s >> sums.txt). From then on it must not be edited.", name, name)
		case got != sum:
			t.Errorf("%s was edited, but databases have applied it already and will not apply it again. Restore it and write a new migration. Only if no commit of the main branch contains it yet, replace its line in sums.txt.", name)
		}
	}
	for name := range sums {
		t.Errorf("%s is in sums.txt and does not exist. A migration that databases have applied must not be deleted or renamed.", name)
	}
}

// readSums returns the hashes in sums.txt, which has the format of sha256sum, by file
// name.
func readSums(t *testing.T) map[string]string {
	t.Helper()
	file, err := os.Open("sums.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sums := map[string]string{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		sum, name, ok := strings.Cut(lines.Text(), "  ")
		if _, twice := sums[name]; !ok || twice {
			t.Fatalf("sums.txt: got the line %q, want one hash and name for each migration", lines.Text())
		}
		sums[name] = sum
	}
	return sums
}

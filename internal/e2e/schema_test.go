package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// TestStartRefusesAnotherSchema starts api and worker on a database that says it is up to
// date and is not, as after an edit of a migration. They must name each object. Additions of
// a newer version must not stop them.
func TestStartRefusesAnotherSchema(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change string
		want   []string
	}{
		"objects missing": {
			`DROP TABLE suppressions; ALTER TABLE attempts DROP COLUMN first_report_at; DROP TRIGGER messages_webhook_events ON messages; ALTER TABLE rate_limits ALTER interval_seconds TYPE int`,
			[]string{
				"\n  table suppressions is missing\n",
				"\n  column attempts.first_report_at is missing\n",
				"\n  trigger messages.messages_webhook_events is missing\n",
				"\n  column rate_limits.interval_seconds is integer not null, but must be double precision not null\n",
			},
		},
		"newer version": {
			`ALTER TABLE messages ADD note text; CREATE TABLE notes (id int); CREATE INDEX notes_by_id ON notes (id); INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`,
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plivosim.Config{})
			if _, err := r.store.DB().Exec(tt.change); err != nil {
				t.Fatal(err)
			}
			for _, p := range []*process{r.start("api", "API_ADDR=127.0.0.1:0"), r.start("worker")} {
				if tt.want == nil {
					testkit.Eventually(t, "the process is ready", func() bool {
						status, _, err := get(t.Context(), p.metrics+"/readyz")
						return err == nil && status == 200
					})
					continue
				}
				testkit.Eventually(t, "the process exits", p.hasExited)
				log, err := os.ReadFile(p.log)
				if err != nil {
					t.Fatal(err)
				}
				for _, want := range tt.want {
					if !strings.Contains(string(log), want) {
						t.Errorf("got %s, want %q", log, want)
					}
				}
			}
		})
	}
}

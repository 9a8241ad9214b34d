package postgres_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
)

var updateSchema = flag.Bool("update-schema", false, "write schema.txt from the migrations")

// TestSchemaFile compares schema.txt with what the migrations create. After a new
// migration, go test ./internal/postgres -run TestSchemaFile -update-schema writes it.
func TestSchemaFile(t *testing.T) {
	store, err := postgres.Open(testkit.Database(t), 1, postgres.StatementTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	want, err := postgres.SchemaFile(t.Context(), store.DB())
	if err != nil {
		t.Fatal(err)
	}
	if *updateSchema {
		if err := os.WriteFile("schema.txt", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("schema.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("schema.txt is not what the migrations create; run go test ./internal/postgres -run TestSchemaFile -update-schema (-want +got):\n%s", diff)
	}
}

// TestSchemaIsChecked changes a database as an edited migration, an operator or a newer
// version may do, and migrates it again as a starting process does.
func TestSchemaIsChecked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change string
		want   []string // no difference: it starts
	}{
		"unchanged":            {`SELECT`, nil},
		"table dropped":        {`DROP TABLE batch_errors`, []string{"table batch_errors is missing"}},
		"column dropped":       {`ALTER TABLE attempts DROP COLUMN first_report_at`, []string{"column attempts.first_report_at is missing"}},
		"column renamed":       {`ALTER TABLE messages RENAME metadata TO data`, []string{"column messages.metadata is missing"}},
		"column's type":        {`ALTER TABLE attempts ALTER http_status TYPE text`, []string{"column attempts.http_status is text, but must be integer"}},
		"column's precision":   {`ALTER TABLE messages ALTER cost TYPE numeric(12, 2)`, []string{"column messages.cost is numeric(12,2), but must be numeric(12,6)"}},
		"column may be NULL":   {`ALTER TABLE attempts ALTER lease_until DROP NOT NULL`, []string{"column attempts.lease_until is timestamp with time zone, but must be timestamp with time zone not null"}},
		"column without value": {`ALTER TABLE messages ALTER version DROP DEFAULT`, []string{"column messages.version is bigint not null, but must be bigint not null with a default"}},
		"unique index dropped": {`DROP INDEX messages_one_in_flight_per_pair`, []string{"unique index messages.messages_one_in_flight_per_pair is missing"}},
		"unique index of other columns": {`DROP INDEX messages_one_in_flight_per_pair; CREATE UNIQUE INDEX messages_one_in_flight_per_pair ON messages (sender, recipient, id)`,
			[]string{"unique index messages.messages_one_in_flight_per_pair is (sender, recipient, id), but must be (sender, recipient) partial"}},
		"unique index not unique": {`DROP INDEX attempts_plivo_uuid_key; CREATE INDEX attempts_plivo_uuid_key ON attempts (plivo_uuid)`,
			[]string{"unique index attempts.attempts_plivo_uuid_key is missing"}},
		"unique index half built": {`UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'attempts_plivo_uuid_key'::regclass`,
			[]string{"unique index attempts.attempts_plivo_uuid_key is (plivo_uuid) partial invalid, but must be (plivo_uuid) partial"}},
		"check dropped": {`ALTER TABLE messages DROP CONSTRAINT messages_known_is_not_resent`, []string{"check messages.messages_known_is_not_resent is missing"}},
		"value dropped": {`ALTER TABLE attempts DROP CONSTRAINT attempts_outcome_check; ALTER TABLE attempts ADD CONSTRAINT attempts_outcome_check CHECK (outcome IN ('accepted', 'unknown', 'transient_failure', 'permanent_failure'))`,
			[]string{"value account_error of check attempts.attempts_outcome_check is missing"}},
		"foreign key": {`ALTER TABLE attempts DROP CONSTRAINT attempts_message_id_fkey; ALTER TABLE attempts ADD CONSTRAINT attempts_message_id_fkey FOREIGN KEY (message_id) REFERENCES messages (id)`,
			[]string{"foreign key attempts.attempts_message_id_fkey is (message_id) references messages, but must be (message_id) references messages on delete cascade"}},
		"trigger dropped":                {`DROP TRIGGER messages_webhook_events ON messages`, []string{"trigger messages.messages_webhook_events is missing"}},
		"trigger disabled":               {`ALTER TABLE messages DISABLE TRIGGER messages_stats_change`, []string{"messages_stats_change is after update for each row executes record_stats_change disabled, but must be"}},
		"function dropped":               {`DROP FUNCTION create_webhook_events CASCADE`, []string{"trigger messages.messages_webhook_events is missing"}},
		"new column that must be filled": {`ALTER TABLE suppressions ADD note text NOT NULL`, []string{"column suppressions.note is unknown to this version"}},

		"new column":               {`ALTER TABLE messages ADD note text`, nil},
		"new column with a value":  {`ALTER TABLE messages ADD note text NOT NULL DEFAULT ''`, nil},
		"new table":                {`CREATE TABLE notes (id int NOT NULL)`, nil},
		"new indexes":              {`CREATE INDEX a ON messages (text); CREATE UNIQUE INDEX b ON users (lower(email))`, nil},
		"other index dropped":      {`DROP INDEX messages_of_workspace`, nil},
		"new value":                {`ALTER TABLE attempts DROP CONSTRAINT attempts_outcome_check; ALTER TABLE attempts ADD CONSTRAINT attempts_outcome_check CHECK (outcome IN ('accepted', 'transient_failure', 'permanent_failure', 'account_error', 'unknown', 'lost'))`, nil},
		"newer version":            {`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`, nil},
		"in another schema":        {`CREATE SCHEMA app; DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP EXECUTE format('ALTER TABLE %I SET SCHEMA app', t); END LOOP; EXECUTE format('ALTER DATABASE %I SET search_path = app', current_database()); END $$`, nil},
		"same names, other schema": {`CREATE SCHEMA other; CREATE TABLE other.messages (id int)`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := testkit.Database(t)
			store, err := postgres.Open(database, 1, postgres.StatementTimeout)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			if _, err := store.DB().Exec(tt.change); err != nil {
				t.Fatal(err)
			}
			restarted, err := postgres.Open(database, 2, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer restarted.Close()
			if err := postgres.Migrate(t.Context(), restarted.DB()); err != nil {
				t.Fatal(err)
			}
			err = postgres.CheckSchema(t.Context(), restarted.DB())
			if tt.want == nil {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			if err == nil {
				t.Fatal("got no error")
			}
			lines := strings.Split(err.Error(), "\n")
			for _, want := range tt.want {
				if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) }) {
					t.Errorf("got %v, want a line with %q", err, want)
				}
			}
		})
	}
}

// TestSchemaIsCheckedByARoleWithFewRights checks the schema as a role that may use the
// tables and nothing else.
func TestSchemaIsCheckedByARoleWithFewRights(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	store.DB().SetMaxOpenConns(1)
	for _, statement := range []string{
		`CREATE ROLE few_rights`,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO few_rights`,
		`SET ROLE few_rights`,
	} {
		if _, err := store.DB().Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := postgres.CheckSchema(t.Context(), store.DB()); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	for _, statement := range []string{`RESET ROLE`, `DROP OWNED BY few_rights`, `DROP ROLE few_rights`} {
		if _, err := store.DB().Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkCheckSchema(b *testing.B) {
	store, err := postgres.Open(testkit.Database(b), 1, postgres.StatementTimeout)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	for b.Loop() {
		if err := postgres.CheckSchema(b.Context(), store.DB()); err != nil {
			b.Fatal(err)
		}
	}
}

package postgres

import (
	"context"
	"database/sql"
	_ "embed"
	"maps"
	"slices"
	"strings"
)

// neededSchema lists what the migrations create and the program relies on, one object per
// line. TestSchemaFile generates it.
//
//go:embed schema.txt
var neededSchema string

// notNeeded lists the objects that schema.txt leaves out, a table with all its parts: this
// version does not need them any more, so that the next one may drop them while this one
// still starts.
var notNeeded []string

// SchemaError says that the database lacks objects that this version needs, or has others
// of their names.
type SchemaError struct {
	Differences []string // one sentence per object
}

// Error implements error, with one line per object.
func (e SchemaError) Error() string {
	return "the database's schema is not what this version needs; was a migration changed, or the schema edited by hand?\n  " +
		strings.Join(e.Differences, "\n  ")
}

// selectSchema selects the tables that a statement without a schema's name finds, and what
// belongs to them. It needs no rights but those on the system's tables, which everybody
// has.
//
// Expressions are left out: conditions of checks, triggers and partial indexes, and the
// values of defaults. Postgres' versions print them differently. The exception are the
// values that a column may have.
const selectSchema = `
WITH tables AS MATERIALIZED (
    SELECT oid, relname AS name FROM pg_class
    WHERE relkind IN ('r', 'p') AND relname <> 'goose_db_version' AND pg_table_is_visible(oid)
      AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
), checks AS (
    SELECT t.name || '.' || c.conname AS name, pg_get_constraintdef(c.oid) AS definition
    FROM tables t JOIN pg_constraint c ON c.conrelid = t.oid WHERE c.contype = 'c'
)
SELECT 'table ' || name AS object, 'exists' AS definition FROM tables
UNION ALL
SELECT 'column ' || t.name || '.' || a.attname, format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
    || CASE WHEN a.atthasdef OR a.attidentity <> '' THEN ' with a default' ELSE '' END
FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'unique index ' || t.name || '.' || c.relname, '(' || columns.list || ')'
    || CASE WHEN i.indpred IS NOT NULL THEN ' partial' ELSE '' END
    || CASE WHEN i.indisvalid THEN '' ELSE ' invalid' END
FROM tables t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid,
    LATERAL (SELECT string_agg(coalesce(a.attname, 'an expression'), ', ' ORDER BY k.n) AS list FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, n)
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) columns
WHERE i.indisunique
UNION ALL
SELECT 'foreign key ' || t.name || '.' || c.conname, '(' || columns.list || ') references ' || f.relname
    || CASE c.confdeltype WHEN 'c' THEN ' on delete cascade' WHEN 'n' THEN ' on delete set null' ELSE '' END
FROM tables t JOIN pg_constraint c ON c.conrelid = t.oid JOIN pg_class f ON f.oid = c.confrelid,
    LATERAL (SELECT string_agg(a.attname, ', ' ORDER BY k.n) AS list FROM unnest(c.conkey) WITH ORDINALITY AS k (attnum, n)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum) columns
WHERE c.contype = 'f'
UNION ALL
SELECT 'check ' || name, 'exists' FROM checks
UNION ALL
SELECT DISTINCT 'value ' || value.literal[1] || ' of check ' || name, 'exists'
FROM checks, LATERAL regexp_matches(definition, '''([a-z_]+)''::text', 'g') AS value (literal) WHERE definition ~ '^CHECK \(\(\w+ = ANY \(ARRAY\['
UNION ALL
SELECT 'trigger ' || t.name || '.' || g.tgname, CASE WHEN g.tgtype & 2 = 2 THEN 'before' ELSE 'after' END
    || CASE WHEN g.tgtype & 4 = 4 THEN ' insert' ELSE '' END || CASE WHEN g.tgtype & 8 = 8 THEN ' delete' ELSE '' END
    || CASE WHEN g.tgtype & 16 = 16 THEN ' update' ELSE '' END || CASE WHEN g.tgtype & 1 = 1 THEN ' for each row' ELSE '' END
    || ' executes ' || p.proname || CASE WHEN g.tgenabled IN ('O', 'A') THEN '' ELSE ' disabled' END
FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid JOIN pg_proc p ON p.oid = g.tgfoid WHERE NOT g.tgisinternal
ORDER BY object`

// CheckSchema returns a SchemaError when the database lacks an object that this version
// needs or has it in another form. Objects that this version does not know are fine, except
// columns that its statements would have to fill: a newer version may have added them.
func CheckSchema(ctx context.Context, db *sql.DB) error {
	got, err := readSchema(ctx, db)
	if err != nil {
		return wrapError(err, "reading the database's schema")
	}
	if differences := schemaDifferences(parseSchema(neededSchema), got); len(differences) > 0 {
		return SchemaError{differences}
	}
	return nil
}

// readSchema returns the definition of each object of the database.
func readSchema(ctx context.Context, db *sql.DB) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, selectSchema)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	objects := map[string]string{}
	for rows.Next() {
		var object, definition string
		if err := rows.Scan(&object, &definition); err != nil {
			return nil, err
		}
		objects[object] = definition
	}
	return objects, rows.Err()
}

const definitionMark = " = "

// formatSchema is the inverse of parseSchema. It leaves out what is not needed.
func formatSchema(objects map[string]string) string {
	var file strings.Builder
	for _, object := range slices.Sorted(maps.Keys(objects)) {
		if !slices.Contains(notNeeded, object) && !slices.Contains(notNeeded, "table "+tableOf(object)) {
			file.WriteString(object + definitionMark + objects[object] + "\n")
		}
	}
	return file.String()
}

func parseSchema(file string) map[string]string {
	objects := map[string]string{}
	for line := range strings.Lines(file) {
		object, definition, _ := strings.Cut(strings.TrimSuffix(line, "\n"), definitionMark)
		objects[object] = definition
	}
	return objects
}

// schemaDifferences describes what is missing, without the parts of missing tables, what
// has another form, and what this version cannot fill.
func schemaDifferences(needed, got map[string]string) (differences []string) {
	for _, object := range slices.Sorted(maps.Keys(needed)) {
		table := "table " + tableOf(object)
		_, hasTable := got[table]
		switch definition, exists := got[object]; {
		case !hasTable && object != table:
		case !exists:
			differences = append(differences, object+" is missing")
		case definition != needed[object]:
			differences = append(differences, object+" is "+definition+", but must be "+needed[object])
		}
	}
	for _, object := range slices.Sorted(maps.Keys(got)) {
		if _, known := needed[object]; !known && mustBeFilled(needed, object, got[object]) {
			differences = append(differences, object+" is unknown to this version, which cannot fill it: it must have a default or allow NULL")
		}
	}
	return differences
}

// mustBeFilled reports whether an object is a column of a needed table without which no row
// can be inserted.
func mustBeFilled(needed map[string]string, object, definition string) bool {
	_, tableIsNeeded := needed["table "+tableOf(object)]
	return tableIsNeeded && strings.HasPrefix(object, "column ") && strings.HasSuffix(definition, " not null")
}

// tableOf returns the table that an object is or belongs to.
func tableOf(object string) string {
	name := object[strings.LastIndex(object, " ")+1:]
	table, _, _ := strings.Cut(name, ".")
	return table
}

// Package migrations holds the database schema as numbered SQL files, embedded
// so that every program carries the schema it was built for. It applies
// nothing itself: internal/postgres does.
package migrations

import "embed"

// FS contains the files NNNN_name.sql in goose's format. A file that has
// landed is never edited: a change is a new file.
//
//go:embed *.sql
var FS embed.FS

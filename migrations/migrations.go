// Package migrations embeds the database schema as numbered SQL files, so that every
// program contains the schema it was built for. internal/postgres applies them.
package migrations

import "embed"

// FS contains the files NNNN_name.sql in goose's format. They are never edited: a change
// is a new file. sums.txt has the hash of each.
//
//go:embed *.sql
var FS embed.FS

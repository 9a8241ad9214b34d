package webui

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
)

//go:embed static/*
var staticFiles embed.FS

// static serves the embedded files. Each URL contains a hash of the file's
// content, so that browsers may cache it forever.
type static struct {
	versions map[string]string // content hash by file name
}

func loadStatic() (static, error) {
	s := static{versions: map[string]string{}}
	entries, err := fs.ReadDir(staticFiles, "static")
	if err != nil {
		return s, fmt.Errorf("reading static files: %w", err)
	}
	for _, entry := range entries {
		data, err := staticFiles.ReadFile("static/" + entry.Name())
		if err != nil {
			return s, fmt.Errorf("reading static files: %w", err)
		}
		sum := sha256.Sum256(data)
		s.versions[entry.Name()] = hex.EncodeToString(sum[:6])
	}
	return s, nil
}

func (s static) url(name string) string { return "/static/" + name + "?v=" + s.versions[name] }

func (s static) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	version, ok := s.versions[name]
	if !ok || r.URL.Path != "/static/"+name {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"`+version+`"`)
	if r.URL.Query().Get("v") == version {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeFileFS(w, r, staticFiles, "static/"+name)
}

package httpapi_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/csvrows"
	"github.com/postcard-mms/postcard/internal/picture"
)

// TestRulesAreDocumented finds the codes of violations in the sources: each is in the
// API's description, and each in the description is used.
func TestRulesAreDocumented(t *testing.T) {
	t.Parallel()
	_, body := readDocument(t)
	_, list, _ := strings.Cut(body, "**Rules of violations:**")
	list, _, _ = strings.Cut(list, "**Message statuses:**")
	documented := map[string]bool{}
	for _, match := range regexp.MustCompile("- `([a-z0-9_]+)`").FindAllStringSubmatch(list, -1) {
		documented[match[1]] = true
	}
	for _, code := range readCodes(t).Components.Schemas["Rule"].Enum {
		if !documented[code] {
			t.Errorf("the schema Rule has the code %q, which the introduction does not list", code)
		}
	}
	used := map[string]bool{csvrows.EncodingRule: true}
	for _, rule := range picture.Rules() {
		used[string(rule)] = true
	}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(source), "internal/invalid") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			for _, code := range codesIn(n) {
				if used[code] = true; !documented[code] {
					t.Errorf("%s uses the code %q, which the API's description does not list: see rules in internal/httpapi", path, code)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for code := range documented {
		if !used[code] {
			t.Errorf("the API's description lists the code %q, which nothing uses", code)
		}
	}
	if len(used) < 20 {
		t.Errorf("found %d codes, want at least 20", len(used))
	}
}

// codesIn returns the codes in violations.Add(name, code, message), invalidBody(code,
// message) and invalid.Field{Rule: code}.
func codesIn(n ast.Node) []string {
	var code ast.Expr
	switch n := n.(type) {
	case *ast.CallExpr:
		method, isMethod := n.Fun.(*ast.SelectorExpr)
		function, isFunction := n.Fun.(*ast.Ident)
		switch {
		case isMethod && method.Sel.Name == "Add" && len(n.Args) == 3:
			code = n.Args[1]
		case isFunction && function.Name == "invalidBody":
			code = n.Args[0]
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Rule" {
			code = n.Value
		}
	}
	literal, ok := code.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return nil
	}
	text, err := strconv.Unquote(literal.Value)
	if err != nil {
		return nil
	}
	return []string{text}
}

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logged is what the sources of this command log.
type logged struct {
	messages, fields []string
}

// fieldMethods are those of a log event whose first argument is a field's name.
var fieldMethods = []string{"Str", "Strs", "Int", "Int64", "Float64", "Dur", "Time", "Dict", "Bool", "Uint64"}

// readLogged collects messages and fields from the sources.
func readLogged(t *testing.T) (l logged) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, l.visit)
	}
	if len(l.messages) < 20 || len(l.fields) < 20 {
		t.Fatalf("%d messages and %d fields found; want all", len(l.messages), len(l.fields))
	}
	return l
}

func (l *logged) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt: // msg := "…", which a later Msg(msg) logs
		for i, left := range n.Lhs {
			if id, ok := left.(*ast.Ident); ok && id.Name == "msg" && len(n.Rhs) == len(n.Lhs) {
				l.messages = append(l.messages, literals(n.Rhs[i])...)
			}
		}
	case *ast.CallExpr:
		method, ok := n.Fun.(*ast.SelectorExpr)
		switch {
		case !ok || len(n.Args) == 0:
		case method.Sel.Name == "Msg":
			l.messages = append(l.messages, literals(n.Args[0])...)
		case slices.Contains(fieldMethods, method.Sel.Name) && len(n.Args) == 2:
			l.fields = append(l.fields, literals(n.Args[0])...)
		}
	}
	return true
}

// literals returns the texts in an expression.
func literals(e ast.Expr) (list []string) {
	ast.Inspect(e, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil && text != "" {
				list = append(list, text)
			}
		}
		return true
	})
	return list
}

// TestLogsAreDocumented: docs/logs.md has every message and every field.
func TestLogsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	doc, l := string(b), readLogged(t)
	for _, m := range l.messages {
		if !strings.Contains(doc, "\n| `"+m+"` |") {
			t.Errorf("docs/logs.md has no row for %q", m)
		}
	}
	for _, f := range l.fields {
		if !strings.Contains(doc, "`"+strings.TrimSuffix(f, "_")) {
			t.Errorf("docs/logs.md has no field %q", f)
		}
	}
	for row := range strings.Lines(doc) {
		cell, found := strings.CutPrefix(row, "| `")
		if m, _, _ := strings.Cut(cell, "` |"); found && !slices.Contains(l.messages, m) {
			t.Errorf("docs/logs.md has a row for %q, which nothing logs", m)
		}
	}
}

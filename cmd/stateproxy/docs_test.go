package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
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

// TestCommandsInDocs: every command line that the documents show names a
// subcommand and flags that exist.
func TestCommandsInDocs(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range append(files, "../../README.md", "../../SECURITY.md") {
		if filepath.Base(file) == "logs.md" { // its code is messages
			continue
		}
		for _, line := range commandLines(t, file) {
			found++
			if problem := checkCommand(line); problem != "" {
				t.Errorf("%s: stateproxy %s: %s", filepath.Base(file), line, problem)
			}
		}
	}
	if found < 40 {
		t.Errorf("%d command lines found; want all", found)
	}
}

var (
	codeSpan    = regexp.MustCompile("`([^`]+)`")
	commandLine = regexp.MustCompile(`(?:^\s*|[/\\])stateproxy(?:\.exe)?"? ([a-z]+\b[^#<>|()]*)`)
)

// commandLines returns what follows stateproxy in the code of a document.
func commandLines(t *testing.T, file string) (list []string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var code []string
		for _, m := range codeSpan.FindAllStringSubmatch(line, -1) {
			code = append(code, m[1])
		}
		if strings.HasPrefix(line, "    ") {
			code = append(code, line)
		}
		for _, c := range code {
			for _, m := range commandLine.FindAllStringSubmatch(c, -1) {
				list = append(list, strings.TrimSpace(m[1]))
			}
		}
	}
	return list
}

// checkCommand says what the program does not know of a command line.
func checkCommand(line string) string {
	words := strings.Fields(line)
	sub := words[:1]
	if words[0] == "ring" && len(words) > 1 {
		sub = words[:2]
	}
	status, out, errText := run(append(slices.Clone(sub), "-h")...)
	if status != exitOK {
		return "no such subcommand"
	}
	for _, word := range words {
		name, isFlag := strings.CutPrefix(strings.Replace(word, "--", "-", 1), "-")
		name, _, _ = strings.Cut(name, "=")
		if isFlag && name != "" && !strings.Contains(out+errText, "\n  -"+name) {
			return "no flag -" + name
		}
	}
	return ""
}

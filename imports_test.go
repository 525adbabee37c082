// Package stateproxy_test holds the tests of the whole: what may import what,
// and what every file must be like.
package stateproxy_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed is the import table of ARCHITECTURE.md: for each package what it may
// import beside the standard library, and why not more. A name that ends in /
// stands for all below it.
var allowed = map[string]struct {
	imports []string
	why     string
}{
	"wire":               {nil, "the codec serves client, proxy and server and knows none of them"},
	"ring":               {[]string{"github.com/cespare/xxhash/v2"}, "routing is a pure function; it knows no health, network or time"},
	"health":             {nil, "it turns probes into transitions and knows no protocol, ring or proxy"},
	"internal/sock":      {[]string{"golang.org/x/sys/"}, "it moves bytes and knows no protocol"},
	"internal/access":    {[]string{"github.com/pires/go-proxyproto"}, "it judges addresses and knows no protocol but that of the header"},
	"internal/backend":   {[]string{"stateproxy/wire", "stateproxy/internal/sock", "golang.org/x/sys/"}, "it talks to one backend and does not know which session goes where"},
	"proxy":              {[]string{"stateproxy/wire", "stateproxy/ring", "stateproxy/internal/access", "stateproxy/internal/backend", "stateproxy/internal/sock", "github.com/cespare/xxhash/v2"}, "it knows no YAML, flags, HTTP, metrics or log, nor how health is found"},
	"stateserver":        {[]string{"stateproxy/wire"}, "it must not know that a proxy exists"},
	"internal/farm":      {[]string{"stateproxy/wire"}, "it knows what a client knows"},
	"internal/config":    {[]string{"gopkg.in/yaml.v3", "github.com/fsnotify/fsnotify"}, "it does not know what the values are used for"},
	"internal/certtest":  {nil, "it makes certificates for tests, and only tests import it"},
	"internal/tlsfile":   {nil, "it reads certificates and does not know who shows them"},
	"internal/probe":     {[]string{"stateproxy/wire", "golang.org/x/sys/"}, "it is a client of its own, to find out what is wrong on the way to a server"},
	"internal/xray":      {[]string{"stateproxy/wire", "stateproxy/proxy"}, "it looks at outcomes and changes nothing"},
	"internal/logfile":   {nil, "it writes lines and does not know what they say"},
	"internal/systemd":   {[]string{"golang.org/x/sys/"}, "it speaks to systemd alone"},
	"internal/handover":  {nil, "it passes sockets and memory on and does not know what they are for"},
	"deploy":             {nil, "it holds files for others' tools, and tests of them"},
	"scripts/kubecheck":  {[]string{"gopkg.in/yaml.v3"}, "it checks manifests and knows nothing of what they start"},
	"scripts/pack":       {nil, "it packs releases and is part of none"},
	"internal/browser":   {[]string{"github.com/chromedp/"}, "it shows pages to tests and knows none of them"},
	"internal/statefile": {nil, "it keeps bytes and does not know what they mean"},
	"internal/admin":     {[]string{"stateproxy/wire", "stateproxy/proxy", "stateproxy/health", "stateproxy/internal/xray", "github.com/prometheus/"}, "it shows things and changes none"},
	"cmd/stateproxy":     {[]string{"stateproxy/", "github.com/rs/zerolog", "golang.org/x/"}, "only here all comes together"},
}

func TestImports(t *testing.T) {
	for _, goos := range []string{"linux", "windows"} {
		seen := map[string]bool{}
		for _, p := range list(t, goos) {
			name := strings.TrimPrefix(p.ImportPath, "stateproxy/")
			if name == "stateproxy" {
				continue // this test
			}
			rule, ok := allowed[name]
			if !ok {
				t.Errorf("%s: package %s is not in the import table: add it there and to ARCHITECTURE.md", goos, name)
				continue
			}
			seen[name] = true
			for _, path := range p.Imports {
				if !isStandard(path) && !permitted(rule.imports, path) {
					t.Errorf("%s: %s imports %s, which it must not: %s", goos, name, path, rule.why)
				}
			}
		}
		for name := range allowed {
			if !seen[name] {
				t.Errorf("%s: package %s of the import table is not there", goos, name)
			}
		}
	}
}

func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && first != "stateproxy"
}

func permitted(list []string, path string) bool {
	return slices.ContainsFunc(list, func(a string) bool {
		return path == a || strings.HasSuffix(a, "/") && strings.HasPrefix(path, a)
	})
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T, goos string) (all []goPackage) {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestFilesAreShort(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}\n{{end}}{{range .TestGoFiles}}{{$d}}/{{.}}\n{{end}}{{range .XTestGoFiles}}{{$d}}/{{.}}\n{{end}}", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	files := strings.Fields(string(out))
	if len(files) < 50 {
		t.Fatalf("go list found %d files; want all", len(files))
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "\n"); n > 500 {
			t.Errorf("%s has %d lines; want 500 or fewer", file, n)
		}
	}
}

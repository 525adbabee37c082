package admin

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAPIDocument holds that docs/api.md names each path, kind and code.
func TestAPIDocument(t *testing.T) {
	text := doc(t, "api.md")
	var want []string
	for _, r := range (&Admin{}).routes() {
		if action, ok := strings.CutPrefix(r.path, "/api/v1/actions/"); ok {
			want = append(want, "`"+action+"`")
		} else {
			want = append(want, r.path)
		}
	}
	for _, file := range []string{"event.go", "finding.go"} {
		for _, kind := range constants(t, file, "Kind") {
			want = append(want, "`"+kind+"`")
		}
	}
	for _, kind := range kinds {
		want = append(want, "`"+string(kind)+"`")
	}
	for _, code := range codes(t) {
		want = append(want, "`"+code+"`")
	}
	if len(want) < 50 {
		t.Fatalf("%d names found; want all", len(want))
	}
	for _, name := range want {
		if !strings.Contains(text, name) {
			t.Errorf("docs/api.md does not name %s", name)
		}
	}
}

// codes are those that requests are refused with.
func codes(t *testing.T) (list []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`refuse\(w, http\.Status\w+, "(\w+)"`)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(b), -1) {
			list = append(list, m[1])
		}
	}
	return list
}

//go:build unix

package config

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWatcherSymlinks changes a file as Kubernetes does it: the file is a link
// into a folder that is itself a link, and only the latter is replaced.
func TestWatcherSymlinks(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "config.yaml")
	publish := func(version, data string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(folder, version), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(folder, version, "config.yaml"), data)
		link := filepath.Join(folder, "..data_tmp")
		if err := os.Symlink(version, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(folder, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	publish("..1", "first")
	if err := os.Symlink(filepath.Join("..data", "config.yaml"), file); err != nil {
		t.Fatal(err)
	}

	r := startEvents(t, file, "")
	r.wantChange(t, "first")
	publish("..2", "second")
	r.wantChange(t, "second")
	if err := os.RemoveAll(filepath.Join(folder, "..1")); err != nil {
		t.Fatal(err)
	}
	publish("..3", "third")
	r.wantChange(t, "third")
	r.wantQuiet(t)
}

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files of the repository that go into every archive, and into those of one
// system. A name that ends in / takes all files below it.
var (
	always   = []string{"README.md", "CHANGELOG.md", "SECURITY.md", "config.example.yaml", "docs/", "deploy/grafana/", "deploy/prometheus/"}
	bySystem = map[string][]string{
		"linux":   {"deploy/systemd/", "deploy/kubernetes/"},
		"windows": {"deploy/windows/"},
	}
	// The project's own licence, if its owner has put one there.
	ownLicence = []string{"LICENSE", "LICENSE.md", "LICENSE.txt"}
)

// entries returns the repository's files for the archive of one system.
func (r *release) entries(goos string) (all []entry, err error) {
	for _, name := range append(append([]string{}, always...), bySystem[goos]...) {
		found, err := r.read(name)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	for _, name := range ownLicence {
		found, err := r.read(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// read returns the file, or the files below the folder.
func (r *release) read(name string) (all []entry, err error) {
	err = filepath.WalkDir(filepath.Join(r.root, name), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		short, err := filepath.Rel(r.root, path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(short, "_test.go") {
			return nil
		}
		all = append(all, entry{name: filepath.ToSlash(short), data: data})
		return nil
	})
	return all, err
}

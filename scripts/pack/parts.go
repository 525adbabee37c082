package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// mainPackage is what the binaries are built from.
const mainPackage = "./cmd/stateproxy"

// parts is what a binary is made of.
type parts struct {
	binary    []byte
	goVersion string // such as go1.26.8
	modules   []module
	licences  []entry // of the modules and of Go, below licences/
}

// module is one that has code in the binary. The standard library is one too,
// with the path std.
type module struct {
	path, version string
	sum           string // as in go.sum
	licence       string // SPDX expression
}

// readParts reads the binary and collects the licences of what is in it. The
// binary names its modules; the go command knows which of their folders were
// built for the platform, so that a licence below a module's root counts when
// the code beside it does.
func readParts(root, binary, goos, goarch string) (*parts, error) {
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	folders, err := builtFolders(root, goos, goarch)
	if err != nil {
		return nil, err
	}
	p := &parts{binary: data, goVersion: info.GoVersion}
	goRoot, err := goCommand(root, nil, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	goFolder := moduleFolders{root: goRoot, built: []string{goRoot}}
	if err := p.add(module{path: "std", version: strings.TrimPrefix(info.GoVersion, "go")}, goFolder); err != nil {
		return nil, err
	}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		if err := p.add(module{path: dep.Path, version: dep.Version, sum: dep.Sum}, folders[dep.Path]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// add adds a module and its licences. A module without one, or with one that is
// not known here, is an error: someone must look at it before it is shipped.
func (p *parts) add(m module, f moduleFolders) error {
	files, err := f.licences()
	if err != nil {
		return fmt.Errorf("licence of %s: %w", m.path, err)
	}
	var kinds []string
	for _, file := range files {
		kinds = append(kinds, identify(string(file.data))...)
		file.name = path.Join("licences", m.path, file.name)
		p.licences = append(p.licences, file)
	}
	if len(kinds) == 0 {
		return fmt.Errorf("licence of %s %s: none found that is known, in %d files", m.path, m.version, len(files))
	}
	slices.Sort(kinds)
	m.licence = strings.Join(slices.Compact(kinds), " AND ")
	p.modules = append(p.modules, m)
	return nil
}

// moduleFolders is where a module is kept, and its folders that were built.
type moduleFolders struct {
	root  string
	built []string
}

// licences returns the licence files from the folders that were built up to the
// root, with names relative to the root.
func (f moduleFolders) licences() (files []entry, err error) {
	if f.root == "" {
		return nil, fmt.Errorf("the go command does not name it as a part of %s", mainPackage)
	}
	seen := map[string]bool{}
	for _, folder := range f.built {
		for !seen[folder] {
			seen[folder] = true
			found, err := licencesIn(f.root, folder)
			if err != nil {
				return nil, err
			}
			files = append(files, found...)
			if folder != f.root {
				folder = filepath.Dir(folder)
			}
		}
	}
	return files, nil
}

func licencesIn(root, folder string) (files []entry, err error) {
	list, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		if !d.Type().IsRegular() || !isLicence(d.Name()) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(folder, d.Name()))
		if err != nil {
			return nil, err
		}
		name, err := filepath.Rel(root, filepath.Join(folder, d.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, entry{name: filepath.ToSlash(name), data: data})
	}
	return files, nil
}

// builtFolders returns by module path what the binary was built from.
func builtFolders(root, goos, goarch string) (map[string]moduleFolders, error) {
	out, err := goCommand(root, []string{"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0"},
		"list", "-deps", "-f", "{{with .Module}}{{.Path}}\t{{.Dir}}\t{{$.Dir}}{{end}}", mainPackage)
	if err != nil {
		return nil, err
	}
	folders := map[string]moduleFolders{}
	for line := range strings.Lines(out) {
		part := strings.Split(strings.TrimSpace(line), "\t")
		if len(part) != 3 {
			continue // of the standard library
		}
		f := folders[part[0]]
		f.root, f.built = part[1], append(f.built, part[2])
		folders[part[0]] = f
	}
	return folders, nil
}

// goCommand runs the go command in folder, with env beside the environment.
func goCommand(folder string, env []string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr, cmd.Env = folder, os.Stderr, append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

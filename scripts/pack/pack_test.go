package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestIdentify(t *testing.T) {
	const bsd = "Redistribution and use in source and binary\nforms, with or without modification, are permitted"
	tests := []struct {
		name, text string
		want       []string
	}{
		{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy of this software, to deal\n in the Software without restriction", []string{"MIT"}},
		{"Apache", "   Apache License\n  Version 2.0, January 2004", []string{"Apache-2.0"}},
		{"BSD with three clauses", bsd + " … Neither the name of", []string{"BSD-3-Clause"}},
		{"BSD with two clauses", bsd, []string{"BSD-2-Clause"}},
		{"two in one file", "Apache License Version 2.0, January 2004 " + bsd + " neither the name", []string{"Apache-2.0", "BSD-3-Clause"}},
		{"Apache by reference", "Licensed under the Apache License, Version 2.0 (the \"License\")", []string{"Apache-2.0"}},
		{"GPL", "GNU GENERAL PUBLIC LICENSE Version 3", nil},
		{"half a phrase", "Permission is hereby granted, free of charge", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := identify(tt.text); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("identify(%q) = %v; want %v", tt.text, got, tt.want)
			}
		})
	}
}

func TestIsLicence(t *testing.T) {
	for name, want := range map[string]bool{
		"LICENSE": true, "license.txt": true, "Licence.md": true, "COPYING": true, "NOTICE": true, "PATENTS": true,
		"README.md": false, "license.go": false, "relicense.txt": false,
	} {
		if got := isLicence(name); got != want {
			t.Errorf("isLicence(%q) = %v; want %v", name, got, want)
		}
	}
}

// TestAddRefuses holds that nothing is shipped whose licence nobody has read.
func TestAddRefuses(t *testing.T) {
	tests := []struct {
		name, file, text string
	}{
		{"no licence", "README.md", "MIT"},
		{"unknown licence", "LICENSE", "All rights reserved"},
		{"a notice alone", "NOTICE", "This product includes software"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.WriteFile(filepath.Join(folder, tt.file), []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			var p parts
			err := p.add(module{path: "example.com/m", version: "v1.0.0"}, moduleFolders{root: folder, built: []string{folder}})
			if err == nil || !strings.Contains(err.Error(), "example.com/m v1.0.0") {
				t.Errorf("add = %v; want an error that names the module", err)
			}
		})
	}
}

func TestUUID(t *testing.T) {
	if got, want := uuid(sha256.Sum256(nil)), "e3b0c442-98fc-8c14-9afb-f4c8996fb924"; got != want {
		t.Errorf("uuid(sum of nothing) = %s; want %s", got, want)
	}
}

func TestPURL(t *testing.T) {
	if got, want := purl("gopkg.in/yaml.v3", "v3.0.1+incompatible"), "pkg:golang/gopkg.in/yaml.v3@v3.0.1%2Bincompatible"; got != want {
		t.Errorf("purl = %s; want %s", got, want)
	}
}

// TestPack has the command pack the real binary twice and looks into the archives.
func TestPack(t *testing.T) {
	builds := t.TempDir()
	for _, goos := range []string{"linux", "windows"} {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(builds, goos+"-"+runtime.GOARCH, binaryName(goos)), mainPackage)
		cmd.Dir, cmd.Env = "../..", append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	out := packed(t, builds)
	sums := readFile(t, filepath.Join(out, "SHA256SUMS"))
	if second := readFile(t, filepath.Join(packed(t, builds), "SHA256SUMS")); !bytes.Equal(sums, second) {
		t.Errorf("packed twice:\n%s\nand\n%s; want the same", sums, second)
	}
	name := "stateproxy_v9.8.7_linux_" + runtime.GOARCH
	binary := readFile(t, filepath.Join(builds, "linux-"+runtime.GOARCH, "stateproxy"))
	checkArchive(t, name, untar(t, readFile(t, filepath.Join(out, name+".tar.gz"))), "stateproxy", binary, "deploy/systemd/stateproxy.service")
	checkBill(t, readFile(t, filepath.Join(out, name+".cdx.json")), binary)
	name = "stateproxy_v9.8.7_windows_" + runtime.GOARCH
	binary = readFile(t, filepath.Join(builds, "windows-"+runtime.GOARCH, "stateproxy.exe"))
	checkArchive(t, name, unzip(t, readFile(t, filepath.Join(out, name+".zip"))), "stateproxy.exe", binary, "deploy/windows/install.cmd")
	checkBill(t, readFile(t, filepath.Join(out, name+".cdx.json")), binary)
	if got := strings.Count(string(sums), "\n"); got != 4 {
		t.Errorf("SHA256SUMS has %d lines; want 4\n%s", got, sums)
	}
}

// packed runs the command on the builds and returns the folder with what it made.
func packed(t *testing.T, builds string) string {
	t.Helper()
	out := t.TempDir()
	cmd := exec.Command("go", "run", "./scripts/pack", "-version", "v9.8.7", "-commit", "c0ffee", "-time", "1795569009", "-builds", builds, "-out", out)
	cmd.Dir = "../.."
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pack: %v\n%s", err, text)
	}
	return out
}

func TestPackRefuses(t *testing.T) {
	good := release{version: "v1", commit: "c0ffee", time: time.Unix(1, 0), root: "../.."}
	noVersion, noTime := good, good
	noVersion.version, noTime.time = "", time.Unix(0, 0)
	odd := t.TempDir()
	if err := os.Mkdir(filepath.Join(odd, "linux"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		r      release
		builds string
		want   string
	}{
		{"no version", noVersion, odd, "want -version"},
		{"no time", noTime, odd, "want -version, -commit and -time"},
		{"nothing built", good, t.TempDir(), "no platform"},
		{"folder of another name", good, odd, "named like linux-amd64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.r.out = t.TempDir()
			if err := tt.r.pack(tt.builds); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("pack = %v; want %q", err, tt.want)
			}
		})
	}
}

// file is what an archive says of a file.
type file struct {
	name string
	data []byte
	mode os.FileMode
	time int64
}

func checkArchive(t *testing.T, folder string, files []file, binary string, content []byte, own string) {
	t.Helper()
	want := map[string]bool{}
	for _, name := range []string{binary, own, "README.md", "CHANGELOG.md", "SECURITY.md", "config.example.yaml", "sbom.cdx.json",
		"licences/std/LICENSE", "licences/gopkg.in/yaml.v3/LICENSE", "licences/github.com/rs/zerolog/LICENSE"} {
		want[folder+"/"+name] = true
	}
	var names []string
	for _, f := range files {
		names = append(names, f.name)
		delete(want, f.name)
		mode := os.FileMode(0o644)
		if f.name == folder+"/"+binary {
			mode = 0o755
			if !bytes.Equal(f.data, content) {
				t.Errorf("%s: %s is not what was built", folder, f.name)
			}
		}
		if f.mode != mode || f.time != 1795569009 || len(f.data) == 0 {
			t.Errorf("%s has mode %v, time %d, %d bytes; want %v, 1795569009, some", f.name, f.mode, f.time, len(f.data), mode)
		}
	}
	if len(want) > 0 {
		t.Errorf("%s lacks %v", folder, want)
	}
	if !slices.IsSorted(names) {
		t.Errorf("%s holds %v; want them sorted", folder, names)
	}
}

func checkBill(t *testing.T, text, binary []byte) {
	t.Helper()
	var b bomFile
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	if got, want := b.Metadata.Component.Hashes[0].Content, fmt.Sprintf("%x", sha256.Sum256(binary)); got != want {
		t.Errorf("bill names a binary with sum %s; want %s", got, want)
	}
	found := map[string]string{}
	for _, c := range b.Components {
		found[c.Name] = c.Licenses[0].Expression
		if c.Name != "std" && !strings.HasPrefix(c.Properties[0].Value, "h1:") {
			t.Errorf("%s has sum %q; want h1:…", c.Name, c.Properties[0].Value)
		}
	}
	if got := found["github.com/rs/zerolog"]; got != "MIT" {
		t.Errorf("licence of zerolog = %q; want MIT", got)
	}
	if got := found["gopkg.in/yaml.v3"]; got != "Apache-2.0 AND MIT" {
		t.Errorf("licences of yaml = %q; want Apache-2.0 AND MIT", got)
	}
	if found["std"] != "BSD-3-Clause" || found["pgregory.net/rapid"] != "" {
		t.Errorf("bill holds %v; want std and no module that only tests use", found)
	}
	if got, want := len(b.Dependencies), len(b.Components)+1; got != want {
		t.Errorf("bill has %d dependencies; want %d", got, want)
	}
}

func untar(t *testing.T, data []byte) (files []file) {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "root" {
			t.Errorf("%s belongs to %d:%d %s; want root", h.Name, h.Uid, h.Gid, h.Uname)
		}
		files = append(files, file{h.Name, content, h.FileInfo().Mode(), h.ModTime.Unix()})
	}
}

func unzip(t *testing.T, data []byte) (files []file) {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.File {
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(rc)
		rc.Close()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file{f.Name, content, f.Mode(), f.Modified.Unix()})
	}
	return files
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
